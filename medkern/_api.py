"""The public names that need torch; `medkern` loads this module on first use of one."""

from medkern import backend, info, losses, models, nn, ops
from medkern.backend import explain, use_backend
from medkern.ops import *  # noqa: F403

__all__ = [
    "backend",
    "explain",
    "info",
    "losses",
    "models",
    "nn",
    "ops",
    "use_backend",
    *ops.__all__,
]
