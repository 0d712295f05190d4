"""Running sums and products, sorting, searching, counting, comparison of whole tensors."""

from collections import namedtuple

import numpy as np

from . import _engine
from ._dtype import bool_, float64, int64
from ._elementwise import finish
from ._ops_join import flip
from ._ops_pointwise import convert
from ._ops_reduce import _pick
from ._ops_scatter import gather
from ._ops_shape import _reshape, wrap_dim
from ._tensor import Tensor, method, mk

record = _engine.record

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
        i = mk(idx.astype(np.int64), idx.shape, int64, input._device)
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
        return mk(np.zeros((), np.int64), (), int64, input._device)
    if descending:  # stable in the original order, also downwards
        k = np.flip(np.argsort(np.flip(a, dim), axis=dim, kind="stable"), dim)
        k = a.shape[dim] - 1 - k
    else:
        k = np.argsort(a, axis=dim, kind="stable")
    return mk(k.astype(np.int64), k.shape, int64, input._device)


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
    return mk(r, r.shape, dt, sorted_sequence._device)


@method("bucketize", attach=False)
def bucketize(input, boundaries, *, out_int32=False, right=False):
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def _unique_result(x, values, inverse, counts):
    """The values, and behind them what else was asked for."""
    extra = tuple(mk(a.astype(np.int64), a.shape, int64, x._device) for a in (inverse, counts) if a is not None)
    values = finish(values, values.shape, x.dtype, x._device)
    return (values, *extra) if extra else values


@method("unique")
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    v, inv, cnt = np.unique(input._host(), return_inverse=True, return_counts=True, axis=dim)
    inv = inv.reshape(input._shape if dim is None else (-1,))
    return _unique_result(input, v, inv if return_inverse else None, cnt if return_counts else None)


@method("unique_consecutive")
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    a = input._host().reshape(-1) if dim is None else input._host()
    if a.ndim != 1:
        raise NotImplementedError("torch.unique_consecutive over an axis is not implemented in torch on Jittor")
    new = np.concatenate([[True], a[1:] != a[:-1]]) if a.size else np.zeros(0, bool)
    v = a[new]
    inv = np.cumsum(new) - 1
    cnt = np.bincount(inv, minlength=v.size) if a.size else np.zeros(0, np.int64)
    return _unique_result(input, v, inv if return_inverse else None, cnt if return_counts else None)


@method("bincount")
def bincount(input, weights=None, minlength=0):
    r = np.bincount(input._host(), None if weights is None else weights._host(), minlength)
    dt = int64 if weights is None else float64
    r = r.astype(dt.np)
    return mk(r, r.shape, dt, input._device)


@method("histc")
def histc(input, bins=100, min=0, max=0):
    a = input._host()
    lo, hi = (a.min(), a.max()) if min == max == 0 else (min, max)
    r = np.histogram(a, bins, (lo, hi))[0].astype(input.dtype.np)
    return mk(r, r.shape, input.dtype, input._device)


@method("isin", attach=False)
def isin(elements, test_elements, *, assume_unique=False, invert=False):
    e, t = (x._host() if isinstance(x, Tensor) else np.asarray(x) for x in (elements, test_elements))
    r = np.isin(e, t, invert=invert)
    return mk(np.asarray(r), r.shape, bool_, elements._device if isinstance(elements, Tensor) else test_elements._device)


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


