"""Every test sees uninitialised memory as NaN, fixed seeds and a fresh compiler cache."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from pathlib import Path

# Compiled code must be told before torch starts; spinning threads disturb each other on few cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

import medkern  # noqa: F401  (registers the ops)

pytest.register_assert_rewrite("triton_harness")


@pytest.fixture(autouse=True)
def _uninitialised_memory_is_nan():
    """Unwritten output shows: torch fills empty tensors with NaN (integers: the maximum)."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def verifies(record_property):
    """Count this test's outcome as evidence that `op` works in a way that the docs tabulate."""

    def record(op: str, column: str) -> None:
        record_property("verifies", (op, column))

    return record


@pytest.fixture
def merge_evidence():
    """Add the evidence of a test process that this one started."""

    def merge(path: Path) -> None:
        for op, columns in json.loads(path.read_text()).items():
            for column, outcomes in columns.items():
                _evidence[op][column].update(outcomes)

    return merge


_evidence: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--verification",
        type=Path,
        help="write the evidence per op as JSON: docs/verification.json",
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        for key, value in report.user_properties:
            if key == "verifies":
                op, column = value
                _evidence[op][column][report.outcome] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--verification")
    if path is not None:
        path.write_text(json.dumps(_evidence, indent=1, sort_keys=True) + "\n")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Acceptance tests train for minutes: they run where their path is given (make acceptance)."""
    asked_for = any("acceptance" in argument for argument in config.args)
    return True if collection_path.name == "acceptance" and not asked_for else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="module")
def own_triton_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.fixture
def patches_once(monkeypatch):
    """For launches of the Triton interpreter that the harness's `Memory` does not watch."""
    from triton.runtime import interpreter
    from triton_harness import PatchOnce

    monkeypatch.setattr(interpreter, "_patch_lang", PatchOnce(interpreter._patch_lang))
