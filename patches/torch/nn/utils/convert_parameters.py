"""Parameters as one vector, and back."""

import torch
from torch._missing import module_getattr

from ..modules.module import _typename

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters):
    """Return all elements of the parameters, in order, as one vector."""
    return torch.cat([parameter.view(-1) for parameter in parameters])


def vector_to_parameters(vec, parameters):
    """Set the parameters' values from a vector as `parameters_to_vector` makes it.

    Raises:
        TypeError: `vec` is not a tensor.
    """
    if not isinstance(vec, torch.Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {_typename(vec)}")
    start = 0
    for parameter in parameters:
        count = parameter.numel()
        parameter.data = vec[start : start + count].view_as(parameter).data
        start += count


__getattr__ = module_getattr(__name__)
