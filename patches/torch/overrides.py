"""The override protocol of subclasses is not supported: nothing overrides."""

from ._missing import module_getattr


def has_torch_function(args):
    return False


def has_torch_function_unary(arg):
    return False


def has_torch_function_variadic(*args):
    return False


def is_tensor_like(obj):
    from ._tensor import Tensor

    return isinstance(obj, Tensor)


__getattr__ = module_getattr("torch.overrides")
