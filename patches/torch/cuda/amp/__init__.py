"""Mixed precision for CUDA: `torch.amp` with the device type filled in."""

from ..._missing import module_getattr
from . import autocast_mode, common, grad_scaler
from .autocast_mode import autocast, custom_bwd, custom_fwd
from .common import amp_definitely_not_available
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "amp_definitely_not_available", "autocast", "autocast_mode", "common", "custom_bwd",
           "custom_fwd", "grad_scaler"]

__getattr__ = module_getattr(__name__)
