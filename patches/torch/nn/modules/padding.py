"""Padding layers. `padding` is one number for all sides, or (left, right, top, bottom, …), last dimension first."""

from torch._missing import module_getattr

from .. import functional as F
from .module import Module
from .utils import _ntuple

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
    "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d",
    "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class _Pad(Module):
    _dims: int
    _mode: str

    def __init__(self, padding):
        super().__init__()
        self.padding = _ntuple(2 * self._dims)(padding)

    def forward(self, input):
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self):
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def forward(self, input):
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self):
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A given value around the last dimension."""

    _dims = 1


class ConstantPad2d(_ConstantPad):
    """A given value around the last two dimensions."""

    _dims = 2


class ConstantPad3d(_ConstantPad):
    """A given value around the last three dimensions."""

    _dims = 3


class ZeroPad1d(ConstantPad1d):
    """Zeros around the last dimension."""

    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


class ZeroPad2d(ConstantPad2d):
    """Zeros around the last two dimensions."""

    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


class ZeroPad3d(ConstantPad3d):
    """Zeros around the last three dimensions."""

    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


class ReflectionPad1d(_Pad):
    """The mirror image around the last dimension, without repeating the border."""

    _dims, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The mirror image around the last two dimensions, without repeating the border."""

    _dims, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The mirror image around the last three dimensions, without repeating the border."""

    _dims, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The border value repeated around the last dimension."""

    _dims, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The border values repeated around the last two dimensions."""

    _dims, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The border values repeated around the last three dimensions."""

    _dims, _mode = 3, "replicate"


class CircularPad1d(_Pad):
    """The opposite side's values around the last dimension."""

    _dims, _mode = 1, "circular"


class CircularPad2d(_Pad):
    """The opposite sides' values around the last two dimensions."""

    _dims, _mode = 2, "circular"


class CircularPad3d(_Pad):
    """The opposite sides' values around the last three dimensions."""

    _dims, _mode = 3, "circular"


__getattr__ = module_getattr(__name__)
