"""Thin models on the ops."""

from medkern.models.enet import ENet
from medkern.models.specslice import SpecSliceConvLSTM
from medkern.models.unet import UNet

__all__ = ["ENet", "SpecSliceConvLSTM", "UNet"]
