"""Whether mixed precision makes sense on CUDA here."""

import torch

from ..._missing import module_getattr

__all__ = ["amp_definitely_not_available"]


def amp_definitely_not_available():
    """True when there is no CUDA device."""
    return not torch.cuda.is_available()


__getattr__ = module_getattr(__name__)
