"""Making a module without computing its initial values."""

import inspect

from torch._missing import module_getattr

from ..modules.module import Module

__all__ = ["skip_init"]


def skip_init(module_cls, *args, **kwargs):
    """Make ``module_cls(*args, **kwargs)`` with uninitialised parameters, drawing no random numbers.

    Args:
        module_cls: a module class whose constructor takes `device`.
        device: keyword; where the parameters are to be (default CPU).

    Raises:
        RuntimeError: not a module class, or its constructor has no `device`.
    """
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    final_device = kwargs.pop("device", "cpu")
    return module_cls(*args, **kwargs, device="meta").to_empty(device=final_device)


__getattr__ = module_getattr(__name__)
