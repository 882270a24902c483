"""Loss modules."""

from medkern.losses.boundary import BoundaryLoss
from medkern.losses.crf import DenseCRFLoss
from medkern.losses.fourier import FocalFrequencyLoss
from medkern.losses.guidance import (
    channel_sensitivity,
    consistency_loss,
    sensitivity_guidance_loss,
)
from medkern.losses.segmentation import SegmentationLoss, SpectralCorrelationLoss
from medkern.losses.similarity import GlobalNCCLoss, LocalNCCLoss, MutualInformationLoss

__all__ = [
    "BoundaryLoss",
    "DenseCRFLoss",
    "FocalFrequencyLoss",
    "GlobalNCCLoss",
    "LocalNCCLoss",
    "MutualInformationLoss",
    "SegmentationLoss",
    "SpectralCorrelationLoss",
    "channel_sensitivity",
    "consistency_loss",
    "sensitivity_guidance_loss",
]
