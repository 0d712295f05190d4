"""Data loading, activation checkpointing, hooks and pytrees.

Submodules load on first use. Those that PyTorch has and this backend lacks (`cpp_extension`, `tensorboard`, …) do not
import, so that libraries which probe for them take their other path.
"""

import importlib

from .._missing import module_getattr
from .hooks import RemovableHandle

__all__ = ["RemovableHandle"]

_SUBMODULES = ("checkpoint", "data", "hooks", "_pytree")
_unknown = module_getattr(__name__)


def __getattr__(name):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    return _unknown(name)
