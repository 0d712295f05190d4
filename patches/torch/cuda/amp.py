"""``torch.cuda.amp``: the CUDA spellings of `torch.amp`."""

from .._missing import module_getattr
from ..amp import GradScaler
from ..amp import autocast as _autocast
from ..amp.autocast_mode import custom_bwd, custom_fwd


class autocast(_autocast):
    """``torch.autocast("cuda", ...)``."""

    def __init__(self, enabled=True, dtype=None, cache_enabled=True):
        super().__init__("cuda", dtype=dtype, enabled=enabled, cache_enabled=cache_enabled)


__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]
__getattr__ = module_getattr("torch.cuda.amp")
