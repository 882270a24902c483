"""Which implementation of an op runs: `native`, `triton` or `reference`.

Without a choice, the op goes to torch's dispatcher: the native kernel where the compiled library
has one for the device, else the reference, which is the op's definition in plain PyTorch.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medkern import _library

if TYPE_CHECKING:
    from medkern._registry import Op

BACKENDS = ("native", "triton", "reference")
_log = logging.getLogger("medkern")


def _check(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(
            f"{source} must be one of {', '.join(BACKENDS)}, got {name!r}; "
            "leave it unset to let medkern choose"
        )
    return name


@functools.cache
def native(device: str = "cpu") -> _library.Library:
    """The compiled library for a kind of device; loaded on first use."""
    if device == "cpu":
        return _library.load_native()
    if device == "cuda":
        return _library.load_cuda()
    return _library.Library("none", None, f"there are no kernels for {device}")


class _Forced:
    """The backend that `use_backend` or MEDKERN_BACKEND forces on every call, if any."""

    name: str | None = None


if os.environ.get("MEDKERN_BACKEND"):
    _Forced.name = _check(os.environ["MEDKERN_BACKEND"], "medkern: MEDKERN_BACKEND")


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every op inside the block on one backend; an op that cannot, raises.

    The choice holds for the whole process, not for one thread.

    >>> import torch, medkern as mk
    >>> with mk.use_backend("reference"):
    ...     y = mk.haar_pool(torch.ones(1, 1, 2, 2), "ll")
    >>> round(y.item(), 5)
    2.0
    """
    before = _Forced.name
    _Forced.name = _check(name, "medkern.use_backend: name")
    try:
        yield
    finally:
        _Forced.name = before


def _device(array: object) -> str | None:
    """Kind of device that an array of any library is on; None for what is no array."""
    if isinstance(array, Tensor):
        return array.device.type
    if hasattr(array, "__dlpack_device__"):
        return "cpu" if array.__dlpack_device__()[0] == 1 else "cuda"
    return None


def why_not(op: Op, backend: str, args: tuple[Any, ...]) -> str | None:
    """Why `backend` cannot run `op` on these arguments; None where it can."""
    if backend == "reference":
        return None
    if backend == "triton":
        return _why_not_triton(op, args)
    device = next((kind for a in args if (kind := _device(a)) is not None), "cpu")
    return native(device).reason


def _why_not_triton(op: Op, args: tuple[Any, ...]) -> str | None:
    if op.spec.triton is None:
        return "this op has no Triton kernel"
    module = importlib.import_module(op.spec.triton.split(":")[0])
    reason: str | None = module.why_not(*args)
    return reason


def choose(op: Op, args: tuple[Any, ...], backend: str | None) -> str:
    """The backend for a call: the caller's, else the forced one, else the dispatcher's."""
    name = backend if backend is not None else _Forced.name
    if name is None:
        on_cuda = len(args) > 0 and isinstance(args[0], Tensor) and args[0].is_cuda
        return _Choice.on_cuda if on_cuda and op.triton is not None else "dispatcher"
    _check(name, f"medkern.{op.spec.name}: backend")
    reason = None if name == "reference" else why_not(op, name, args)
    if reason is not None:
        raise RuntimeError(
            f"medkern.{op.spec.name}: backend must be able to run here, got {name!r}; {reason}"
        )
    return name


@dataclass(frozen=True)
class Explanation:
    """What `explain` found: the backend that runs and, for each other one, why it would not."""

    op: str
    runs: str
    reasons: dict[str, str]

    def __str__(self) -> str:
        lines = [f"medkern.{self.op} runs on: {self.runs}"]
        lines += [f"  {name}: {reason}" for name, reason in self.reasons.items()]
        return "\n".join(lines)


# Functions of several ops, and those that choose a method, explain themselves.
EXPLAIN: dict[str, Callable[..., Explanation]] = {}


def explain(op: str, *args: Any) -> Explanation:
    """Say which backend would run `op` on these tensors, and why each other one would not.

    Args:
        op: name of an op, for example `"haar_pool"`.
        args: the arguments of the call; only tensors matter, but for `"spectral_conv"`, which
            takes all to tell the method too.

    Raises:
        ValueError: there is no op of that name.

    >>> import torch, medkern as mk
    >>> mk.explain("haar_pool", torch.ones(1, 1, 2, 2)).reasons["triton"]
    'native comes first'
    """
    from medkern._registry import OPS

    if op in EXPLAIN:
        return EXPLAIN[op](*args)
    if op not in OPS:
        names = ", ".join(name for name, entry in OPS.items() if entry.spec.public)
        raise ValueError(f"medkern.explain: op must be one of {names}, got {op!r}")
    reasons: dict[str, str] = {}
    if _Forced.name is not None:
        reasons = {b: f"{_Forced.name} is forced" for b in BACKENDS if b != _Forced.name}
    for name in (_Forced.name,) if _Forced.name else BACKENDS:
        reason = why_not(OPS[op], name, args)
        if reason is None:
            later = dict.fromkeys(BACKENDS[BACKENDS.index(name) + 1 :], f"{name} comes first")
            return Explanation(op, name, later | reasons)
        reasons[name] = reason
    return Explanation(op, "none", reasons)


class _Choice:
    """What runs on CUDA tensors unless told otherwise: the dispatcher's kernel, or Triton's."""

    on_cuda = "dispatcher"


def prefers_triton() -> bool:
    """Whether CUDA tensors go to Triton, as there is no native library for them."""
    return _Choice.on_cuda == "triton"


def _triton_runs() -> bool:
    from medkern._registry import OPS

    op = next(op for op in OPS.values() if op.spec.triton is not None)
    return why_not(op, "triton", ()) is None


def load_libraries() -> None:
    """Load the kernels of every device, and say once where the references run instead."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        reason = native(device).reason
        if reason is not None and device == "cuda" and _triton_runs():
            _Choice.on_cuda = "triton"
        elif reason is not None:
            _log.warning("medkern: the references run on %s tensors: %s", device, reason)
