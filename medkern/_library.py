"""Finds and loads the compiled libraries, and remembers why one is missing."""

from __future__ import annotations

import ctypes
import importlib
import os
from dataclasses import dataclass
from pathlib import Path

import medkern


@dataclass(frozen=True)
class Library:
    """A compiled library: where it is, or why it is not in use."""

    name: str
    path: Path | None
    reason: str | None  # why it is not loaded

    @property
    def loaded(self) -> bool:
        return self.reason is None


def find(name: str) -> Path | None:
    """The file of compiled library `name`; an editable install keeps it outside the sources."""
    for folder in medkern.__path__:
        path = Path(folder) / f"{name}.so"
        if path.exists():
            return path
    return None


_NO_COMPILER = (
    "this installation was built without a working C++20 compiler, so it has no _native.so; "
    "install g++ (or clang) and reinstall: pip install --force-reinstall --no-deps <medkern>"
)
_NO_NVCC = (
    "this installation was built without CUDA kernels; put nvcc on the PATH and reinstall with "
    "-Ccmake.define.MEDKERN_CUDA=ON"
)


def load_native() -> Library:
    """Load the CPU kernels into torch, and select the instruction set."""
    library = _load("_native", _NO_COMPILER)
    if library.loaded and library.path is not None:
        select_isa(native_isa(library.path))
    return library


def load_cuda() -> Library:
    """Load the CUDA kernels into torch, if this torch has CUDA."""
    import torch

    if torch.version.cuda is None:
        reason = f"torch {torch.__version__} was built without CUDA"
        return Library("_native_cuda", find("_native_cuda"), reason)
    return _load("_native_cuda", _NO_NVCC)


def _load(name: str, why_missing: str) -> Library:
    import torch

    path = find(name)
    if path is None:
        return Library(name, None, why_missing)
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return Library(name, path, f"{path} does not load: {error}")
    return Library(name, path, None)


class Isa:
    """The instruction-set switch of one compiled library."""

    def __init__(self, names: str, active: object, select: object) -> None:
        self.names = tuple(names.split())
        self._active = active
        self._select = select

    @property
    def active(self) -> str:
        return str(self._active())  # type: ignore[operator]

    def select(self, name: str) -> None:
        if name not in self.names:
            raise ValueError(
                f"medkern: MEDKERN_ISA must be one of {', '.join(self.names)} on this machine, "
                f"got {name!r}; unset it to use the best"
            )
        self._select(name)  # type: ignore[operator]


def native_isa(path: Path) -> Isa:
    """The switch inside `_native.so`."""
    library = ctypes.CDLL(str(path))
    library.medkern_isas.restype = ctypes.c_char_p
    library.medkern_active_isa.restype = ctypes.c_char_p
    library.medkern_set_isa.argtypes = [ctypes.c_char_p]
    return Isa(
        library.medkern_isas().decode(),
        lambda: library.medkern_active_isa().decode(),
        lambda name: library.medkern_set_isa(name.encode()),
    )


def core_isa() -> Isa:
    """The switch inside `medkern._core`."""
    core = importlib.import_module("medkern._core")
    return Isa(core.isas(), core.active_isa, core.set_isa)


def select_isa(isa: Isa) -> None:
    """Apply MEDKERN_ISA, if set, to one library."""
    name = os.environ.get("MEDKERN_ISA")
    if name:
        isa.select(name)
