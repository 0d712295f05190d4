"""`DistributedDataParallel`, a name only."""

from torch._missing import TorchNameError, module_getattr

from ..modules.module import Module

__all__ = ["DistributedDataParallel"]


class DistributedDataParallel(Module):
    """Present for ``isinstance`` checks; making one raises `TorchNameError`."""

    def __init__(self, *args, **kwargs):
        raise TorchNameError(
            "torch.nn.parallel.DistributedDataParallel is not implemented in torch on Jittor: train in one process"
        )


__getattr__ = module_getattr(__name__)
