"""Reductions, statistics, softmax, sorting and searching."""

from collections import namedtuple

import numpy as np

from jtorch.kernels import softmax as softmax_kernel

from . import _engine, _raw
from ._dtype import Size, bool_, float32, float64, get_default_dtype, int64
from ._ops_index import gather
from ._ops_pointwise import _into, convert, finish, mk, where
from ._ops_shape import _reshape, expand_to, flip, unsqueeze, wrap_dim
from ._tensor import Tensor, method

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
    return mk(r, r.shape, int64)


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
            return mk(a, a.shape, bool_)
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
        not _raw.jt.flags.use_cuda and type(x._data()) is _raw.Var
    r = _softmax_kernel(x) if native else _softmax_plain(x, d)
    if x.requires_grad and _engine.state.grad:
        saved = _engine.SavedResult(r)

        def backward(g):
            s = saved.get()
            if native and not _engine.state.grad:
                v = softmax_kernel.softmax_backward(_rows(s), _rows(g))
                return (finish(_raw.reshape(v, s._shape), s._shape, s.dtype, s._device),)
            return (s * (g - sum_(g * s, d, True)),)

        record((r,), (x,), backward, "softmax")
        saved.bind(r)
    return r


def _rows(x):
    """Data as float32 rows of the last axis."""
    return _raw.reshape(_raw.cast(x._var(), float32), (-1, x._shape[-1]))


def _softmax_kernel(x):
    return finish(_raw.reshape(softmax_kernel.softmax(_rows(x)), x._shape), x._shape, x.dtype, x._device)


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


# --- cumulative ----------------------------------------------------------------------------------------------------
def _running(a):
    """The dtype in which a running sum or product of `a` is kept: float64 for floats, as PyTorch does on the CPU."""
    return np.dtype(np.float64) if a.dtype.kind == "f" else a.dtype


@method("cumsum")
def cumsum(input, dim, *, dtype=None):
    """Running sum, computed on the host."""
    dt = dtype or (int64 if input.dtype._kind < 2 else input.dtype)
    x = input if input.dtype is dt else convert(input, dt)
    if x.ndim == 0:
        return x.clone()
    d = wrap_dim(dim, x.ndim)
    a = x.detach()._host()
    r = finish(np.cumsum(a, axis=d, dtype=_running(a)).astype(a.dtype), x._shape, dt, x._device)
    if x.requires_grad and _engine.state.grad:
        record((r,), (x,), lambda g: (flip(cumsum(flip(g, d), d), d),), "cumsum")
    return r


@method("cumprod")
def cumprod(input, dim, *, dtype=None):
    dt = dtype or (int64 if input.dtype._kind < 2 else input.dtype)
    x = input if input.dtype is dt else convert(input, dt)
    d = wrap_dim(dim, x.ndim)
    a = x.detach()._host()
    r = finish(np.cumprod(a, axis=d, dtype=_running(a)).astype(a.dtype), x._shape, dt, x._device)
    if x.requires_grad and _engine.state.grad:
        s, saved = x._snap(), _engine.SavedResult(r)
        record((r,), (x,), lambda g: (flip(cumsum(flip(g * saved.get(), d), d), d) / s,), "cumprod")
        saved.bind(r)
    return r


def _cum_extreme(name, f):
    result = namedtuple(f"{name}_return", ("values", "indices"))

    def op(input, dim):
        d = wrap_dim(dim, input.ndim)
        a = input.detach()._host()
        v = f.accumulate(a, axis=d)
        n = np.arange(a.shape[d]).reshape([-1 if i == d else 1 for i in range(a.ndim)])
        idx = np.maximum.accumulate(np.where(a == v, n, 0), axis=d)
        i = mk(idx.astype(np.int64), idx.shape, int64)
        return result(gather(input, d, i), i)

    method(name)(op)


_cum_extreme("cummax", np.maximum)
_cum_extreme("cummin", np.minimum)


@method("diff")
def diff(input, n=1, dim=-1):
    x = input
    for _ in range(n):
        k = x._shape[dim]
        x = x.narrow(dim, 1, k - 1) - x.narrow(dim, 0, k - 1)
    return x


# --- sorting and searching -----------------------------------------------------------------------------------------
_sort = namedtuple("sort_return", ("values", "indices"))
_topk = namedtuple("topk_return", ("values", "indices"))


@method("argsort")
def argsort(input, dim=-1, descending=False, stable=False):
    a = input.detach()._host()
    if a.ndim == 0:
        return mk(np.zeros((), np.int64), (), int64)
    if descending:  # stable in the original order, also downwards
        k = np.flip(np.argsort(np.flip(a, dim), axis=dim, kind="stable"), dim)
        k = a.shape[dim] - 1 - k
    else:
        k = np.argsort(a, axis=dim, kind="stable")
    return mk(k.astype(np.int64), k.shape, int64)


@method("sort")
def sort(input, dim=-1, descending=False, stable=False):
    i = argsort(input, dim, descending)
    return _sort(gather(input, dim, i), i)


@method("topk")
def topk(input, k, dim=-1, largest=True, sorted=True):
    d = wrap_dim(dim, input.ndim)
    if k > (input._shape[d] if input.ndim else 1):
        raise RuntimeError("selected index k out of range")
    i = argsort(input, d, largest).narrow(d, 0, k).clone()
    return _topk(gather(input, d, i), i)


@method("kthvalue")
def kthvalue(input, k, dim=-1, keepdim=False):
    i = argsort(input, dim).select(dim, k - 1).clone()
    return _sort(*_pick(input, dim, i, keepdim))


@method("median")
def median(input, dim=None, keepdim=False):
    if dim is None:
        return kthvalue(_reshape(input, (-1,)), (input.numel() + 1) // 2, 0)[0]
    return kthvalue(input, (input._shape[dim] + 1) // 2, dim, keepdim)


@method("quantile")
def quantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    qa = q._host() if isinstance(q, Tensor) else np.asarray(q, np.float64)
    r = np.quantile(input.detach()._host().astype(np.float64), qa.astype(np.float64), axis=dim, keepdims=keepdim,
                    method=interpolation)
    return finish(np.asarray(r, input.dtype.np), np.shape(r), input.dtype, input._device)


@method("searchsorted", attach=False)
def searchsorted(sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None):
    s = sorted_sequence._host()
    scalar = not isinstance(input, Tensor)
    v = np.asarray(input) if scalar else input.detach()._host()
    how = "right" if right or side == "right" else "left"
    if s.ndim == 1:
        r = np.searchsorted(s, v, how)
    else:
        r = np.stack([np.searchsorted(a, b, how) for a, b in zip(s.reshape(-1, s.shape[-1]),
                                                                 v.reshape(-1, v.shape[-1]))]).reshape(v.shape)
    from ._dtype import int32

    dt = int32 if out_int32 else int64
    r = np.asarray(r, dt.np)
    return mk(r, r.shape, dt)


@method("bucketize", attach=False)
def bucketize(input, boundaries, *, out_int32=False, right=False):
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@method("unique")
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    v, inv, cnt = np.unique(input._host(), return_inverse=True, return_counts=True, axis=dim)
    inv = inv.reshape(input._shape if dim is None else (-1,))
    out = [finish(v, v.shape, input.dtype, input._device)]
    if return_inverse:
        out.append(mk(inv.astype(np.int64), inv.shape, int64))
    if return_counts:
        out.append(mk(cnt.astype(np.int64), cnt.shape, int64))
    return out[0] if len(out) == 1 else tuple(out)


@method("unique_consecutive")
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    a = input._host().reshape(-1) if dim is None else input._host()
    if a.ndim != 1:
        raise NotImplementedError("torch.unique_consecutive over an axis is not implemented in torch on Jittor")
    new = np.concatenate([[True], a[1:] != a[:-1]]) if a.size else np.zeros(0, bool)
    v = a[new]
    inv = np.cumsum(new) - 1
    cnt = np.bincount(inv, minlength=v.size) if a.size else np.zeros(0, np.int64)
    out = [finish(v, v.shape, input.dtype, input._device)]
    if return_inverse:
        out.append(mk(inv.astype(np.int64), inv.shape, int64))
    if return_counts:
        out.append(mk(cnt.astype(np.int64), cnt.shape, int64))
    return out[0] if len(out) == 1 else tuple(out)


@method("bincount")
def bincount(input, weights=None, minlength=0):
    r = np.bincount(input._host(), None if weights is None else weights._host(), minlength)
    dt = int64 if weights is None else float64
    r = r.astype(dt.np)
    return mk(r, r.shape, dt)


@method("histc")
def histc(input, bins=100, min=0, max=0):
    a = input._host()
    lo, hi = (a.min(), a.max()) if min == max == 0 else (min, max)
    r = np.histogram(a, bins, (lo, hi))[0].astype(input.dtype.np)
    return mk(r, r.shape, input.dtype)


@method("isin", attach=False)
def isin(elements, test_elements, *, assume_unique=False, invert=False):
    e, t = (x._host() if isinstance(x, Tensor) else np.asarray(x) for x in (elements, test_elements))
    r = np.isin(e, t, invert=invert)
    return mk(np.asarray(r), r.shape, bool_)


def _same(input, other):
    return input._shape == other._shape


@method("equal")
def equal(input, other):
    return _same(input, other) and bool((input == other).all())


@method("isclose")
def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    close = (input == other) | ((input - other).abs() <= atol + rtol * other.abs()) & other.isfinite()
    return close | (input.isnan() & other.isnan()) if equal_nan else close


@method("allclose")
def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


_ = get_default_dtype
