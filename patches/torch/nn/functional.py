"""`torch.nn.functional`: the functions behind the layers. The code is in the ``_functional_*`` modules, by topic."""

from .._missing import module_getattr
from . import (
    _functional_activation,
    _functional_attention,
    _functional_distance,
    _functional_grid,
    _functional_linear,
    _functional_loss,
    _functional_norm,
    _functional_pad,
    _functional_pool,
    _functional_resize,
)

_PARTS = (_functional_activation, _functional_attention, _functional_distance, _functional_grid, _functional_linear,
          _functional_loss, _functional_norm, _functional_pad, _functional_pool, _functional_resize)
__all__ = []
for _part in _PARTS:
    for _name, _value in vars(_part).items():
        if callable(_value) and getattr(_value, "__module__", None) == _part.__name__ and _name[0] != "_":
            globals()[_name] = _value
            __all__.append(_name)
__all__.sort()

__getattr__ = module_getattr(__name__)
