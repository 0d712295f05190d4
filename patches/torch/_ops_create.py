"""Creation functions and random draws."""

import math

import numpy as np

from . import _raw
from ._dtype import (
    ALIASES,
    CPU,
    Size,
    bfloat16,
    bool_,
    contiguous_format,
    device,
    float32,
    float64,
    get_default_dtype,
    int64,
    preserve_format,
    strided,
)
from ._elementwise import finish
from ._ops_shape import dims_arg
from ._tensor import DEFAULT_DEVICES, Tensor, from_numpy_copy, host_or_var, method, mk, scalar_dtype


def resolve_device(dev):
    if dev is None:
        if not DEFAULT_DEVICES:
            return CPU
        dev = DEFAULT_DEVICES[-1]
    d = dev if isinstance(dev, device) else device(dev)
    if d.type == "cuda":
        from . import cuda

        return cuda.place(d)
    elif d.type == "cpu":
        return CPU
    elif d.type != "meta":
        raise RuntimeError(f"device type {d.type!r} is not available in torch on Jittor")
    return d


def meta_data(shape, dt):
    """Placeholder of a meta tensor: a zero-stride array, no memory whatever the shape."""
    return np.broadcast_to(np.zeros((), dt.np if dt.np is not None else np.float32), tuple(shape))


def _make(shape, value, dtype, dev, requires_grad=False):
    dt = dtype or get_default_dtype()
    d = resolve_device(dev)
    shape = Size(int(s) for s in shape)
    if any(s < 0 for s in shape):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    t = mk(meta_data(shape, dt) if d.type == "meta" else _raw.full(shape, value, dt), shape, dt, d)
    return t.requires_grad_() if requires_grad else t


def _filled(name, value):
    def op(*size, dtype=None, device=None, requires_grad=False, layout=strided, out=None, memory_format=None,
           pin_memory=False, names=None, size_=None, **kw):
        shape = dims_arg(kw.pop("size", size) if "size" in kw else size)
        if kw:
            raise TypeError(f"{name}() got an unexpected keyword argument {next(iter(kw))!r}")
        return _make(shape, value, dtype, device, requires_grad)

    op.__name__ = name
    method(name, attach=False)(op)

    def like(input, *, dtype=None, device=None, requires_grad=False, layout=None, memory_format=preserve_format,
             pin_memory=False):
        return _make_like(input, input._shape, value, dtype, device, requires_grad)

    method(f"{name}_like", attach=False)(like)

    def new(self, *size, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False, **kw):
        return _make_like(self, dims_arg(kw.get("size", size)), value, dtype, device, requires_grad)

    method(f"new_{name}", function=False)(new)


def _make_like(x, shape, value, dtype, dev, requires_grad=False):
    """A constant beside ``x``: it starts where ``x`` has its data, so that mixing them moves nothing."""
    dt = dtype or x.dtype
    r = _make(shape, value, dt, x._device if dev is None else dev, requires_grad)
    return r


_filled("zeros", 0)
_filled("ones", 1)
_filled("empty", 0)  # zeros: deterministic where PyTorch leaves old memory


@method("full", attach=False)
def full(size, fill_value, *, dtype=None, device=None, requires_grad=False, layout=strided, out=None):
    if isinstance(fill_value, Tensor):
        dtype, fill_value = dtype or fill_value.dtype, fill_value.item()
    return _make((size,) if isinstance(size, int) else size, fill_value, dtype or scalar_dtype(fill_value), device,
                 requires_grad)


@method("full_like", attach=False)
def full_like(input, fill_value, *, dtype=None, device=None, requires_grad=False, layout=None,
              memory_format=preserve_format):
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    return _make_like(input, input._shape, fill_value, dtype, device, requires_grad)


@method("new_full", function=False)
def new_full(self, size, fill_value, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    return _make_like(self, size, fill_value, dtype, device, requires_grad)


@method("empty_strided", attach=False)
def empty_strided(size, stride, *, dtype=None, device=None, requires_grad=False, layout=strided, pin_memory=False):
    return _make(size, 0, dtype, device, requires_grad)


def _leaves(x):
    if isinstance(x, (list, tuple)):
        for v in x:
            yield from _leaves(v)
    else:
        yield x


def _to_nested(x):
    if isinstance(x, Tensor):
        return x._host() if x.dtype is not bfloat16 else x._host().astype(np.float32)
    if isinstance(x, (list, tuple)):
        return [_to_nested(v) for v in x]
    return x


@method("tensor", attach=False)
def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """A new leaf tensor with a copy of ``data`` (number, nested sequence, array or tensor)."""
    d = resolve_device(device)
    if isinstance(data, Tensor):
        t = data.detach_copy()
        dt = dtype or data.dtype
    else:
        if isinstance(data, (np.ndarray, np.generic)):
            a = np.asarray(data)
            dt = dtype
        else:
            if hasattr(data, "__array__") and not isinstance(data, (list, tuple)):
                a = np.asarray(data)
                dt = dtype
            else:
                nested = _to_nested(data)
                kinds = [v for v in _leaves(nested)]
                a = np.asarray(nested)
                dt = dtype
                if dt is None and not any(isinstance(v, (np.ndarray, np.generic)) for v in kinds):
                    k = max((scalar_dtype(v) for v in kinds), key=lambda q: q._kind, default=get_default_dtype())
                    dt = k
                elif dt is None and kinds and all(isinstance(v, np.ndarray) for v in kinds):
                    dt = None
                if a.dtype == object:
                    raise ValueError("expected sequence of equal length at every dimension")
        if dt is not None and dt.np is not None:
            a = np.asarray(_raw.cast(np.asarray(a), dt))
        elif dt is bfloat16:
            a = a.astype(np.float32)
        t = from_numpy_copy(a)
        dt = dt or t.dtype
    t = t if t.dtype is dt else t.to(dt)
    if d.type != "cpu":
        t = t.to(d)
    return t.requires_grad_() if requires_grad else t


@method("as_tensor", "asarray", attach=False)
def as_tensor(data, dtype=None, device=None, copy=None, requires_grad=False):
    if isinstance(data, Tensor):
        return data.to(device=device, dtype=dtype) if device or dtype else data
    return tensor(data, dtype=dtype, device=device)


@method("from_numpy", attach=False)
def from_numpy(ndarray):
    """A tensor with the array's values. The data are copied: later writes to the array are not seen."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    return from_numpy_copy(ndarray)


@method("frombuffer", attach=False)
def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    if dtype is bfloat16:
        from ._tensor import from_bits_bf16

        return from_bits_bf16(np.frombuffer(buffer, np.uint16, count, offset))
    return from_numpy_copy(np.frombuffer(buffer, dtype.np, count, offset))


@method("scalar_tensor", attach=False)
def scalar_tensor(s, *, dtype=None, device=None, requires_grad=False):
    return _make((), s, dtype or get_default_dtype(), device, requires_grad)


@method("new_tensor", function=False)
def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
    return tensor(data, dtype=dtype or self.dtype, device=device or self._device, requires_grad=requires_grad)


@method("new", function=False)
def new(self, *args):
    return _make(dims_arg(args) if args else (0,), 0, self.dtype, self._device)


def legacy_new(cls, *args, **kw):
    """``torch.Tensor(2, 3)``, ``torch.Tensor([1., 2.])``."""
    dt = getattr(cls, "_legacy_dtype", None) or float32
    if (len(args) == 1 and isinstance(args[0], (list, np.ndarray, Tensor))) or (
            len(args) == 1 and isinstance(args[0], tuple) and not isinstance(args[0], Size)):
        t = tensor(args[0], dtype=dt)
    else:
        t = _make(dims_arg(args) if args else (0,), 0, dt, None)
    return t if cls in (Tensor,) or getattr(cls, "_legacy_dtype", None) else Tensor._make_subclass(cls, t)


def _num(x):
    return x.item() if isinstance(x, Tensor) else x


@method("arange", "range_", attach=False)
def arange(*args, dtype=None, device=None, requires_grad=False, layout=strided, out=None, start=None, end=None,
           step=None):
    pos = [_num(a) for a in args]
    if len(pos) == 1:
        pos = [0 if start is None else start, pos[0]]
    elif not pos:
        pos = [0 if start is None else start, end]
    if len(pos) == 2:
        pos.append(1 if step is None else step)
    lo, hi, st = pos
    if dtype is None:
        dtype = get_default_dtype() if any(isinstance(v, float) for v in pos) else int64
    n = max(0, math.ceil((hi - lo) / st))
    a = lo + np.arange(n, dtype=np.float64 if dtype._kind == 2 else np.int64) * st
    return _from_host(a, dtype, device, requires_grad)


def _from_host(a, dt, dev, requires_grad=False):
    d = resolve_device(dev)
    if d.type == "meta":
        return _make(a.shape, 0, dt, d)
    if dt.np is None:
        t = from_numpy_copy(np.asarray(a, np.float32)).to(dt)
    else:
        t = mk(host_or_var(np.asarray(a).astype(dt.np)), a.shape, dt)
    if d.type != "cpu":
        t = t.to(d)
    return t.requires_grad_() if requires_grad else t


def _ramp(start, end, steps, dt):
    """Evenly spaced values, from both ends towards the middle as PyTorch computes them."""
    wide = np.float64 if dt is float64 or dt._kind < 2 else np.float32
    if steps == 1:
        return np.asarray([start], wide)
    first, last = wide(start), wide(end)
    step = wide((last - first) / wide(steps - 1))
    # PyTorch multiplies and adds with one rounding; in float32 that is float64 arithmetic rounded at the end.
    i, first, last, step = np.arange(steps), np.float64(first), np.float64(last), np.float64(step)
    return np.where(i < steps // 2, first + step * i, last - step * (steps - 1 - i)).astype(wide)


@method("linspace", attach=False)
def linspace(start, end, steps, *, dtype=None, device=None, requires_grad=False, layout=strided, out=None):
    dt = dtype or get_default_dtype()
    return _from_host(_ramp(_num(start), _num(end), int(steps), dt), dt, device, requires_grad)


@method("logspace", attach=False)
def logspace(start, end, steps, base=10.0, *, dtype=None, device=None, requires_grad=False):
    dt = dtype or get_default_dtype()
    return _from_host(np.power(base, _ramp(_num(start), _num(end), int(steps), float64)), dt, device, requires_grad)


@method("eye", attach=False)
def eye(n, m=None, *, dtype=None, device=None, requires_grad=False, layout=strided, out=None):
    return _from_host(np.eye(n, m), dtype or get_default_dtype(), device, requires_grad)


def _triangle(name, np_fn):
    def op(input, diagonal=0):
        n, m = input._shape[-2:]
        mask = np_fn(np.ones((n, m), bool), diagonal)
        from ._ops_pointwise import where

        r = where(mk(mask, mask.shape, bool_), input, 0)
        return r if r.dtype is input.dtype else r.to(input.dtype)

    method(name)(op)
    setattr(Tensor, name + "_", lambda self, diagonal=0: self._inplace(op(self._snap(), diagonal)))


_triangle("tril", np.tril)
_triangle("triu", np.triu)


@method("tril_indices", attach=False)
def tril_indices(row, col, offset=0, *, dtype=int64, device=None):
    return _from_host(np.stack(np.tril_indices(row, offset, col)), dtype, device)


@method("triu_indices", attach=False)
def triu_indices(row, col, offset=0, *, dtype=int64, device=None):
    return _from_host(np.stack(np.triu_indices(row, offset, col)), dtype, device)


@method("complex", attach=False)
def complex_(real, imag):
    a = real._host() + 1j * imag._host()
    return mk(a, a.shape, real.dtype.to_complex())


@method("polar", attach=False)
def polar(abs, angle):
    a = abs._host() * np.exp(1j * angle._host())
    return mk(a.astype(abs.dtype.to_complex().np), a.shape, abs.dtype.to_complex())


def _fill_(self, value):
    if isinstance(value, Tensor):
        value = value.item()
    return self._inplace(_make_like(self, self._shape, value, None, None))


method("fill_", function=False)(_fill_)
method("zero_", function=False)(lambda self: _fill_(self, 0))


__all__ = ["ALIASES", "contiguous_format", "finish"]
