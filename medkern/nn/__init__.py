"""Layers: drop-in torch modules that call the ops."""

from medkern.nn.convlstm import ConvGRU, ConvGRUCell, ConvLSTM, ConvLSTMCell
from medkern.nn.convlstm_convert import convlstm_from_keras, convlstm_state_dict
from medkern.nn.haar import HaarPool1d, HaarPool2d, HaarPool3d, HaarUnpool

__all__ = [
    "ConvGRU",
    "ConvGRUCell",
    "ConvLSTM",
    "ConvLSTMCell",
    "HaarPool1d",
    "HaarPool2d",
    "HaarPool3d",
    "HaarUnpool",
    "convlstm_from_keras",
    "convlstm_state_dict",
]
