"""Layers: drop-in torch modules that call the ops."""

from medkern.nn.convlstm import ConvGRU, ConvLSTM
from medkern.nn.convlstm_cell import ConvGRUCell, ConvLSTMCell
from medkern.nn.convlstm_convert import convlstm_from_keras, convlstm_state_dict
from medkern.nn.ffc import FourierUnit, SpectralTransform
from medkern.nn.haar import HaarPool1d, HaarPool2d, HaarPool3d, HaarUnpool
from medkern.nn.spectral import FourierLayer, HartleyConv, SpectralConv

__all__ = [
    "ConvGRU",
    "ConvGRUCell",
    "ConvLSTM",
    "ConvLSTMCell",
    "FourierLayer",
    "FourierUnit",
    "HaarPool1d",
    "HaarPool2d",
    "HaarPool3d",
    "HaarUnpool",
    "HartleyConv",
    "SpectralConv",
    "SpectralTransform",
    "convlstm_from_keras",
    "convlstm_state_dict",
]
