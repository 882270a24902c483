"""Thin models on the ops."""

from medkern.models.enet import ENet
from medkern.models.sensitivity_unet import SensitivityGuidedUNet
from medkern.models.trans_unet import TransUNet
from medkern.models.unet import UNet

__all__ = ["ENet", "SensitivityGuidedUNet", "TransUNet", "UNet"]
