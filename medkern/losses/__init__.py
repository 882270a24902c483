"""Loss modules."""

from medkern.losses.boundary import BoundaryLoss

__all__ = ["BoundaryLoss"]
