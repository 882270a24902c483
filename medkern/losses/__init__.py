"""Loss modules."""

from medkern.losses.boundary import BoundaryLoss
from medkern.losses.fourier import FocalFrequencyLoss

__all__ = ["BoundaryLoss", "FocalFrequencyLoss"]
