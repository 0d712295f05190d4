"""Probability distributions: only what the libraries import."""

from .._missing import module_getattr
from .relaxed_bernoulli import RelaxedBernoulli

__all__ = ["RelaxedBernoulli"]
__getattr__ = module_getattr("torch.distributions")
