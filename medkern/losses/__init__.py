"""Loss modules."""

from medkern.losses.boundary import BoundaryLoss
from medkern.losses.similarity import GlobalNCCLoss, LocalNCCLoss, MutualInformationLoss

__all__ = ["BoundaryLoss", "GlobalNCCLoss", "LocalNCCLoss", "MutualInformationLoss"]
from medkern.losses.fourier import FocalFrequencyLoss

__all__ = ["BoundaryLoss", "FocalFrequencyLoss"]
from medkern.losses.segmentation import SegmentationLoss, SpectralCorrelationLoss

__all__ = ["BoundaryLoss", "SegmentationLoss", "SpectralCorrelationLoss"]
