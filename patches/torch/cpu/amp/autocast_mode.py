"""Autocast for the CPU."""

import torch

from ..._missing import module_getattr
from ...amp import autocast_mode as _mode

__all__ = ["autocast"]


class autocast(_mode.autocast):
    """``torch.amp.autocast("cpu", ...)``."""

    def __init__(self, enabled=True, dtype=torch.bfloat16, cache_enabled=True):
        super().__init__("cpu", enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)


__getattr__ = module_getattr(__name__)
