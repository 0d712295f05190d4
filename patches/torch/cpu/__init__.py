"""The CPU as a device: always there, one of it, nothing to wait for."""

from .._missing import module_getattr
from . import amp

__all__ = ["amp", "current_device", "device_count", "is_available", "synchronize"]


def is_available():
    """True."""
    return True


def device_count():
    """1."""
    return 1


def current_device():
    """The CPU's name, as in PyTorch."""
    return "cpu"


def synchronize(device=None):
    """Run all pending kernels and wait for them."""
    from .. import _raw

    _raw.jt.sync_all(True)


__getattr__ = module_getattr(__name__)
