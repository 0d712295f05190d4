"""``torch.FloatTensor`` and its siblings: constructors and ``isinstance`` classes of the old API."""

from . import _dtype
from ._tensor import Tensor, TensorMeta


class _LegacyMeta(TensorMeta):
    def __instancecheck__(cls, obj):
        return isinstance(obj, Tensor) and obj.dtype is cls._legacy_dtype


def _make(name, dt):
    cls = _LegacyMeta(name, (Tensor,), {"_legacy_dtype": dt, "__doc__": f"Legacy constructor of {dt!r} tensors."})
    cls.__module__ = "torch"
    return cls


FloatTensor = _make("FloatTensor", _dtype.float32)
DoubleTensor = _make("DoubleTensor", _dtype.float64)
HalfTensor = _make("HalfTensor", _dtype.float16)
BFloat16Tensor = _make("BFloat16Tensor", _dtype.bfloat16)
LongTensor = _make("LongTensor", _dtype.int64)
IntTensor = _make("IntTensor", _dtype.int32)
ShortTensor = _make("ShortTensor", _dtype.int16)
CharTensor = _make("CharTensor", _dtype.int8)
ByteTensor = _make("ByteTensor", _dtype.uint8)
BoolTensor = _make("BoolTensor", _dtype.bool_)
