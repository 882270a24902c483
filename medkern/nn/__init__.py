"""Layers: drop-in torch modules that call the ops."""

from medkern.nn.haar import HaarPool1d, HaarPool2d, HaarPool3d, HaarUnpool

__all__ = ["HaarPool1d", "HaarPool2d", "HaarPool3d", "HaarUnpool"]
