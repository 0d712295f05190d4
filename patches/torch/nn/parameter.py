"""Parameters: tensors that a `Module` collects when they are assigned to one of its attributes."""

from collections import OrderedDict

import torch
from torch._missing import module_getattr

__all__ = ["Parameter"]


# Tensors keep their own state (private names and these) among the instance attributes.
_STATE = ("dtype", "grad")
_all_attributes = torch.Tensor.__dict__["__dict__"].__get__


class Parameter(torch.Tensor):
    """A tensor that is a parameter of a module.

    Args:
        data: the values, any shape. The parameter shares them (as ``detach()`` does). Default: an empty tensor.
        requires_grad: whether the parameter is trained; only floating-point and complex data can be.

    ``__dict__`` is a copy that holds nothing but the public attributes users set: accelerate passes it as keyword
    arguments to the constructor of a moved parameter.
    """

    def __new__(cls, data=None, requires_grad=True):
        if data is None:
            data = torch.empty(0)
        if requires_grad and not (data.is_floating_point() or data.is_complex()):
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
        return torch.Tensor._make_subclass(cls, data, requires_grad)

    def __init__(self, data=None, requires_grad=True):
        """Everything is done in ``__new__``; the base class must not read these arguments as a shape."""

    @property
    def __dict__(self):
        return {key: value for key, value in _all_attributes(self).items() if key[0] != "_" and key not in _STATE}

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        copied = type(self)(self.data.clone(), self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol):
        # The same two functions, by the same path, as in PyTorch's own checkpoints.
        from torch._utils import _rebuild_parameter, _rebuild_parameter_with_state

        state = self.__dict__
        if state:
            return _rebuild_parameter_with_state, (self.data, self.requires_grad, OrderedDict(), state)
        return _rebuild_parameter, (self.data, self.requires_grad, OrderedDict())


__getattr__ = module_getattr(__name__)
