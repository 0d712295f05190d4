"""Tape introspection names that libraries import."""

from .._engine import Node
from .._missing import module_getattr

__all__ = ["Node"]
__getattr__ = module_getattr("torch.autograd.graph")
