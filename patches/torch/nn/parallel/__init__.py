"""Data parallelism: names only, for ``isinstance`` checks. One process drives one device here."""

from torch._missing import module_getattr

from .data_parallel import DataParallel
from .distributed import DistributedDataParallel

__all__ = ["DataParallel", "DistributedDataParallel"]

__getattr__ = module_getattr(__name__)
