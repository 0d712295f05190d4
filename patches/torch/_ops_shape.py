"""Shape operations. Those that are views in PyTorch are views here: writes through them reach their base."""

import functools

import numpy as np

from . import _engine, _raw
from ._dtype import Size, dtype
from ._tensor import Tensor, method, mk
from ._tensor_facts import contiguous_strides

record = _engine.record


def dims_arg(args):
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = args[0]
    return tuple([int(a) for a in args])


def wrap_dim(d, n):
    """Axis number from 0 of a possibly negative axis. Raises IndexError out of range."""
    lim = max(n, 1)
    if not -lim <= d < lim:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-lim}, {lim - 1}], but got {d})")
    return d % lim


def view_op(x, v, shape, bw, make, put, name, strides=None):
    """A result that shares its data with ``x``."""
    r = mk(v, shape, x.dtype, x._device)
    if x._rg and _engine.state.grad:
        record((r,), (x,), bw, name)
    return r._mark_view(x, make, put, False, strides)


def _full_shape(shape, n):
    shape = list(shape)
    if -1 in shape:
        i = shape.index(-1)
        rest = 1
        for k, s in enumerate(shape):
            if k != i:
                rest *= s
        if rest == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {shape} because the unspecified "
                               "dimension size -1 can be any value and is ambiguous")
        shape[i] = n // rest
    total = 1
    for s in shape:
        total *= s
    if total != n:
        raise RuntimeError(f"shape '{shape}' is invalid for input of size {n}")
    return Size(shape)


def _view_strides(old, steps, shape):
    """Strides of a reshape of a tensor with sizes ``old`` and strides ``steps`` (None: contiguous, and so is the result);
    False where PyTorch would have to copy."""
    if steps is None or 0 in old or not old:
        return None
    # From the last axis on: axes of `old` that lie as one run of numbers are divided among axes of `shape`.
    found, at = [0] * len(shape), len(shape) - 1
    run, have, given = steps[-1], 1, 1
    for d in range(len(old) - 1, -1, -1):
        have *= old[d]
        if d and (old[d - 1] == 1 or steps[d - 1] == have * run):
            continue
        while at >= 0 and (given < have or shape[at] == 1):
            found[at] = given * run
            given *= shape[at]
            at -= 1
        if given != have:
            return False
        run, have, given = steps[d - 1], 1, 1
    return tuple(found)


@functools.lru_cache(8192)
def _reshaped(old, steps, shape):
    """(sizes, strides as in `_view_strides`) of a reshape to ``shape``, one of which may be -1."""
    count = 1
    for s in old:
        count *= s
    full = _full_shape(shape, count)
    return full, _view_strides(tuple(old), steps, tuple(full))


def _reshape(x, shape, copy_ok=True):
    if x._base is not None:
        x._sync_view()
    old = x._shape
    shape, strides = _reshaped(old, x._strides, tuple(shape))
    v = x._v if shape == old else _raw.reshape(x._v, shape)
    if strides is False:
        r = mk(v, shape, x.dtype, x._device)
        if x._rg and _engine.state.grad:
            record((r,), (x,), lambda g: (g.reshape(old),), "reshape")
        return r
    return view_op(x, v, shape, lambda g: (g.reshape(old),), lambda b: _reshape(b, shape),
                   lambda b, new: _plain(new, old), "view", strides)


def _plain(t, shape):
    """Reshape without view bookkeeping, on the tape."""
    r = mk(_raw.reshape(t._data(), shape), shape, t.dtype, t._device)
    old = t._shape
    if t._rg and _engine.state.grad:
        record((r,), (t,), lambda g: (g.reshape(old),), "view")
    return r


@method("reshape")
def reshape(input, *dims, shape=None):
    return _reshape(input, dims_arg(dims if shape is None else (shape,)))


@method("view", function=False)
def view(self, *shape):
    if shape and isinstance(shape[0], dtype):
        return _view_dtype(self, shape[0])
    return _reshape(self, dims_arg(shape))


def _view_dtype(x, dt):
    if dt is x.dtype:
        return x
    from ._dtype import bfloat16
    from ._tensor import from_bits_bf16, from_numpy_copy, to_bits_bf16

    a = to_bits_bf16(x) if x.dtype is bfloat16 else np.ascontiguousarray(x._host())
    r = from_bits_bf16(a.view(np.uint16)) if dt is bfloat16 else from_numpy_copy(a.view(dt.np))
    return r._mark_view(x, lambda b: _view_dtype(b, dt), None)


method("view_as", function=False)(lambda self, other: _reshape(self, other._shape))
method("reshape_as", function=False)(lambda self, other: _reshape(self, other._shape))


@method("flatten")
def flatten(input, start_dim=0, end_dim=-1):
    n = len(input._shape)
    if n == 0:
        return _reshape(input, (1,))
    s, e = wrap_dim(start_dim, n), wrap_dim(end_dim, n)
    sh = input._shape
    return _reshape(input, (*sh[:s], Size(sh[s:e + 1]).numel(), *sh[e + 1:]))


@method("unflatten")
def unflatten(input, dim, sizes):
    d = wrap_dim(dim, input.ndim)
    inner = _full_shape(sizes, input._shape[d])
    return _reshape(input, (*input._shape[:d], *inner, *input._shape[d + 1:]))


@method("ravel")
def ravel(input):
    return _reshape(input, (-1,)) if input.numel() else _reshape(input, (0,))


@method("squeeze")
def squeeze(input, dim=None):
    sh = input._shape
    if dim is None:
        keep = [s for s in sh if s != 1]
    else:
        ds = {wrap_dim(d, len(sh)) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))}
        keep = [s for i, s in enumerate(sh) if not (i in ds and s == 1)]
    return _reshape(input, keep)


@method("unsqueeze")
def unsqueeze(input, dim):
    d = wrap_dim(dim, len(input._shape) + 1)
    return _reshape(input, (*input._shape[:d], 1, *input._shape[d:]))


@method("permute")
def permute(input, *dims):
    x = input
    dims, inv, shape, strides = _permuted(tuple(x._shape), x._strides, dims_arg(dims))
    source, order = stored_order(x)
    order = tuple([order[d] for d in dims])
    r = view_op(x, _raw.transpose(source, order) if dims else source, shape,
                lambda g: (permute(g, inv),), lambda b: permute(b, dims), lambda b, new: permute(new, inv), "permute",
                strides)
    return with_order(r, source, order)


@functools.lru_cache(8192)
def _permuted(shape, steps, dims):
    """(dims from 0 on, their inverse, sizes, strides) of a permutation of a tensor; ``steps`` None: contiguous."""
    n = len(shape)
    if len(dims) != n:
        raise RuntimeError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of"
                           f" the desired ordering of dimensions i.e. input.dim() = {n} is not equal to len(dims) = "
                           f"{len(dims)}")
    dims = tuple([d if 0 <= d < n else wrap_dim(d, n) for d in dims])
    steps = contiguous_strides(shape) if steps is None else steps
    return (dims, tuple(sorted(range(n), key=dims.__getitem__)), Size([shape[d] for d in dims]),
            tuple([steps[d] for d in dims]))


Tensor._stored = None  # (data, source, order), see `stored_order`
_AXES = [tuple(range(n)) for n in range(8)]


def stored_order(x):
    """Data ``source`` and an order of axes such that x's data is ``source`` with its axes in this order.

    Data never changes, it is only replaced: what was noted about x's data holds as long as x still has that data. So
    a permutation of a permutation starts from the source, one that undoes another gives the source itself, and
    kernels that take strides read the source; the transposed copy, which Jittor makes on demand, is never made.
    """
    v = x._data()
    if x._stored is not None and x._stored[0] is v:
        return x._stored[1:]
    return v, _AXES[len(x._shape)] if len(x._shape) < len(_AXES) else tuple(range(len(x._shape)))


def with_order(x, source, order):
    """Note that x's data is ``source`` with its axes in this order. Returns x."""
    if type(source) is _raw.Var and (len(order) >= len(_AXES) or order != _AXES[len(order)]):
        x._stored = (x._v, source, order)
    return x


@method("transpose", "swapaxes", "swapdims")
def transpose(input, dim0, dim1):
    n = len(input._shape)
    a, b = wrap_dim(dim0, n), wrap_dim(dim1, n)
    order = list(range(n))
    if n:
        order[a], order[b] = order[b], order[a]
    return permute(input, order)


@method("t")
def t(input):
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return transpose(input, 0, 1) if input.ndim == 2 else input


Tensor.T = property(lambda self: permute(self, *reversed(range(self.ndim))))
Tensor.mT = property(lambda self: transpose(self, -2, -1))
Tensor.H = property(lambda self: transpose(self, -2, -1))


@method("movedim", "moveaxis")
def movedim(input, source, destination):
    n = input.ndim
    src = [wrap_dim(d, n) for d in (source if isinstance(source, (tuple, list)) else (source,))]
    dst = [wrap_dim(d, n) for d in (destination if isinstance(destination, (tuple, list)) else (destination,))]
    order = [d for d in range(n) if d not in src]
    for d, s in sorted(zip(dst, src)):
        order.insert(d, s)
    return permute(input, *order)


def expand_to(x, shape):
    sh = x._shape
    lead = len(shape) - len(sh)
    out = []
    for i, s in enumerate(shape):
        have = sh[i - lead] if i >= lead else 1
        if s == -1:
            s = have
        if have != s and have != 1:
            raise RuntimeError(f"The expanded size of the tensor ({s}) must match the existing size ({have}) at "
                               f"non-singleton dimension {i}.  Target sizes: {list(shape)}.  Tensor sizes: {list(sh)}")
        out.append(s)
    st = x.stride()
    strides = tuple(0 if i < lead or (sh[i - lead] == 1 and s != 1) else st[i - lead] for i, s in enumerate(out))
    out = Size(out)
    if out == sh:
        return view_op(x, x._data(), sh, lambda g: (g,), lambda b: expand_to(b, out), lambda b, new: new, "expand",
                       x._strides)
    return view_op(x, _raw.expand(x._data(), out), out, lambda g: (_sum_to(g, sh),), lambda b: expand_to(b, out),
                   None if out.numel() != x.numel() else lambda b, new: _plain(new, sh), "expand", strides)


def _sum_to(g, shape):
    from ._elementwise import sum_to

    return sum_to(g, shape)


method("expand", function=False)(lambda self, *size: expand_to(self, dims_arg(size)))
method("expand_as", function=False)(lambda self, other: expand_to(self, other._shape))
method("broadcast_to")(lambda input, size: expand_to(input, tuple(size)))


@method("broadcast_tensors", attach=False)
def broadcast_tensors(*tensors):
    from ._elementwise import broadcast_shape

    shape = tensors[0]._shape
    for x in tensors[1:]:
        shape = broadcast_shape(shape, x._shape)
    return tuple(expand_to(x, shape) for x in tensors)


@method("broadcast_shapes", attach=False)
def broadcast_shapes(*shapes):
    from ._elementwise import broadcast_shape

    out = Size(())
    for s in shapes:
        out = broadcast_shape(out, Size((s,) if isinstance(s, int) else s))
    return out


@method("repeat", function=False)
def repeat(self, *sizes):
    sizes = dims_arg(sizes)
    if len(sizes) < self.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    sh = (1,) * (len(sizes) - self.ndim) + tuple(self._shape)
    x = _reshape(self, sh)
    inter = [v for s in sh for v in (1, s)]
    big = [v for r, s in zip(sizes, sh) for v in (r, s)]
    return _reshape(expand_to(_reshape(x, inter), big), [r * s for r, s in zip(sizes, sh)]).detach_view()


def _detach_view(self):
    """Cut the link to the base: the result counts as a copy."""
    self._sync_view()
    self._base = self._view = self._vc = self._strides = None
    return self


Tensor.detach_view = _detach_view


@method("tile")
def tile(input, *dims):
    dims = dims_arg(dims)
    return repeat(input, *((1,) * (input.ndim - len(dims)) + dims))


@method("repeat_interleave")
def repeat_interleave(input, repeats, dim=None, *, output_size=None):
    x = flatten(input) if dim is None else input
    d = 0 if dim is None else wrap_dim(dim, x.ndim)
    if isinstance(repeats, Tensor) and repeats.numel() > 1:
        idx = np.repeat(np.arange(x._shape[d]), repeats._host())
        return x.index_select(d, mk(idx, idx.shape, _int64()))
    r = int(repeats)
    y = expand_to(unsqueeze(x, d + 1), (*x._shape[:d + 1], r, *x._shape[d + 1:]))
    return _reshape(y, (*x._shape[:d], x._shape[d] * r, *x._shape[d + 1:])).detach_view()


def _int64():
    from ._dtype import int64

    return int64
