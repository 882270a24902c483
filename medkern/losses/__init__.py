"""Loss modules."""

from medkern.losses.boundary import BoundaryLoss
from medkern.losses.segmentation import SegmentationLoss, SpectralCorrelationLoss

__all__ = ["BoundaryLoss", "SegmentationLoss", "SpectralCorrelationLoss"]
