"""Mixed precision for CPU: `torch.amp` with the device type filled in."""

from ..._missing import module_getattr
from . import autocast_mode, grad_scaler
from .autocast_mode import autocast
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "autocast_mode", "grad_scaler"]

__getattr__ = module_getattr(__name__)
