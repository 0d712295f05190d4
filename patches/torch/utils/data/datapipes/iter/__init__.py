"""Iterable data pipes."""

from ....._missing import module_getattr
from . import combinatorics
from .combinatorics import ShufflerIterDataPipe as Shuffler

__all__ = ["Shuffler", "combinatorics"]

__getattr__ = module_getattr(__name__)
