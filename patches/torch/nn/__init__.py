"""Neural networks: `Module`, layers, losses, initial values and the functions behind them."""

from torch._missing import module_getattr

from . import functional

from .parameter import Parameter  # isort: skip  (init and the layers need both of these)
from . import init, modules, parallel, utils
from .modules import *  # noqa: F403
from .modules import __all__ as _layers
from .parallel import DataParallel

__all__ = ["DataParallel", "Parameter", "functional", "init", "modules", "parallel", "utils", *_layers]


def factory_kwargs(kwargs):
    """Check and complete the keyword arguments that every layer takes for its parameters.

    Args:
        kwargs: may hold ``device``, ``dtype``, ``memory_format`` and under ``factory_kwargs`` a dictionary of the same.

    Returns:
        A dictionary for ``torch.empty`` and its like.

    Raises:
        TypeError: another key, or one given in both places.
    """
    if kwargs is None:
        return {}
    allowed = {"device", "dtype", "memory_format"}
    direct = {key: value for key, value in kwargs.items() if key != "factory_kwargs"}
    nested = dict(kwargs.get("factory_kwargs", {}))
    for key in (*direct, *nested):
        if key not in allowed:
            raise TypeError(f"unexpected kwargs {key!r}; only {sorted(allowed)} are understood")
    if direct.keys() & nested.keys():
        raise TypeError(f"{sorted(direct.keys() & nested.keys())} given both directly and in factory_kwargs")
    return {**nested, **direct}


__getattr__ = module_getattr(__name__)
