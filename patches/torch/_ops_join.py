"""Joining, splitting, flipping and placing on diagonals."""

import numpy as np

from . import _engine, _raw
from ._dtype import bool_, promote_types
from ._elementwise import finish
from ._ops_pointwise import convert
from ._ops_shape import (
    _int64,
    _reshape,
    dims_arg,
    expand_to,
    flatten,
    movedim,
    transpose,
    unsqueeze,
    wrap_dim,
)
from ._tensor import Tensor, method, mk, same_device

record = _engine.record


@method("cat", "concat", "concatenate", attach=False)
def cat(tensors, dim=0, *, axis=None, out=None):
    dim = dim if axis is None else axis
    ts = [x for x in tensors if x._shape != (0,)] or [tensors[0]]
    n = ts[0].ndim
    d = wrap_dim(dim, n)
    dt, place = tensors[0].dtype, ts[0]._device
    for x in tensors:
        dt = promote_types(dt, x.dtype)
        if x._device is not place and x._shape != (0,):
            same_device(*ts)
    for x in ts[1:]:
        if x.ndim != n or any(i != d and a != b for i, (a, b) in enumerate(zip(x._shape, ts[0]._shape))):
            raise RuntimeError(f"Sizes of tensors must match except in dimension {d}. Expected {list(ts[0]._shape)} but "
                               f"got {list(x._shape)}")
    ts = [x if x.dtype is dt else convert(x, dt) for x in ts]
    sizes = [x._shape[d] for x in ts]
    shape = (*ts[0]._shape[:d], sum(sizes), *ts[0]._shape[d + 1:])
    live = [x for x in ts if x.numel()] or ts[:1]
    r = finish(_raw.concat([x._data() for x in live], d) if len(live) > 1 else live[0]._data(), shape, dt,
               ts[0]._device)
    if _engine.needs(*ts):
        need = [x.requires_grad for x in ts]

        def backward(g):
            outs, at = [], 0
            for nd, s in zip(need, sizes):
                outs.append(narrow(g, d, at, s) if nd else None)
                at += s
            return tuple(outs)

        record((r,), tuple(x if nd else None for x, nd in zip(ts, need)), backward, "cat")
    return r if out is None else out._inplace(r)


@method("stack", attach=False)
def stack(tensors, dim=0, *, axis=None, out=None):
    dim = dim if axis is None else axis
    d = wrap_dim(dim, tensors[0].ndim + 1)
    for i, x in enumerate(tensors):
        if x._shape != tensors[0]._shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(tensors[0]._shape)} at entry "
                               f"0 and {list(x._shape)} at entry {i}")
    return cat([unsqueeze(x, d) for x in tensors], d, out=out)


method("hstack", attach=False)(lambda tensors: cat([atleast_1d(x) for x in tensors], 0 if tensors[0].ndim < 2 else 1))
method("vstack", "row_stack", attach=False)(
    lambda tensors: cat([x if x.ndim > 1 else _reshape(x, (1, -1)) for x in tensors], 0))
atleast_1d = method("atleast_1d", attach=False)(lambda x: x if x.ndim else _reshape(x, (1,)))


@method("narrow")
def narrow(input, dim, start, length):
    d = wrap_dim(dim, input.ndim)
    start = int(start)
    if start < 0:
        start += input._shape[d]
    if start + length > input._shape[d]:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({input._shape[d]}).")
    return input[(slice(None),) * d + (slice(start, start + length),)]


@method("select")
def select(input, dim, index):
    return input[(slice(None),) * wrap_dim(dim, input.ndim) + (int(index),)]


@method("split")
def split(input, split_size_or_sections=None, dim=0, *, split_size=None):
    s = split_size_or_sections if split_size is None else split_size
    d = wrap_dim(dim, input.ndim)
    n = input._shape[d]
    if isinstance(s, int):
        sizes = [min(s, n - i) for i in range(0, n, s)] or [0]
    else:
        sizes = list(s)
        if sum(sizes) != n:
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                               f"dimension {d}), but got split_sizes={sizes}")
    out, at = [], 0
    for k in sizes:
        out.append(narrow(input, d, at, k))
        at += k
    return tuple(out)


method("split_with_sizes")(lambda input, split_sizes, dim=0: split(input, list(split_sizes), dim))


@method("chunk")
def chunk(input, chunks, dim=0):
    n = input._shape[wrap_dim(dim, input.ndim)]
    return split(input, max(1, -(-n // chunks)), dim)


@method("tensor_split")
def tensor_split(input, indices_or_sections, dim=0):
    n = input._shape[wrap_dim(dim, input.ndim)]
    if isinstance(indices_or_sections, int):
        k = indices_or_sections
        sizes = [n // k + (i < n % k) for i in range(k)]
    else:
        cuts = [0, *indices_or_sections, n]
        sizes = [b - a for a, b in zip(cuts, cuts[1:])]
    return split(input, sizes, dim)


@method("unbind")
def unbind(input, dim=0):
    d = wrap_dim(dim, input.ndim)
    return tuple(input[(slice(None),) * d + (i,)] for i in range(input._shape[d]))


@method("flip")
def flip(input, *dims):
    ds = {wrap_dim(d, input.ndim) for d in dims_arg(dims)}
    from ._ops_index import get_basic

    return get_basic(input, tuple(slice(None, None, -1) if i in ds else slice(None) for i in range(input.ndim)),
                     ).detach_view()


method("fliplr")(lambda input: flip(input, 1))
method("flipud")(lambda input: flip(input, 0))


@method("roll")
def roll(input, shifts, dims=None):
    if dims is None:
        return _reshape(roll(flatten(input), shifts, 0), input._shape)
    x = input
    for s, d in zip(*((v if isinstance(v, (tuple, list)) else (v,)) for v in (shifts, dims))):
        n = x._shape[wrap_dim(d, x.ndim)]
        s = s % n if n else 0
        if s:
            x = cat([narrow(x, d, n - s, s), narrow(x, d, 0, n - s)], d)
    return x if x is not input else input.clone()


@method("rot90")
def rot90(input, k=1, dims=(0, 1)):
    a, b = dims
    k %= 4
    if k == 0:
        return input.clone()
    if k == 2:
        return flip(input, a, b)
    return flip(transpose(input, a, b), a) if k == 1 else transpose(flip(input, a), a, b)


@method("meshgrid", attach=False)
def meshgrid(*tensors, indexing="ij"):
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tensors[0]
    n = len(tensors)
    order = list(range(n))
    if indexing == "xy" and n > 1:
        order[0], order[1] = 1, 0
    shape = [tensors[o].numel() for o in order]
    return tuple(expand_to(_reshape(x, [-1 if order[k] == i else 1 for k in range(n)]), shape)
                 for i, x in enumerate(tensors))


@method("unfold", function=False)
def unfold(self, dimension, size, step):
    d = wrap_dim(dimension, self.ndim)
    n = (self._shape[d] - size) // step + 1
    parts = [narrow(self, d, i * step, size) for i in range(n)]
    return movedim(stack(parts, d), d + 1, -1)


@method("diagonal")
def diagonal(input, offset=0, dim1=0, dim2=1):
    x = movedim(input, (dim1, dim2), (-2, -1))
    n, m = x._shape[-2:]
    k = max(0, min(n, m - offset) if offset >= 0 else min(n + offset, m))
    i = np.arange(k) + max(0, -offset)
    j = np.arange(k) + max(0, offset)
    flat = _reshape(x, (*x._shape[:-2], n * m))
    r = flat.index_select(-1, mk(i * m + j, (k,), _int64()))
    return r._mark_view(input, lambda b: diagonal(b, offset, dim1, dim2), None)


@method("diag")
def diag(input, diagonal=0):
    if input.ndim == 2:
        return Tensor.diagonal(input, diagonal).clone()
    return diag_embed(input, diagonal)


@method("diag_embed")
def diag_embed(input, offset=0):
    n = input._shape[-1] + abs(offset)
    eye = np.eye(input._shape[-1], n, offset) if offset >= 0 else np.eye(n, n)[:, :input._shape[-1]]
    if offset >= 0:
        eye = np.concatenate([eye, np.zeros((n - input._shape[-1], n))]) if offset else eye
        x = cat([input, input.new_zeros((*input._shape[:-1], offset))], -1) if offset else input
        return unsqueeze(x, -1) * mk(eye.astype(bool), eye.shape, bool_, input._device)
    k = -offset
    x = cat([input.new_zeros((*input._shape[:-1], k)), input], -1)
    m = np.eye(n, n, -k).astype(bool)
    return unsqueeze(x, -1) * mk(m, m.shape, bool_, input._device)


@method("block_diag", attach=False)
def block_diag(*tensors):
    """Matrices (or vectors, or numbers) along the diagonal of a larger one, zeros elsewhere."""
    mats = [_reshape(x, (1, -1)) if x.ndim < 2 else x for x in tensors]
    width = sum(m._shape[1] for m in mats)
    rows, at = [], 0
    for m in mats:
        n, k = m._shape
        rows.append(cat([m.new_zeros((n, at)), m, m.new_zeros((n, width - at - k))], 1))
        at += k
    return cat(rows, 0)
