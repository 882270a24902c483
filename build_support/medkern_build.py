"""PEP 517 backend: scikit-build-core, with the torch that is already installed.

A build needs torch's headers only, and pip's build isolation would fetch another torch (with
gigabytes of CUDA) to get them. So torch is asked for only where none can be reached.
"""

import importlib.util
import os
import sysconfig
from pathlib import Path

from scikit_build_core import build as _backend
from scikit_build_core.build import *  # noqa: F403

FALLBACK_TORCH = "torch==2.13.0"


def _torch_root() -> Path | None:
    if "MEDKERN_TORCH_ROOT" in os.environ:
        return Path(os.environ["MEDKERN_TORCH_ROOT"])
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    # Isolation hides the environment's site-packages from sys.path, not from the disk.
    for scheme in ("purelib", "platlib"):
        root = Path(sysconfig.get_paths()[scheme]) / "torch"
        if (root / "include/torch/csrc/stable/library.h").exists():
            return root
    return None


def _requirements(base: list[str]) -> list[str]:
    return base if _torch_root() else [*base, FALLBACK_TORCH]


def _point_cmake_at_torch() -> None:
    root = _torch_root()
    if root is not None:
        os.environ["MEDKERN_TORCH_ROOT"] = str(root)


def get_requires_for_build_wheel(config_settings=None):
    return _requirements(_backend.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings=None):
    return _requirements(_backend.get_requires_for_build_editable(config_settings))


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _point_cmake_at_torch()
    return _backend.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _point_cmake_at_torch()
    return _backend.build_editable(wheel_directory, config_settings, metadata_directory)
