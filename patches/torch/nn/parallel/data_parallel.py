"""`DataParallel`, a name only."""

from torch._missing import TorchNameError, module_getattr

from ..modules.module import Module

__all__ = ["DataParallel"]


class DataParallel(Module):
    """Present for ``isinstance`` checks; making one raises `TorchNameError`."""

    def __init__(self, *args, **kwargs):
        raise TorchNameError(
            "torch.nn.DataParallel is not implemented in torch on Jittor: one process drives one device; "
            "start several processes instead"
        )


__getattr__ = module_getattr(__name__)
