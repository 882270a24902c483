"""The quick cases under pytest-benchmark: `pytest benchmarks`.

The answers are checked first, as in `medkern bench`: a contender that is wrong fails if it is ours
and is skipped otherwise. Here contenders run one after the other in a plain process; ratios to be
quoted come from `medkern bench`, which interleaves them and sets the heap and the wait policy.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from medkern.benchmarks.device import Device
from medkern.benchmarks.measure import (
    PASSES,
    Expected,
    Trial,
    backward_call,
    forward_call,
    tracked,
)
from medkern.benchmarks.registry import Case, load_cases, select


def parameters() -> Iterator[Any]:
    for case in select(load_cases(), quick=True):
        for pass_name in PASSES if case.backward else PASSES[:1]:
            peers = [name for name, peer in case.peers.items() if peer.backward]
            if pass_name == PASSES[0]:
                peers = list(case.peers)
            for contender in ("native", "reference", *peers):
                yield pytest.param(
                    case, pass_name, contender, id=f"{case.name}-{pass_name}-{contender}"
                )


@pytest.mark.parametrize(("case", "pass_name", "contender"), [*parameters()])
def test_speed(benchmark: Any, case: Case, pass_name: str, contender: str) -> None:
    backward = pass_name == PASSES[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            inputs = case.inputs()
        except (ImportError, FileNotFoundError) as reason:
            pytest.skip(str(reason))
        trial = Trial(case, inputs, Expected.of(case, inputs), Device(), backward=backward)
        one = next(found for found in trial.contenders(compiled=False) if found.name == contender)
        trial.check(one)
        if one.status != "ok":
            (pytest.fail if one.role == "ours" else pytest.skip)(f"{one.status}: {one.detail}")
        benchmark.group = f"{case.name} {pass_name}"
        benchmark.extra_info.update(error=one.error, version=one.version)
        if backward:
            with tracked(case, inputs) as (values, leaves):
                benchmark(backward_call(one, values, leaves))
        else:
            benchmark(forward_call(one, inputs))
