"""Indexing: ``x[...]``, ``x[...] = v``, gather, scatter and their relatives.

Every advanced form is brought to one shape: rows of a 2-D table picked by a 1-D index (`_raw.take_rows`), so three
small kernels serve all of them.
"""

import numpy as np

from . import _engine, _raw, _raw_index
from ._dtype import Size, bool_, int64, uint8
from ._elementwise import finish
from ._ops_pointwise import convert
from ._ops_shape import _reshape, expand_to, movedim, permute, view_op
from ._tensor import Tensor, from_numpy_copy, mk

record = _engine.record


def _is_basic(i):
    return (isinstance(i, (slice, int, np.integer)) and not isinstance(i, (bool, np.bool_))) or i is None or i is Ellipsis


def _normalize(x, index):
    """Expand to a list of slices, ints, None and tensors that covers every axis of ``x``."""
    if not isinstance(index, tuple):
        if isinstance(index, list) and any(isinstance(i, (slice, Tensor, list, tuple)) or i is None for i in index):
            index = tuple(index)
        else:
            index = (index,)
    out, used = [], 0
    for i in index:
        if isinstance(i, Tensor) and i._shape == () and i.dtype._kind == 1:
            i = int(i.item())
        elif isinstance(i, (list, range)):
            i = from_numpy_copy(np.asarray(i, dtype=None if len(i) else np.int64))
        elif isinstance(i, np.ndarray):
            i = from_numpy_copy(i)
        elif isinstance(i, (bool, np.bool_)):
            i = mk(np.asarray(bool(i)), (), bool_)
        elif isinstance(i, np.integer):
            i = int(i)
        elif isinstance(i, slice):
            i = slice(*(int(v) if isinstance(v, (Tensor, np.integer)) else v for v in (i.start, i.stop, i.step)))
            if i.step is not None and i.step <= 0:
                raise ValueError("step must be greater than zero")
        if isinstance(i, Tensor):
            if i.dtype is uint8:
                i = i.bool()
            if i.dtype._kind > 1:
                raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
            used += i.ndim if i.dtype is bool_ else 1
        elif i is not None and i is not Ellipsis:
            if not isinstance(i, (int, slice)):
                raise TypeError(f"indices must be integers, slices, None, Ellipsis or tensors, not {type(i).__name__}")
            used += 1
        out.append(i)
    n = x.ndim
    if used > n:
        raise IndexError(f"too many indices for tensor of dimension {n}")
    if any(i is Ellipsis for i in out):
        k = next(k for k, i in enumerate(out) if i is Ellipsis)
        out[k:k + 1] = [slice(None)] * (n - used)
    else:
        out += [slice(None)] * (n - used)
    return out


def _check_ints(x, items):
    d, res = 0, []
    for i in items:
        if i is None:
            res.append(None)
            continue
        if isinstance(i, int):
            n = x._shape[d]
            if not -n <= i < n:
                raise IndexError(f"index {i} is out of bounds for dimension {d} with size {n}")
            i %= n
        res.append(i)
        d += 1
    return res


def _region(shape, items):
    """Shape and strides-free description of a basic index without None: the sliced shape."""
    return tuple(len(range(*i.indices(n))) for n, i in zip(shape, items) if isinstance(i, slice))


def get_basic(x, items):
    """Basic index; the result is a view."""
    items = _check_ints(x, items)
    core = tuple(i for i in items if i is not None)
    shape = _region(x._shape, core)
    v = _raw_index.getitem(x._data(), core) if x._shape else x._data()
    final, it = [], iter(shape)
    for i in items:
        if i is None:
            final.append(1)
        elif isinstance(i, slice):
            final.append(next(it))
    st, strides, d = x.stride(), [], 0
    for i in items:
        if i is None:
            strides.append(1)
        else:
            if isinstance(i, slice):
                strides.append(st[d] * (i.step or 1))
            d += 1
    if tuple(final) != shape:
        v = _raw.reshape(v, tuple(final))
    full, dt = x._shape, x.dtype

    def put(base, new):
        return set_basic(base, core, _reshape_plain(new, shape))

    def backward(g):
        zero = mk(_raw.full(full, 0, dt), full, dt, g._device)
        return (set_basic(zero, core, _reshape_plain(g, shape)),)

    return view_op(x, v, final, backward, lambda b: get_basic(b, items), put, "slice", tuple(strides))


def _reshape_plain(t, shape):
    return t if t._shape == tuple(shape) else _reshape(t, shape)


def set_basic(x, core, value):
    """``x`` (not changed) with the basic region replaced; differentiable in both."""
    value = value if value.dtype is x.dtype else convert(value, x.dtype)
    r = finish(_raw_index.setitem(x._data(), core, value._data()), x._shape, x.dtype, x._device)
    if _engine.needs(x, value):
        vs, gx, gv = value._shape, x.requires_grad, value.requires_grad

        def backward(g):
            a = b = None
            if gx:
                a = set_basic(g, core, mk(_raw.full(vs, 0, g.dtype), vs, g.dtype, g._device))
            if gv:
                b = _reshape_plain(get_basic(g, core), vs)
            return a, b

        record((r,), (x if gx else None, value if gv else None), backward, "slice_scatter")
    return r


def _advanced(x, items):
    """Split an index with tensors: (basic part to apply first, [(axis, index tensor)])."""
    basic, adv, d = [], [], 0
    for i in items:
        if isinstance(i, Tensor):
            if i.dtype is bool_:
                if i.ndim == 0:
                    raise NotImplementedError("indexing with a 0-dim boolean tensor is not implemented in torch on "
                                              "Jittor; use if or masked_select")
                for k, n in enumerate(i._shape):
                    axis = sum(b is not None and not isinstance(b, int) for b in basic)
                    if x._shape[axis] != n and all(isinstance(b, slice) for b in basic):
                        raise IndexError(f"The shape of the mask {list(i._shape)} at index {k} does not match the shape"
                                         f" of the indexed tensor {list(x._shape)} at index {axis}")
                    basic.append(slice(None))
                    adv.append((len(basic) - 1, None))
                nz = np.nonzero(i._host())
                for k, a in enumerate(nz):
                    adv[len(adv) - i.ndim + k] = (adv[len(adv) - i.ndim + k][0], mk(a.astype(np.int64), a.shape, int64))
            else:
                basic.append(slice(None))
                adv.append((len(basic) - 1, i))
        else:
            basic.append(i)
        d += 1
    # axis numbers after the basic index: ints vanish, None adds one
    where, k = {}, 0
    for pos, b in enumerate(basic):
        if not isinstance(b, int):
            where[pos] = k
            k += 1
    return basic, [(where[p], t) for p, t in adv]


def _plan(x, items):
    """(view y, axes, flat row index, index shape, first axis of the result)."""
    basic, adv = _advanced(x, items)
    y = x if all(isinstance(b, slice) and b == slice(None) for b in basic) else get_basic(x, basic)
    axes = [a for a, _ in adv]
    tensors = [t for _, t in adv]
    ishape = tensors[0]._shape
    from ._elementwise import broadcast_shape

    for t in tensors[1:]:
        ishape = broadcast_shape(ishape, t._shape)
    flat = None
    for a, t in adv:
        n = y._shape[a]
        v = t._data()
        if type(v) is np.ndarray:
            if v.size and (v.min() < -n or v.max() >= n):
                bad = v.min() if v.min() < -n else v.max()
                raise IndexError(f"index {bad} is out of bounds for dimension {a} with size {n}")
            t = mk(np.where(v < 0, v + n, v).astype(np.int64), t._shape, int64)
        else:
            t = (t + (t < 0).to(t.dtype) * n).to(int64)
        flat = t if flat is None else flat * n + t
    flat = expand_to(flat, ishape)
    contiguous = axes == list(range(axes[0], axes[0] + len(axes)))
    # advanced indices separated by a slice (or an int turned view) put their axes first
    first = axes[0] if contiguous and not _separated(items) else 0
    return y, axes, _reshape(flat, (-1,)) if flat.numel() else flat.reshape(0), ishape, first


def _separated(items):
    """Whether tensors (or ints, which count as advanced beside a tensor) are split by a slice or None."""
    kind = ["a" if isinstance(i, (Tensor, int)) else "s" for i in items]
    s = "".join(kind).strip("s")
    return "s" in s


def _table(y, axes):
    """``y`` with ``axes`` in front, as rows: (permuted tensor, 2-D reshape)."""
    rest = [d for d in range(y.ndim) if d not in axes]
    order = [*axes, *rest]
    p = y if order == list(range(y.ndim)) else permute(y, *order)
    rows = Size(y._shape[a] for a in axes).numel()
    width = Size(y._shape[d] for d in rest).numel()
    return p, (rows, width), [y._shape[d] for d in rest], order


def take(table, flat):
    """Rows ``flat`` (1-D integers) of a 2-D tensor; differentiable."""
    fv = flat._data()
    v = table._data()
    if type(v) is not np.ndarray and type(fv) is np.ndarray and flat.numel() > 1:
        fv = flat._var()
    r = finish(_raw_index.take_rows(v, fv), (flat._shape[0], table._shape[1]), table.dtype, table._device)
    if table.requires_grad and _engine.state.grad:
        shape, dt = table._shape, table.dtype

        def backward(g):
            zero = mk(_raw.full(shape, 0, dt), shape, dt, g._device)
            return (add_rows(zero, flat, g),)

        record((r,), (table,), backward, "index")
    return r


def add_rows(x, flat, values):
    r = finish(_raw_index.add_rows(x._data(), flat._data(), values._data()), x._shape, x.dtype, x._device)
    if _engine.needs(x, values):
        record((r,), (x, values), lambda g: (g, take(g, flat)), "index_add")
    return r


def put_rows(x, flat, values):
    r = finish(_raw_index.put_rows(x._data(), flat._data(), values._data()), x._shape, x.dtype, x._device)
    if _engine.needs(x, values):
        vs = values._shape

        def backward(g):
            zero = mk(_raw.full(vs, 0, g.dtype), vs, g.dtype, g._device)
            return put_rows(g, flat, zero), take(g, flat)

        record((r,), (x, values), backward, "index_put")
    return r


def _inserted(shape, index):
    """Sizes of ``x[index]`` where that only inserts axes, else None."""
    if index is None:
        return 1, *shape
    if type(index) is not tuple or None not in index:
        return None
    found, left = [], list(reversed(shape))
    for i in index:
        if i is None:
            found.append(1)
        elif type(i) is slice and i == _WHOLE and left:
            found.append(left.pop())
        else:
            return None
    return *found, *reversed(left)


_WHOLE = slice(None)


def get(x, index):
    """``x[index]``."""
    if (shape := _inserted(x._shape, index)) is not None:
        return _reshape(x, shape)
    items = _normalize(x, index)
    if not any(isinstance(i, Tensor) for i in items):
        return get_basic(x, items)
    y, axes, flat, ishape, first = _plan(x, items)
    p, two, rest, _ = _table(y, axes)
    if 0 in two or flat.numel() == 0:
        r = x.new_zeros((flat.numel(), two[1]))
    else:
        r = take(_reshape(p, two), flat)
    r = _reshape(r, (*ishape, *rest)).detach_view()
    if first:
        r = movedim(r, tuple(range(len(ishape))), tuple(range(first, first + len(ishape)))).detach_view()
    return r


def set_(x, index, value, accumulate=False):
    """``x[index] = value`` (or ``+=`` with repeated indices adding up), in place."""
    items = _normalize(x, index)
    if not isinstance(value, Tensor):
        value = from_numpy_copy(np.asarray(value)).to(x.dtype) if not isinstance(value, (int, float, bool)) else \
            mk(_raw.full((), value, x.dtype), (), x.dtype)
    if value.dtype is not x.dtype:
        value = convert(value, x.dtype)
    x._check_inplace()
    if not any(isinstance(i, Tensor) for i in items):
        items = _check_ints(x, items)
        core = tuple(i for i in items if i is not None)
        region = _region(x._shape, core)
        value = _fit(value, [1 if i is None else n for i, n in _with_sizes(items, region)])
        if x._shape == ():
            x._assign(_reshape(value, ()))
            return
        if 0 in region:
            return
        x._assign(set_basic(x._snap(), core, _reshape(value, region)))
        return
    y, axes, flat, ishape, first = _plan(x, items)
    if flat.numel() == 0:
        return
    p, two, rest, order = _table(y, axes)
    target = [*rest[:first], *ishape, *rest[first:]]
    value = _fit(value, target)
    if first:
        value = movedim(value, tuple(range(first, first + len(ishape))), tuple(range(len(ishape))))
    rows = _reshape(value, (flat._shape[0], two[1]))
    table = _reshape(p, two)
    new = add_rows(table, flat, rows) if accumulate else put_rows(table, flat, rows)
    inv = sorted(range(y.ndim), key=order.__getitem__)
    new = permute(_reshape(new, p._shape), *inv)
    if y is x:
        x._assign(new.detach_view())
    else:
        y._assign(new.detach_view())


def _with_sizes(items, region):
    it = iter(region)
    return [(i, next(it) if isinstance(i, slice) else 1) for i in items if not isinstance(i, int)]


def _fit(value, shape):
    """Broadcast an assigned value; leading axes of size 1 may be surplus."""
    while value.ndim > len(shape) and value._shape[0] == 1:
        value = _reshape(value, value._shape[1:])
    try:
        return expand_to(value, tuple(shape))
    except RuntimeError:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(value._shape)} cannot be broadcast to indexing "
                           f"result of shape {list(shape)}") from None


Tensor.__getitem__ = get
Tensor.__setitem__ = set_
