"""Layers: drop-in torch modules that call the ops."""

from medkern.nn.ffc import FourierUnit, SpectralTransform
from medkern.nn.haar import HaarPool1d, HaarPool2d, HaarPool3d, HaarUnpool
from medkern.nn.spectral import FourierLayer, HartleyConv, SpectralConv

__all__ = [
    "FourierLayer",
    "FourierUnit",
    "HaarPool1d",
    "HaarPool2d",
    "HaarPool3d",
    "HaarUnpool",
    "HartleyConv",
    "SpectralConv",
    "SpectralTransform",
]
