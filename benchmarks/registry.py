"""What a benchmark case is, and where the cases come from.

Every `cases_<family>.py` beside this file defines `cases()`, which yields `Case` objects. Nothing
heavy happens until a case is measured: inputs, our op and the peers are all made by callables.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["cpu", "cuda"]
Bound = Literal["copy", "read"]
EVERYWHERE: tuple[Kind, ...] = ("cpu", "cuda")


class UnknownOp(ValueError):
    """An op was asked for that has no case."""


def same(value: Any) -> Any:
    """The `adapt` of a peer that already answers in our layout."""
    return value


@dataclass(frozen=True)
class Peer:
    """Another way to compute a case: a library, or a cleverer use of PyTorch itself.

    `make` imports what it needs and returns the callable that is timed. `adapt` brings its result
    to the layout of our op for the error check, in differentiable torch operations, and is not
    timed. `package` is the distribution whose version is reported; None means torch itself. Tensors
    that `make` creates are on the device of the run. An `approximate` peer does not claim the exact
    answer: it is timed whatever its error, which is reported beside its name.
    """

    make: Callable[[], Callable[..., Any]]
    package: str | None = None
    adapt: Callable[[Any], Any] = same
    backward: bool = True
    devices: tuple[Kind, ...] = EVERYWHERE
    approximate: bool = False


@dataclass(frozen=True)
class Case:
    """One op at one size.

    `native` and `reference` take the values of `inputs()`, moved from the CPU to the device, and
    return a tensor or a (nested) sequence of tensors. The oracle is `oracle`, or else `reference`,
    on float64 copies of the inputs on the CPU; its autograd gives the expected gradients. There may
    be an oracle and no reference, where that would take minutes.
    `tolerance` bounds max |y - oracle| / max |oracle| of every output, `tolerance_backward` that of
    every gradient.

    `bytes_moved` and `flops` are the least work of the forward pass; the `*_backward` fields are
    the least work of the backward pass alone. `compile` is False where torch.compile cannot help
    the reference, whose loops depend on data. `memory` asks for the peak memory on a CPU too, where
    that takes a slow call more. `bound` names the measured bandwidth the forward
    pass is held against: "read" where the output is much smaller than the input.
    """

    op: str
    name: str
    inputs: Callable[[], tuple[Any, ...]]
    native: Callable[..., Any]
    reference: Callable[..., Any] | None
    tolerance: float
    oracle: Callable[..., Any] | None = None
    peers: dict[str, Peer] = field(default_factory=dict)
    backward: bool = True
    tolerance_backward: float | None = None
    differentiable: tuple[int, ...] | None = None
    bytes_moved: int = 0
    bytes_backward: int = 0
    flops: int = 0
    flops_backward: int = 0
    bound: Bound = "copy"
    quick: bool = False
    compile: bool = True
    memory: bool = False
    devices: tuple[Kind, ...] = EVERYWHERE

    def __post_init__(self) -> None:
        if not self.name.startswith(f"{self.op}/"):
            raise ValueError(f"Case: name must start with {self.op + '/'!r}, got {self.name!r}")
        if not self.tolerance > 0:
            raise ValueError(f"Case {self.name}: tolerance must be positive, got {self.tolerance}")
        if self.oracle is None and self.reference is None:
            raise ValueError(f"Case {self.name}: oracle must be given where reference is not")

    @property
    def label(self) -> str:
        """The name without the op."""
        return self.name.removeprefix(f"{self.op}/")


def load_cases() -> list[Case]:
    """All cases of all `cases_*.py` in this folder."""
    found: list[Case] = []
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        module = importlib.import_module(f"medkern.benchmarks.{path.stem}")
        found.extend(module.cases())
    check_unique(found)
    return found


def check_unique(cases: Iterable[Case]) -> None:
    """Raise when two cases share a name: files are compared by name."""
    seen: set[str] = set()
    for case in cases:
        if case.name in seen:
            raise ValueError(f"two benchmark cases are named {case.name!r}; names must be unique")
        seen.add(case.name)


def op_names(cases: Iterable[Case]) -> list[str]:
    """The ops that have a case, in order of first appearance."""
    return list(dict.fromkeys(case.op for case in cases))


def select(
    cases: Sequence[Case],
    *,
    ops: Sequence[str] = (),
    substring: str = "",
    quick: bool = False,
    kind: Kind = "cpu",
) -> list[Case]:
    """The device's cases of the named ops (all if none is named) with `substring` in the name."""
    known = op_names(cases)
    unknown = [op for op in ops if op not in known]
    if unknown:
        raise UnknownOp(f"no benchmark case for op {unknown[0]!r}; known ops: {', '.join(known)}")
    return [
        case
        for case in cases
        if kind in case.devices
        and (not ops or case.op in ops)
        and substring in case.name
        and (case.quick or not quick)
    ]
