"""Kernels that medical-image and biosignal research needs and PyTorch lacks.

`import medkern` is instant; torch is imported with the first name that needs it, and
`medkern.numpy` never needs it. To have the ops in `torch.ops.medkern` without calling one (say, to
load an exported program), import torch first, or `medkern.ops`.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medkern._api import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'medkern' has no attribute {name!r}")
    # A submodule comes alone: `from medkern import backend` must not start the whole package.
    if importlib.util.find_spec(f"medkern.{name}") is not None:
        return importlib.import_module(f"medkern.{name}")
    api = importlib.import_module("medkern._api")
    if name not in api.__all__:
        raise AttributeError(f"module 'medkern' has no attribute {name!r}")
    # Kept, as finding a name takes as long as a small op.
    return globals().setdefault(name, getattr(api, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *importlib.import_module("medkern._api").__all__})


if sys.modules.get("torch") is not None:
    importlib.import_module("medkern._api")
