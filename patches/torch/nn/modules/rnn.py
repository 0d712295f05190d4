"""Recurrent layers: names only. The libraries refer to them in type checks; none of the supported models has one."""

from torch._missing import TorchNameError, module_getattr

from .module import Module

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell"]


class RNNBase(Module):
    """Making one raises `TorchNameError`."""

    def __init__(self, *args, **kwargs):
        raise TorchNameError(f"torch.nn.{type(self).__name__} is not implemented in torch on Jittor")


class RNN(RNNBase):
    """Making one raises `TorchNameError`."""


class LSTM(RNNBase):
    """Making one raises `TorchNameError`."""


class GRU(RNNBase):
    """Making one raises `TorchNameError`."""


class RNNCell(RNNBase):
    """Making one raises `TorchNameError`."""


class LSTMCell(RNNBase):
    """Making one raises `TorchNameError`."""


class GRUCell(RNNBase):
    """Making one raises `TorchNameError`."""


__getattr__ = module_getattr(__name__)
