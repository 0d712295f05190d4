"""Names for annotations."""

from typing import Union

from ._dtype import device, dtype
from ._missing import module_getattr

Device = Union[device, str, int, None]
Number = Union[int, float, bool]
_dtype = dtype
_device = device
__getattr__ = module_getattr("torch.types")
