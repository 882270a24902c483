"""What is compiled, what can run, and why not: for people and for bug reports."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medkern
import medkern.ops  # registers what OPS holds
from medkern import _library, backend
from medkern._registry import OPS

OPTIONAL = ("triton", "cupy-cuda13x", "PyWavelets", "nibabel", "pydicom", "scikit-image")


def report() -> dict[str, Any]:
    """The state of this installation, ready for JSON.

    >>> import medkern.info
    >>> sorted(medkern.info.report())
    ['backends', 'isa', 'machine', 'medkern', 'ops', 'threads', 'versions']
    """
    native = backend.native()
    return {
        "medkern": {"version": medkern.__version__, "location": list(medkern.__path__)},
        "backends": {
            "native": {
                "cpu": native.reason or "ready",
                "cuda": backend.native("cuda").reason or "ready",
            },
            "triton": _triton(),
            "reference": "ready",
        },
        "isa": _isa(native),
        "threads": {"torch": torch.get_num_threads(), "cpus": os.cpu_count()},
        "machine": {"processor": _processor(), "system": platform.platform()},
        "versions": _versions(),
        "ops": [name for name, op in OPS.items() if op.spec.public],
    }


def _triton() -> str:
    op = next(op for op in OPS.values() if op.spec.triton is not None)
    return backend.why_not(op, "triton", ()) or "ready"


def _isa(native: _library.Library) -> dict[str, Any]:
    if native.path is None or not native.loaded:
        return {"active": None, "available": []}
    isa = _library.native_isa(native.path)
    return {"active": isa.active, "available": list(isa.names)}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    return versions | {package: _version(package) for package in OPTIONAL}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def as_text(state: dict[str, Any], indent: str = "") -> str:
    """A report as indented lines."""
    lines = []
    for key, value in state.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", as_text(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{indent}{key}: {'not installed' if shown is None else shown}")
    return "\n".join(lines)
