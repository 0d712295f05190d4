"""Data pipes: only the shuffling pipe, which accelerate's dispatching loader looks for, is here."""

from ...._missing import module_getattr
from . import iter

__all__ = ["iter"]

__getattr__ = module_getattr(__name__)
