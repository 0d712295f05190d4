"""Reductions, statistics, softmax, sorting and searching."""

from collections import namedtuple

import numpy as np
from jtorch.kernels import active

from . import _engine, _raw
from ._dtype import Size, bool_, float32, int64
from ._elementwise import _into, finish
from ._ops_pointwise import where
from ._ops_scatter import gather
from ._ops_shape import _reshape, expand_to, unsqueeze, wrap_dim
from ._tensor import Tensor, method, mk

record = _engine.record


def _dims(dim, n):
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(n))
    return tuple(sorted({wrap_dim(d, n) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))}))


def _out_shape(shape, dims, keepdim):
    return Size(1 if i in dims else s for i, s in enumerate(shape) if keepdim or i not in dims)


def _keep(t, dims, shape):
    """A reduced gradient with its axes back, ready to broadcast over ``shape``."""
    return _reshape(t, [1 if i in dims else s for i, s in enumerate(shape)])


def _reduce(name, rawf, x, dims, keepdim, dt, bw=None):
    v = x._data() if x.dtype is dt else _raw.cast(x._data(), dt)
    shape = x._shape
    half = dt.itemsize == 2 and dt._kind == 2
    if half:  # accumulate in single precision as PyTorch does
        v = _raw.cast(v, float32)
    if x.ndim:
        v = rawf(v, dims, keepdim)
    r = finish(v, _out_shape(shape, dims, keepdim), dt, x._device)
    if bw is not None and x.requires_grad and _engine.state.grad:
        src = x.dtype
        record((r,), (x,), lambda g: (bw(_keep(g, dims, shape)).to(src),), name)
    return r


@method("sum")
def sum_(input, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None, out=None):
    dim = axis if dim is None else dim
    keepdim = keepdim if keepdims is None else keepdims
    dt = dtype or (int64 if input.dtype._kind < 2 else input.dtype)
    shape = input._shape
    return _into(out, _reduce("sum", _raw.sum_, input, _dims(dim, input.ndim), keepdim, dt,
                              lambda g: expand_to(g, shape)))


@method("mean")
def mean(input, dim=None, keepdim=False, *, dtype=None, axis=None):
    dt = dtype or input.dtype
    if dt._kind < 2:
        raise RuntimeError(f"mean(): could not infer output dtype. Input dtype must be either a floating point or "
                           f"complex dtype. Got: {input.dtype.name.capitalize()}")
    dims = _dims(axis if dim is None else dim, input.ndim)
    n = Size(input._shape[d] for d in dims).numel()
    return sum_(input, dims or None, keepdim, dtype=dt) / n


method("nansum")(lambda input, dim=None, keepdim=False: sum_(where(input.isnan(), 0, input), dim, keepdim))


@method("prod")
def prod(input, dim=None, keepdim=False, *, dtype=None):
    dt = dtype or (int64 if input.dtype._kind < 2 else input.dtype)
    if input.requires_grad and _engine.state.grad:
        raise NotImplementedError("the gradient of torch.prod is not implemented in torch on Jittor")
    return _reduce("prod", _raw.prod, input, _dims(dim, input.ndim), keepdim, dt)


def _extreme(name, rawf, x, dim, keepdim):
    dims = _dims(dim, x.ndim)
    if x.numel() == 0:
        raise RuntimeError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
                           "reduction dim with the 'dim' argument.")
    dt, src = x.dtype, x
    if dt is bool_:
        return _extreme(name, rawf, x.byte(), dim, keepdim).bool()
    r = _reduce(name, rawf, x, dims, keepdim, dt)
    if x.requires_grad and _engine.state.grad:
        s, rv, shape = src._snap(), r.detach_copy(), x._shape

        def backward(g):  # equal extremes share the gradient
            mask = (s == expand_to(_keep(rv, dims, shape), shape)).to(dt)
            return (mask * _keep(g, dims, shape) / mask.sum(dims, keepdim=True),)

        record((r,), (x,), backward, name)
    return r


@method("amax")
def amax(input, dim=(), keepdim=False):
    return _extreme("amax", _raw.amax, input, dim, keepdim)


@method("amin")
def amin(input, dim=(), keepdim=False):
    return _extreme("amin", _raw.amin, input, dim, keepdim)


def _arg(input, dim, keepdim, np_fn):
    a = input._host()
    if dim is None:
        r = np.asarray(np_fn(a.reshape(-1)), np.int64)
        if keepdim:
            r = r.reshape((1,) * input.ndim)
    else:
        r = np.asarray(np_fn(a, axis=wrap_dim(dim, input.ndim)) if input.ndim else 0, np.int64)
        if keepdim and input.ndim:
            r = np.expand_dims(r, wrap_dim(dim, input.ndim))
    return mk(r, r.shape, int64, input._device)


@method("argmax")
def argmax(input, dim=None, keepdim=False):
    return _arg(input, dim, keepdim, np.argmax)


@method("argmin")
def argmin(input, dim=None, keepdim=False):
    return _arg(input, dim, keepdim, np.argmin)


def _pick(input, dim, idx, keepdim):
    if input.ndim == 0:
        return input.clone(), idx
    d = wrap_dim(dim, input.ndim)
    v = gather(input, d, unsqueeze(idx, d))
    return (v if keepdim else _reshape(v, idx._shape).detach_view()), (unsqueeze(idx, d) if keepdim else idx)


def _max_like(name, arg, whole, pair):
    result = namedtuple(f"{name}_return", ("values", "indices"))

    def op(input, dim=None, keepdim=False, *, out=None):
        if isinstance(dim, Tensor):
            return pair(input, dim)
        if dim is None:
            return _into(out, whole(input))
        return result(*_pick(input, dim, arg(input, dim), keepdim))

    op.__name__ = name
    return method(name)(op)


def _lazy(name):
    return lambda a, b: getattr(a, name)(b)


max_ = _max_like("max", argmax, amax, _lazy("maximum"))
min_ = _max_like("min", argmin, amin, _lazy("minimum"))
method("aminmax")(lambda input, dim=None, keepdim=False: (amin(input, () if dim is None else dim, keepdim),
                                                          amax(input, () if dim is None else dim, keepdim)))


def _boolean(name, rawf, np_fn):
    def op(input, dim=None, keepdim=False):
        x = input.bool()
        if type(x._data()) is np.ndarray:
            dims = _dims(dim, x.ndim)
            a = np.asarray(np_fn(x._data(), axis=dims, keepdims=keepdim))
            return mk(a, a.shape, bool_, x._device)
        return _reduce(name, rawf, x.int(), _dims(dim, x.ndim), keepdim, x.int().dtype).bool()

    method(name)(op)


_boolean("any", _raw.amax, np.any)
_boolean("all", _raw.amin, np.all)
method("count_nonzero")(lambda input, dim=None: (input != 0).sum(dim))


def _correction(unbiased, correction):
    return (1 if unbiased in (None, True) else 0) if correction is None else correction


@method("var")
def var(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    dims = _dims(dim, input.ndim)
    n = Size(input._shape[d] for d in dims).numel()
    c = input - mean(input, dims, keepdim=True)
    return sum_(c * c, dims, keepdim) / max(n - _correction(unbiased, correction), 0)


@method("std")
def std(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    return var(input, dim, unbiased, keepdim, correction=correction).sqrt()


method("var_mean")(lambda input, dim=None, unbiased=None, keepdim=False, correction=None: (
    var(input, dim, unbiased, keepdim, correction=correction), mean(input, dim, keepdim)))
method("std_mean")(lambda input, dim=None, unbiased=None, keepdim=False, correction=None: (
    std(input, dim, unbiased, keepdim, correction=correction), mean(input, dim, keepdim)))


@method("norm")
def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    """Vector norm of order ``p`` over ``dim`` (all axes by default)."""
    x = input if dtype is None else input.to(dtype)
    dims = _dims(dim, x.ndim)
    if p in ("fro", 2, 2.0, None):
        r = sum_(x * x, dims, keepdim)
        return _safe_sqrt(r)
    if p == float("inf"):
        return amax(x.abs(), dims, keepdim)
    if p == -float("inf"):
        return amin(x.abs(), dims, keepdim)
    if p == 1:
        return sum_(x.abs(), dims, keepdim)
    if p == 0:
        return sum_((x != 0).to(x.dtype), dims, keepdim)
    return sum_(x.abs() ** p, dims, keepdim) ** (1.0 / p)


def _safe_sqrt(s):
    """Square root whose gradient at zero is zero (the subgradient PyTorch uses for norms)."""
    r = s.detach().sqrt().detach_view()
    if s.requires_grad and _engine.state.grad:
        saved = _engine.SavedResult(r)

        def backward(g):
            rv = saved.get()
            return (where(rv == 0, 0.0, g / where(rv == 0, 1.0, rv * 2)),)

        record((r,), (s,), backward, "sqrt")
        saved.bind(r)
    return r


method("dist")(lambda input, other, p=2: norm(input - other, p))


@method("softmax")
def softmax(input, dim, dtype=None):
    x = input if dtype is None else input.to(dtype)
    return _softmax(x, dim)


def _softmax(x, dim):
    d = wrap_dim(dim, x.ndim)
    native = x.ndim and d == x.ndim - 1 and x.numel() and x.dtype._kind == 2 and x.dtype.itemsize <= 4 and \
        type(x._data()) is _raw.Var
    r = _softmax_kernel(x) if native else _softmax_plain(x, d)
    if x.requires_grad and _engine.state.grad:
        saved = _engine.SavedResult(r)

        def backward(g):
            s = saved.get()
            if native and not _engine.state.grad:
                v = active.softmax_backward(_rows(s), _rows(g if g.dtype is s.dtype else g.to(s.dtype)))
                return (finish(_raw.reshape(v, s._shape), s._shape, s.dtype, s._device),)
            return (s * (g - sum_(g * s, d, True)),)

        record((r,), (x,), backward, "softmax")
        saved.bind(r)
    return r


def _rows(x):
    """Data as rows of the last axis, in a type the kernels take: its own or float32."""
    return _raw.reshape(_raw.cast(x._var(), x.dtype if x.dtype.name in active.TYPES else float32), (-1, x._shape[-1]))


def _softmax_kernel(x):
    return finish(_raw.reshape(active.softmax(_rows(x)), x._shape), x._shape, x.dtype, x._device)


def _softmax_plain(x, d):
    with _engine.set_grad_mode(False):
        z = x.detach_copy()
        half = z.dtype.itemsize == 2
        z = z.float() if half else z
        e = (z - amax(z, d, True)).exp()
        r = e / sum_(e, d, True)
        return r.to(x.dtype) if half else r


@method("log_softmax")
def log_softmax(input, dim, dtype=None):
    x = input if dtype is None else input.to(dtype)
    d = wrap_dim(dim, x.ndim)
    z = x - amax(x.detach(), d, True)
    return z - z.exp().sum(d, keepdim=True).log()


@method("logsumexp")
def logsumexp(input, dim, keepdim=False):
    dims = _dims(dim, input.ndim)
    m = amax(input.detach(), dims, True)
    m = where(m.abs() == float("inf"), 0.0, m)
    r = (input - m).exp().sum(dims, keepdim=True).log() + m
    return r if keepdim else _reshape(r, _out_shape(input._shape, dims, False))
