"""What the tests of Triton kernels share: the interpreter under watch, and compiling ahead of time.

The interpreter has to be chosen before Triton is imported, so the `test_in_the_interpreter` of each
file runs that file again in a process of its own, where the tests marked `interpreted` are
collected. The interpreter follows raw pointers and runs one program after the other; `Memory`
supplies what that hides: every load must hit an element of an input, and every element of the
output must be stored exactly once.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from medkern._registry import OPS

ROOT = Path(__file__).parent.parent
INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
has_triton = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not has_triton, reason="Triton is not installed")
interpreted = pytest.mark.skipif(not INTERPRETING, reason="run by test_in_the_interpreter")
outside = pytest.mark.skipif(INTERPRETING, reason="it starts the interpreter")
ahead = pytest.mark.skipif(
    INTERPRETING or not has_triton, reason="Triton is not installed, or interprets"
)

CAUGHT = "loads from outside|stores outside|stored twice|never stored|not close"

# Against the reference computed in float64, relative to the largest value. The interpreter rounds
# to bfloat16 towards zero.
TOLERANCE = {
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
    torch.float32: 2e-6,
    torch.float64: 1e-14,
}


def kernels(name: str) -> Any:
    """medkern.kernels.<name>, also where the installed medkern does not hold the kernels."""
    if "medkern.kernels" not in sys.modules and importlib.util.find_spec("medkern.kernels") is None:
        package = types.ModuleType("medkern.kernels")
        package.__path__ = [str(ROOT / "kernels")]
        sys.modules["medkern.kernels"] = package
    return importlib.import_module(f"medkern.kernels.{name}")


def source_of(name: str) -> str:
    return (ROOT / "kernels" / f"{name}.py").read_text()


def load_source(source: str, folder: Path, name: str = "medkern_variant") -> Any:
    """A module made of `source`; on disk, as Triton reads the source of its kernels."""
    kernels("_compile")
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_broken(name: str, mutant: tuple[str, str], folder: Path) -> Any:
    """Kernels in which a part of the source is replaced."""
    source = source_of(name)
    assert mutant[0] in source
    return load_source(source.replace(*mutant), folder)


def canary(dtype: torch.dtype) -> float | int:
    return float("nan") if dtype.is_floating_point else torch.iinfo(dtype).max


def addresses(t: Tensor) -> np.ndarray:
    """The address of every element, sorted."""
    offsets = np.zeros((), np.int64)
    for n, stride in zip(t.shape, t.stride(), strict=True):
        offsets = offsets[..., None] + np.arange(n) * stride
    return np.unique(offsets.ravel() * t.element_size() + t.data_ptr()).astype(np.uint64)


def among(at: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which addresses are among the sorted `known`; np.isin would sort these on every access."""
    if len(known) == 0:
        return np.zeros(at.shape, bool)
    return known[np.searchsorted(known, at).clip(max=len(known) - 1)] == at


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def surrounded(t: Tensor) -> Tensor:
    """A copy with the same strides whose gaps and surroundings are canaries."""
    margin = 64
    extent = 1 + sum((n - 1) * stride for n, stride in zip(t.shape, t.stride(), strict=True))
    buffer = torch.full((max(extent, 0) + 2 * margin,), canary(t.dtype), dtype=t.dtype)
    view = buffer.as_strided(t.shape, t.stride(), margin)
    target, source = view, t
    for axis, stride in enumerate(t.stride()):
        if stride == 0 and t.shape[axis]:
            target, source = target.narrow(axis, 0, 1), source.narrow(axis, 0, 1)
    target.copy_(source)
    return view


def in_wider_rows(t: Tensor) -> Tensor:
    """A copy inside a larger image of canaries, with odd strides."""
    larger = torch.full([n + 3 for n in t.shape], canary(t.dtype), dtype=t.dtype)
    inside = larger[tuple(slice(1, n + 1) for n in t.shape)]
    return inside.copy_(t)


class Memory:
    """Watches every load and store of the interpreter.

    Tensors that `new_empty` allocates meanwhile are surrounded by canaries; each of their elements
    must be stored once, by one program, and nothing else may be stored. What a launch has stored,
    later ones may read.
    """

    def __init__(self, inputs: list[Tensor], patch: pytest.MonkeyPatch) -> None:
        from triton.runtime import interpreter

        self.readable = np.unique(np.concatenate([addresses(t) for t in inputs]))
        self.writable = np.empty(0, np.uint64)
        self.stored: list[np.ndarray] = []
        self.buffers: list[tuple[Tensor, Tensor]] = []
        self._interpreter = interpreter._interpreter
        patch.setattr(interpreter, "_interpreter", self)
        patch.setattr(interpreter, "_patch_lang", PatchOnce(interpreter._patch_lang))
        new_empty = torch.Tensor.new_empty

        def new_surrounded(like: Tensor, *size: Any, **options: Any) -> Tensor:
            t = new_empty(like, *size, **options)
            if t.numel() == 0:
                return t
            t = surrounded(t.fill_(canary(t.dtype)))
            self.writable = np.union1d(self.writable, addresses(t))
            self.buffers.append((t, t.new_tensor([]).set_(t.untyped_storage())))
            return t

        patch.setattr(torch.Tensor, "new_empty", new_surrounded)
        contiguous = torch.Tensor.contiguous

        def readable_copy(t: Tensor, **options: Any) -> Tensor:
            copy = contiguous(t, **options)
            self.readable = np.union1d(self.readable, addresses(copy))
            return copy

        patch.setattr(torch.Tensor, "contiguous", readable_copy)
        launch = interpreter.GridExecutor.__call__

        def launch_and_open(executor: Any, *args: Any, **options: Any) -> None:
            launch(executor, *args, **options)
            self.readable = np.unique(np.concatenate([self.readable, *self.stored]))

        patch.setattr(interpreter.GridExecutor, "__call__", launch_and_open)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interpreter, name)

    def load(self, at: np.ndarray, mask: np.ndarray, other: np.ndarray, dtype: Any) -> Any:
        wrong = ~among(at[mask], self.readable)
        assert not wrong.any(), f"{wrong.sum()} loads from outside the inputs"
        return self._interpreter.load(at, mask, other, dtype)

    def store(self, at: np.ndarray, value: np.ndarray, mask: np.ndarray) -> Any:
        wrong = ~among(at[mask], self.writable)
        assert not wrong.any(), f"{wrong.sum()} stores outside the output"
        self.stored.append(at[mask])
        return self._interpreter.store(at, value, mask)

    def check(self) -> None:
        stored = np.concatenate([np.empty(0, np.uint64), *self.stored])
        assert len(np.unique(stored)) == len(stored), "an element was stored twice"
        assert len(stored) == len(self.writable), "an element was never stored"


def loop_bounds_from_arrays() -> None:
    """Let kernels loop up to an argument: Triton 3.6 makes an array of one element its bound, which
    NumPy no longer takes for a number."""
    from triton.runtime import interpreter

    patch_tensor = interpreter._patch_lang_tensor

    def patch(tensor: Any, scope: Any) -> None:
        patch_tensor(tensor, scope)
        tensor.__index__ = lambda self: self.handle.data.item()

    interpreter._patch_lang_tensor = patch


if INTERPRETING and has_triton:
    loop_bounds_from_arrays()


class PatchOnce:
    """Triton patches its language again in every nested call, at half of the whole run's cost."""

    def __init__(self, patch_language: Any) -> None:
        self.patch_language = patch_language
        self.scopes: dict[int, Any] = {}
        self.outermost: Any = None

    def __call__(self, function: Any) -> Any:
        scope = types.SimpleNamespace(restore=lambda: None)
        if self.outermost is None:
            self.outermost = scope
            scope.restore = self.restore
        module = id(function.__globals__)
        if module not in self.scopes:
            self.scopes[module] = self.patch_language(function)
        return scope

    def restore(self) -> None:
        for scope in reversed(self.scopes.values()):
            scope.restore()
        self.scopes.clear()
        self.outermost = None


def run(launcher: Any, args: tuple[Any, ...]) -> Any:
    """Call a launcher in the interpreter under the eyes of `Memory`."""
    given = [surrounded(a) if isinstance(a, Tensor) else a for a in args]
    with pytest.MonkeyPatch.context() as patch:
        memory = Memory([a for a in given if isinstance(a, Tensor)], patch)
        out = launcher(*given)
        memory.check()
    return pytree.tree_map(torch.clone, out)


def check(name: str, out: Any, args: tuple[Any, ...]) -> None:
    """Compare with the reference in float64, and the layout with what the fake promises."""
    spec = OPS[name].spec
    widened = (a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
    each = (pytree.tree_leaves(t) for t in (out, spec.reference(*widened), spec.fake(*args)))
    for one in zip(*each, strict=True):
        check_one(*one)


def check_one(out: Tensor, expected: Tensor, promised: Tensor) -> None:
    assert (out.dtype, out.shape) == (promised.dtype, promised.shape)
    assert out.numel() == 0 or out.stride() == promised.stride()
    if not out.is_floating_point():
        assert torch.equal(out, expected)
        return
    finite = expected[expected.isfinite()].abs().tolist()
    atol = TOLERANCE[out.dtype] * max([1.0, *finite])
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=atol, equal_nan=True)


@contextlib.contextmanager
def naming(sample: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{sample}: {error}") from error


# Modules of kernels, by the ops that have them.
MODULES = {
    name: op.spec.triton.removeprefix("medkern.kernels.").split(":")[0]
    for name, op in OPS.items()
    if op.spec.triton is not None
}
OPS_AND_DTYPES = [
    pytest.param(name, dtype, id=f"{name}-{str(dtype)[6:]}")
    for name in MODULES
    for dtype in OPS[name].spec.dtypes
]


def launcher_of(name: str) -> Any:
    return kernels(MODULES[name]).LAUNCHERS[name]


def start_interpreter(file: str, folder: Path, *options: str) -> subprocess.Popen[str]:
    """The tests of `file` under the interpreter, in a process of their own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-q", "-m", "not gpu", "-p", "no:cacheprovider"),
            *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *options, file),
        ],
        cwd=folder,  # not from the checkout, which would shadow an installed medkern
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def passed_in(process: subprocess.Popen[str]) -> int:
    """How many tests passed, when all is done; none may have failed."""
    output = process.communicate()[0]
    assert process.returncode == 0, output[-8000:]
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None, output
    return int(passed[1])


@functools.cache
def compiled(name: str, arch: int, module: str) -> Any:
    made = kernels(module)
    return kernels("_compile").compile_ahead(made.variant(made.AOT_VARIANTS[name]), arch)
