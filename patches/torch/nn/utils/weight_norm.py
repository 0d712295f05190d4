"""Weight normalisation (Salimans & Kingma 2016): a weight as magnitude times direction."""

import torch
from torch._missing import module_getattr

from ..parameter import Parameter

__all__ = ["remove_weight_norm", "weight_norm"]


def _norm_except(weight, dim):
    """The norm over all dimensions but `dim`, kept for broadcasting; over all of them if `dim` is None."""
    if dim is None:
        return torch.linalg.vector_norm(weight)
    return torch.linalg.vector_norm(weight, dim=[d for d in range(weight.dim()) if d != dim], keepdim=True)


class WeightNorm:
    """The hook that computes ``weight = g * v / |v|`` before each forward."""

    def __init__(self, name, dim):
        self.name = name
        self.dim = dim

    def compute_weight(self, module):
        g = getattr(module, self.name + "_g")
        v = getattr(module, self.name + "_v")
        return v * (g / _norm_except(v, self.dim))

    def remove(self, module):
        weight = self.compute_weight(module)
        delattr(module, self.name)
        del module._parameters[self.name + "_g"]
        del module._parameters[self.name + "_v"]
        setattr(module, self.name, Parameter(weight.data))

    def __call__(self, module, inputs):
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module, name="weight", dim=0):
    """Replace the parameter `name` by ``name_g`` (magnitude along `dim`) and ``name_v`` (direction); return the module.

    Raises:
        RuntimeError: that parameter is normalised already.
    """
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and hook.name == name:
            raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
    hook = WeightNorm(name, dim)
    weight = getattr(module, name)
    # A negative dimension counts from the end, and -1 is PyTorch's other spelling of "over all dimensions".
    hook.dim = None if dim is None or dim == -1 else dim % weight.dim()
    del module._parameters[name]
    module.register_parameter(name + "_g", Parameter(_norm_except(weight, hook.dim).data))
    module.register_parameter(name + "_v", Parameter(weight.data))
    setattr(module, name, hook.compute_weight(module))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module, name="weight"):
    """Undo `weight_norm`: `name` is a parameter again.

    Raises:
        ValueError: there is no weight normalisation of `name`.
    """
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, WeightNorm) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ValueError(f"weight_norm of '{name}' not found in {module}")


__getattr__ = module_getattr(__name__)
