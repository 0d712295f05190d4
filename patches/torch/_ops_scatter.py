"""Indexing by name: index_put, index_select, masked_select, gather, scatter and their relatives."""

import numpy as np

from . import _raw
from ._dtype import Size, int64
from ._ops_index import add_rows, get, get_basic, put_rows, set_, take
from ._ops_pointwise import convert
from ._ops_shape import _reshape, broadcast_tensors, expand_to, wrap_dim
from ._tensor import Tensor, method, mk


@method("index_put_", function=False)
def index_put_(self, indices, values, accumulate=False):
    set_(self, tuple(indices), values, accumulate)
    return self


@method("index_put")
def index_put(input, indices, values, accumulate=False):
    return index_put_(input.clone(), indices, values, accumulate)


@method("index_select")
def index_select(input, dim, index):
    d = wrap_dim(dim, input.ndim)
    return get(input, (slice(None),) * d + (index if index.ndim else _reshape(index, (1,)),))


@method("take")
def take_flat(input, index):
    return get(_reshape(input, (-1,)), index)


@method("masked_select")
def masked_select(input, mask):
    x, m = broadcast_tensors(input, mask)
    return get(x, m)


@method("masked_scatter")
def masked_scatter(input, mask, source):
    r = input.clone()
    m = expand_to(mask, input._shape)
    set_(r, m, _reshape(source, (-1,))[:int(m.sum())])
    return r


def _linear(x, d, index):
    """Flat positions that ``index`` (as in gather along ``d``) addresses in contiguous ``x``."""
    n = x._shape[d]
    v = index._data()
    if type(v) is np.ndarray and v.size and (v.min() < 0 or v.max() >= n):
        raise RuntimeError(f"index {v.min() if v.min() < 0 else v.max()} is out of bounds for dimension {d} with size "
                           f"{n}")
    grids = np.ogrid[tuple(slice(0, s) for s in index._shape)] if index.ndim else []
    strides = [Size(x._shape[k + 1:]).numel() for k in range(x.ndim)]
    base = sum((g * s for k, (g, s) in enumerate(zip(grids, strides)) if k != d), np.zeros((1,) * index.ndim, np.int64))
    base = np.asarray(base, np.int64)
    return _reshape(index.to(int64) * strides[d] + mk(base, base.shape, int64, index._device), (-1,))


@method("gather")
def gather(input, dim, index, *, sparse_grad=False):
    if input.ndim == 0:
        return expand_to(input, index._shape).clone()
    d = wrap_dim(dim, input.ndim)
    if index.numel() == 0:
        return input.new_zeros(index._shape)
    flat = _linear(input, d, index)
    return _reshape(take(_reshape(input, (-1, 1)), flat), index._shape).detach_view()


method("take_along_dim")(lambda input, indices, dim: gather(input, dim, indices))


def _scatter(input, dim, index, src, reduce):
    d = wrap_dim(dim, input.ndim)
    if not isinstance(src, Tensor):
        src = mk(_raw.full(index._shape, src, input.dtype), index._shape, input.dtype, input._device)
    elif src._shape != index._shape:
        src = get_basic(src, [slice(0, n) for n in index._shape])
    if index.numel() == 0:
        return input.clone()
    f = add_rows if reduce == "add" else put_rows
    r = f(_reshape(input, (-1, 1)), _linear(input, d, index), _reshape(convert(src, input.dtype), (-1, 1)))
    return _reshape(r, input._shape).detach_view()


@method("scatter")
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    if reduce not in (None, "add"):
        raise NotImplementedError(f"torch.scatter with reduce={reduce!r} is not implemented in torch on Jittor")
    return _scatter(input, dim, index, value if src is None else src, reduce)


@method("scatter_", function=False)
def scatter_(self, dim, index, src=None, *, value=None, reduce=None):
    return self._inplace(scatter(self._snap(), dim, index, src, value=value, reduce=reduce))


method("scatter_add")(lambda input, dim, index, src: _scatter(input, dim, index, src, "add"))
method("scatter_add_", function=False)(lambda self, dim, index, src: self._inplace(
    _scatter(self._snap(), dim, index, src, "add")))


@method("index_add")
def index_add(input, dim, index, source, *, alpha=1):
    r = input.clone()
    d = wrap_dim(dim, input.ndim)
    set_(r, (slice(None),) * d + (index,), source * alpha if alpha != 1 else source, accumulate=True)
    return r


@method("index_copy")
def index_copy(input, dim, index, source):
    r = input.clone()
    set_(r, (slice(None),) * wrap_dim(dim, input.ndim) + (index,), source)
    return r


@method("index_fill")
def index_fill(input, dim, index, value):
    r = input.clone()
    set_(r, (slice(None),) * wrap_dim(dim, input.ndim) + (index,), value)
    return r



for _n, _f in (("index_add_", index_add), ("index_copy_", index_copy), ("index_fill_", index_fill),
               ("masked_scatter_", masked_scatter)):
    setattr(Tensor, _n, lambda self, *a, _f=_f, **k: self._inplace(_f(self._snap(), *a, **k)))


@method("nonzero")
def nonzero(input, *, as_tuple=False):
    nz = np.nonzero(input._host())
    if as_tuple:
        return tuple(mk(a.astype(np.int64), a.shape, int64, input._device) for a in nz)
    a = np.stack(nz, 1).astype(np.int64) if input.ndim else np.zeros((int(bool(input)), 0), np.int64)
    return mk(a, a.shape, int64, input._device)


method("argwhere")(lambda input: nonzero(input))
