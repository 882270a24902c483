"""Thin models on the ops."""

from medkern.models.enet import ENet
from medkern.models.fno import FNO, FNOReg
from medkern.models.sensitivity_unet import SensitivityGuidedUNet
from medkern.models.sfrsegnet import SFRSegNet
from medkern.models.specslice import SpecSliceConvLSTM
from medkern.models.trans_unet import TransUNet
from medkern.models.unet import UNet
from medkern.models.voxelmorph import VoxelMorph

__all__ = [
    "FNO",
    "ENet",
    "FNOReg",
    "SFRSegNet",
    "SensitivityGuidedUNet",
    "SpecSliceConvLSTM",
    "TransUNet",
    "UNet",
    "VoxelMorph",
]
