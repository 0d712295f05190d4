"""What all elementwise operations share: broadcasting, promotion, recording of one and two operands."""


import numpy as np

from . import _engine, _raw
from ._dtype import Size, bfloat16, float32, get_default_dtype, promote_types
from ._tensor import Tensor, mk, same_device, scalar_dtype

needs, record = _engine.needs, _engine.record
_NUM = (int, float, bool, complex, np.number, np.bool_)


def broadcast_shape(a, b):
    """Broadcast two shapes. Raises RuntimeError with torch's wording."""
    if a == b:
        return a
    if not a:
        return b
    if not b:
        return a
    la, lb = len(a), len(b)
    out = []
    for i in range(max(la, lb)):
        x = a[la - 1 - i] if i < la else 1
        y = b[lb - 1 - i] if i < lb else 1
        if x != y and x != 1 and y != 1:
            raise RuntimeError(f"The size of tensor a ({x}) must match the size of tensor b ({y}) at non-singleton "
                               f"dimension {max(la, lb) - 1 - i}")
        out.append(y if x == 1 else x)
    return Size(reversed(out))


def sum_to(g, shape, dt=None):
    """Reduce a gradient to the shape (and dtype) of the input it belongs to."""
    if g._shape != shape:
        lead = len(g._shape) - len(shape)
        dims = list(range(lead)) + [lead + i for i, s in enumerate(shape) if s == 1 and g._shape[lead + i] != 1]
        if dims:
            g = g.sum(dims, keepdim=True)
        g = g.reshape(shape)
    return g if dt is None or g.dtype is dt else g.to(dt)


def category_type(a, b):
    """Result dtype of two operands, each a tensor or a Python number (torch.result_type)."""
    ta, tb = isinstance(a, Tensor), isinstance(b, Tensor)
    da = a.dtype if ta else scalar_dtype(a)
    db = b.dtype if tb else scalar_dtype(b)
    if da is db:
        return da
    ra = 2 if ta and a._shape else (1 if ta else 0)
    rb = 2 if tb and b._shape else (1 if tb else 0)
    if ra == rb:
        return promote_types(da, db)
    hi, lo = (da, db) if ra > rb else (db, da)
    if lo._kind <= hi._kind:
        return hi
    if lo._kind == 3:
        return hi.to_complex() if hi._kind == 2 else (lo if (ra and rb) else get_default_dtype().to_complex())
    if ra and rb:  # a 0-dim tensor of a higher kind keeps its own dtype
        return lo
    return get_default_dtype() if lo._kind == 2 else lo


def raw_scalar(s, dt):
    """Data of a Python number in dtype ``dt``."""
    if dt is bfloat16:
        return _raw.cast(_raw.to_var(np.asarray(s, np.float32).reshape(1)), dt)
    if dt is float32 and type(s) in (float, int) and -1e38 < s < 1e38:  # the usual case, without a guard for overflow
        return np.array(s, np.float32)
    if dt._kind == 1 and isinstance(s, float):
        s = int(s)
    with np.errstate(all="ignore"):
        return np.asarray(s).astype(dt.np)


def compute_dtype(dt):
    """Half precision is computed in float32 and rounded once, as PyTorch does."""
    return float32 if dt.itemsize == 2 and dt._kind == 2 else dt


def operand(x, dt):
    """(data cast to dt, shape) of a tensor or number."""
    if isinstance(x, Tensor):
        v = x._data()
        return (v if x.dtype is dt else _raw.cast(v, dt)), x._shape
    return raw_scalar(x, dt), ()


def device_of(a, b):
    if isinstance(a, Tensor) and (a._shape or not isinstance(b, Tensor)):
        return a._device
    return b._device if isinstance(b, Tensor) else a._device


def finish(v, shape, dt, dev):
    """Wrap raw data, correcting the dtype where Jittor's own promotion differs."""
    if _raw.dtype_name(v) != dt.name:
        v = _raw.cast(v, dt)
    if type(v) is np.ndarray:
        v = _raw.settle(v)
    return mk(v, shape, dt, dev)


def _touch(a, b):
    """Check that both are on one device, and move a host operand for good when its partner lives in Jittor, so that it is
    uploaded once."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a._device is not b._device and a._shape and b._shape:
            same_device(a, b)
        va, vb = a._data(), b._data()
        if type(va) is not type(vb):
            if type(va) is np.ndarray:
                a._var()
            else:
                b._var()


_OPERANDS = (Tensor, *_NUM)


def _other(x):
    if isinstance(x, _OPERANDS):
        return x
    if isinstance(x, np.ndarray):
        from ._tensor import from_numpy_copy

        return from_numpy_copy(x)
    return None


#: Jittor fuses a chain of elementwise operations into one kernel, whose compilation takes time that grows faster than
#: its length: 29 s for 800 operations. Longer chains are cut.
LONGEST_CHAIN = 64


def _cut_long_chain(r, depth):
    """Note that `r` ends a chain of `depth` elementwise operations; a kernel ends here when it is long."""
    if depth > LONGEST_CHAIN:
        depth = 0
        if type(r._v) is _raw.Var:
            r._v.stop_fuse()
    r._depth = depth


def binary(name, rawf, a, b, bw=None, dt=None, out=None):
    """Apply a two-operand primitive with broadcasting and promotion.

    ``bw(g, a, b, out)`` gives both gradients (before reduction); ``dt`` is the compute dtype, ``out`` the result's.
    """
    if dt is None and out is None and isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype is float32 is b.dtype:
        va, vb = a._data(), b._data()
        if type(va) is _raw.Var is type(vb):  # the usual case, without the questions below
            sa, sb, place, other = a._shape, b._shape, a._device, b._device
            if place is not other:
                if sa and sb:
                    same_device(a, b)
                place = place if sa else other
            r = mk(rawf(va, vb), sa if sa == sb else broadcast_shape(sa, sb), float32, place)
            _cut_long_chain(r, 1 + max(a._depth, b._depth))
            if bw is not None and _engine.state.grad and (a._rg or b._rg):
                _record_binary(name, a, b, a._rg, b._rg, sa, sb, bw, r)
            return r
    elif dt is None and out is None and isinstance(a, Tensor) and a.dtype is float32 and type(b) in (float, int):
        va = a._data()
        if type(va) is _raw.Var:  # likewise with a number
            r = mk(rawf(va, raw_scalar(b, float32)), a._shape, float32, a._device)
            _cut_long_chain(r, 1 + a._depth)
            if bw is not None and _engine.state.grad and a._rg:
                _record_binary(name, a, b, True, False, a._shape, (), bw, r)
            return r
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = mk(np.asarray(a), (), scalar_dtype(a))
    if dt is None:
        dt = a.dtype if isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype is b.dtype else category_type(a, b)
    _touch(a, b)
    work = compute_dtype(dt)
    (ra, sa), (rb, sb) = operand(a, work), operand(b, work)
    r = finish(rawf(ra, rb), broadcast_shape(sa, sb), out or dt, device_of(a, b))
    _cut_long_chain(r, 1 + max(getattr(a, "_depth", 0), getattr(b, "_depth", 0)))
    if bw is not None and r.dtype._kind >= 2:
        ga = isinstance(a, Tensor) and a.requires_grad
        gb = isinstance(b, Tensor) and b.requires_grad
        if (ga or gb) and _engine.state.grad:
            _record_binary(name, a, b, ga, gb, sa, sb, bw, r)
    return r


def _record_binary(name, a, b, ga, gb, sa, sb, bw, r):
    da, db = getattr(a, "dtype", None), getattr(b, "dtype", None)
    saved_a = saved_b = saved_r = None
    uses = bw.uses
    if "a" in uses:
        saved_a = a._snap() if isinstance(a, Tensor) else a
    if "b" in uses:
        saved_b = b._snap() if isinstance(b, Tensor) else b
    if "r" in uses:
        saved_r = _engine.SavedResult(r)

    def backward(g):
        rv = saved_r.get() if saved_r is not None else None
        return (sum_to(bw.a(g, saved_a, saved_b, rv), sa, da) if ga else None,
                sum_to(bw.b(g, saved_a, saved_b, rv), sb, db) if gb else None)

    record((r,), (a if ga else None, b if gb else None), backward, name)
    if saved_r is not None:
        saved_r.bind(r)


def _into(out, r):
    if out is None:
        return r
    return out._inplace(r)


def unary(name, rawf, x, bw=None, uses="x", to_float=True, out_dt=None):
    """Apply a one-operand primitive. ``bw(g, x, r)`` is its gradient; ``uses`` names what it needs saved."""
    dt = x.dtype
    v = x._data()
    if to_float and dt._kind < 2:
        dt = get_default_dtype()
    work = compute_dtype(dt)
    if x.dtype is not work:
        v = _raw.cast(v, work)
    r = finish(rawf(v), x._shape, out_dt or dt, x._device)
    _cut_long_chain(r, 1 + x._depth)
    if bw is not None and x.requires_grad and _engine.state.grad:
        sx = x._snap() if "x" in uses else None
        sr = _engine.SavedResult(r) if "r" in uses else None
        record((r,), (x,), lambda g: (bw(g, sx, sr.get() if sr is not None else None),), name)
        if sr is not None:
            sr.bind(r)
    return r
