"""Which engines are there."""

from .._missing import module_getattr
from . import cpu, cuda, cudnn, mkl, mkldnn, mps, openmp

__all__ = ["cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]
__getattr__ = module_getattr("torch.backends")
