"""Copies, conversion between dtypes and devices, complex parts."""

import numpy as np

from . import _engine, _raw
from ._dtype import CPU, Size, bool_, contiguous_format, device, dtype, preserve_format
from ._ops_join import stack
from ._ops_pointwise import convert
from ._ops_shape import dims_arg, expand_to
from ._tensor import Tensor, method, mk

record = _engine.record


@method("clone")
def clone(input, *, memory_format=preserve_format):
    r = mk(input._data(), input._shape, input.dtype, input._device)
    if input._rg and _engine.state.grad:
        record((r,), (input,), lambda g: (g,), "clone")
    return r


@method("contiguous", function=False)
def contiguous(self, memory_format=contiguous_format):
    return self if self.is_contiguous() else clone(self)


@method("to", function=False)
def to(self, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    for a in args:
        if isinstance(a, _dtype_class):
            dtype = a
        elif isinstance(a, Tensor):
            dtype, device = a.dtype, a._device
        elif isinstance(a, (str, _device_class, int)) and not isinstance(a, bool):
            device = a
    r = self
    if device is not None:
        dev = device if isinstance(device, _device_class) else _device_class(device)
        if dev.type != self._device.type or dev.index:
            r = _move(self, dev)
    if dtype is not None and dtype is not r.dtype:
        return convert(r, dtype)
    return clone(r) if copy and r is self else r


_dtype_class, _device_class = dtype, device


def _move(x, dev):
    if x._device.type == "meta":
        raise NotImplementedError("Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() "
                                  "instead of torch.nn.Module.to() when moving module from meta to a different device.")
    if dev.type == "meta":
        from ._ops_create import meta_data

        return mk(meta_data(x._shape, x.dtype), x._shape, x.dtype, dev)
    from . import cuda

    if dev.type not in ("cpu", "cuda"):
        raise RuntimeError(f"device type {dev.type!r} is not available in torch on Jittor")
    dev = cuda.place(dev) if dev.type == "cuda" else CPU
    if dev is x._device:
        return x
    r = mk(x._data(), x._shape, x.dtype, dev)
    if x._rg and _engine.state.grad:
        src = x._device
        record((r,), (x,), lambda g: (g.to(src),), "to_copy")
    return r


def _typed(name, dt):
    method(name, function=False)(lambda self, memory_format=None: self if self.dtype is dt else convert(self, dt))


def _register_types():
    from ._dtype import ALIASES, BY_NAME

    for n in ("half", "float", "double", "short", "int", "long", "cfloat", "cdouble"):
        _typed(n, ALIASES[n])
    _typed("bool", bool_)
    _typed("bfloat16", BY_NAME["bfloat16"])
    _typed("char", BY_NAME["int8"])
    _typed("byte", BY_NAME["uint8"])


_register_types()
method("cpu", function=False)(lambda self, memory_format=None: to(self, "cpu"))
method("cuda", function=False)(lambda self, device=None, non_blocking=False, memory_format=None: to(
    self, "cuda" if device is None else device))
method("type_as", function=False)(lambda self, other: to(self, other))
method("pin_memory", function=False)(lambda self, device=None: self)


@method("type", function=False)
def type_(self, dtype=None, non_blocking=False):
    names = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long",
             "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool",
             "complex64": "ComplexFloat", "complex128": "ComplexDouble"}
    if dtype is None:
        return f"torch.{'cuda.' if self.is_cuda else ''}{names[self.dtype.name]}Tensor"
    if isinstance(dtype, str):
        short = dtype.rsplit(".", 1)[-1]
        match = [k for k, v in names.items() if f"{v}Tensor" == short]
        if not match:
            raise ValueError(f"invalid type: {dtype!r}")
        from ._dtype import BY_NAME

        dtype = BY_NAME[match[0]]
    return to(self, dtype)


@method("copy_", function=False)
def copy_(self, src, non_blocking=False):
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_(): argument 'other' must be Tensor, not {type(src).__name__}")
    if src.dtype is not self.dtype:
        src = convert(src, self.dtype)
    if self._device.type == "meta":
        return self
    if src._shape != self._shape:
        src = expand_to(src, self._shape)
    if src._device.type != self._device.type:
        src = _move(src, self._device)
    return self._inplace(clone(src))


@method("set_", function=False)
def set_(self, source=None):
    self.data = source
    return self


@method("resize_", function=False)
def resize_(self, *shape):
    shape = Size(dims_arg(shape))
    if shape.numel() != self.numel():
        raise NotImplementedError("Tensor.resize_ to another number of elements is not implemented in torch on Jittor")
    self._v, self._shape = _raw.reshape(self._data(), shape), shape
    return self


for _n, _op in (("squeeze", Tensor.squeeze), ("unsqueeze", Tensor.unsqueeze), ("transpose", Tensor.transpose),
                ("t", Tensor.t)):
    def _shape_inplace(self, *a, _f=_op):
        r = _f(self.detach_copy() if not self._rg else self._snap(), *a)
        self._v, self._shape = r._data(), r._shape
        if r._rg:
            self._rg, self._node, self._out_nr = True, r._node, r._out_nr
        return self

    setattr(Tensor, _n + "_", _shape_inplace)


def _real(x):
    if not x.dtype.is_complex:
        return x
    return mk(np.ascontiguousarray(x._v.real), x._shape, x.dtype.to_real())


method("real", attach=False)(_real)
Tensor.real = property(_real)
Tensor.imag = property(lambda x: mk(np.ascontiguousarray(x._v.imag), x._shape, x.dtype.to_real()))
method("view_as_real", attach=False)(lambda x: stack([x.real, x.imag], -1))


@method("view_as_complex", attach=False)
def view_as_complex(x):
    a = x._host()
    c = a[..., 0] + 1j * a[..., 1]
    return mk(np.asarray(c), c.shape, x.dtype.to_complex())


method("conj")(lambda input: mk(np.conj(input._v), input._shape, input.dtype) if input.dtype.is_complex else input)
method("is_tensor", attach=False)(lambda obj: isinstance(obj, Tensor))
method("numel", attach=False)(lambda input: input.numel())
method("is_floating_point", attach=False)(lambda input: input.dtype.is_floating_point)
method("is_complex", attach=False)(lambda input: input.dtype.is_complex)
method("detach", attach=False)(lambda input: input.detach())
