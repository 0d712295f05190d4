"""What the functional modules share: autocast, argument shapes, in-place forms, wider arithmetic for half precision."""

import numpy as np
from jtorch.kernels import active

from .. import _engine, _raw
from .._dtype import Size, float32
from .._elementwise import unary
from .._tensor import mk

record, needs, no_grad = _engine.record, _engine.needs, _engine.set_grad_mode


autocast_mode = None


def autocast(kind, *tensors):
    """Cast to the dtype autocast wants for this ``kind`` ('low' or 'fp32') of operation; None passes through."""
    global autocast_mode
    if autocast_mode is None:  # at the first call: that module needs this package
        from ..amp import autocast_mode
    if not autocast_mode.ACTIVE:
        return tensors
    it = iter(autocast_mode.cast_args(kind, *(t for t in tensors if t is not None)))
    return tuple(None if t is None else next(it) for t in tensors)


def autocast1(kind, tensor):
    return autocast(kind, tensor)[0]


def ntuple(value, n, name="argument"):
    """``n`` ints from an int or a sequence of ``n`` (or of one). Raises RuntimeError for other lengths."""
    if isinstance(value, (tuple, list)):
        t = tuple(int(v) for v in value)
        if len(t) == 1:
            return t * n
        if len(t) != n:
            raise RuntimeError(f"{name} must be an int or a sequence of {n} ints, but got {list(t)}")
        return t
    return (int(value),) * n


def native(x):
    """Whether the fused kernels apply to a tensor: of a type they take, with the data in Jittor."""
    return x.dtype.name in active.TYPES and type(x._data()) is _raw.Var


def kernel_data(t, shape=None):
    """Data of a floating-point tensor (None passes) in a type that the fused kernels take: its own or float32."""
    if t is None:
        return None
    v = t._data()
    if t.dtype.name not in active.TYPES or type(v) is not _raw.Var:
        v = _raw.cast(_raw.to_var(v), t.dtype if t.dtype.name in active.TYPES else float32)
    return v if shape is None or t._shape == shape else _raw.reshape(v, shape)


def is_half(dt):
    return dt.itemsize == 2 and dt._kind == 2


def widen(x):
    """float32 copy of a half-precision tensor; others as they are."""
    return x.float() if is_half(x.dtype) else x


def elementwise(name, raw, x, bw):
    """A recorded function of one tensor. ``raw`` maps data; ``bw(g, x)`` is the gradient as tensor operations.

    Half precision is computed in float32 and rounded once.
    """
    dt = x.dtype
    if not is_half(dt):
        return unary(name, raw, x, lambda g, s, r: bw(g, s), "x")
    return unary(name, lambda v: raw(_raw.cast(v, float32)), x,
                 lambda g, s, r: bw(g.float(), s.float()).to(dt), "x")


def in_place(x, f, wanted=True):
    """``f(x)``, written back into ``x`` where ``wanted``."""
    if not wanted:
        return f(x)
    x._check_inplace()
    return x._inplace(f(x._snap() if x._rg else x))


def constant(array, like, dt=None):
    """A host table as a tensor beside ``like``, in its dtype."""
    dt = dt or like.dtype
    a = np.ascontiguousarray(array)
    if dt.np is not None:
        a = a.astype(dt.np)
        return mk(a, a.shape, dt, like._device)
    v = _raw.cast(_raw.to_var(a.astype(np.float32)), dt)
    return mk(v, Size(a.shape), dt, like._device)


def match_data(*tensors):
    """Move host tensors to Jittor where one of the given is there already."""
    live = [t for t in tensors if t is not None]
    if any(type(t._data()) is _raw.Var for t in live):
        for t in live:
            t._var()


def shape_text(x):
    return str(list(x._shape))
