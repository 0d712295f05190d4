"""Parametrizations: none are implemented; libraries probe this module with ``hasattr`` and then use `weight_norm`."""

from torch._missing import module_getattr

__getattr__ = module_getattr(__name__)
