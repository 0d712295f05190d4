"""Data-level indexing: basic regions, and rows of a table picked, added or replaced by an index."""

import numpy as np
from jtorch.kernels import active

from ._raw import jt, ndarray, to_var


def getitem(x, index):
    """Basic indexing by a tuple of slices and ints that covers every axis in order (no None, no Ellipsis)."""
    if type(x) is ndarray:
        return np.asarray(x[index])
    out = []
    for n, i in zip(x.shape, index):
        if isinstance(i, slice):
            start, stop, step = i.indices(n)
            length = len(range(start, stop, step))
            out.append((start, length, step))
        else:
            out.append((i, 0, 1))
    if any(isinstance(i, slice) and length == 0 for i, (_, length, _) in zip(index, out)):
        shape = tuple(length for i, (_, length, _) in zip(index, out) if isinstance(i, slice))
        return to_var(np.zeros(shape, np.float32)).cast(x.dtype) if shape else x
    slices = tuple(slice(s, s + length * st if st > 0 else None, st) if isinstance(i, slice) else slice(s, s + 1, 1)
                   for i, (s, length, st) in zip(index, out))
    y = x
    if any((s, length, st) != (0, n, 1) for n, (s, length, st) in zip(x.shape, out)):
        # a negative step is an index table: Jittor's slices go forward only
        flips = [d for d, (_, _, st) in enumerate(out) if st < 0]
        if flips:
            y = jt.getitem(x, tuple(slice(None) if d in flips else s for d, s in enumerate(slices)))
            for d in flips:
                s, length, st = out[d]
                idx = jt.array((s + np.arange(length) * st).astype(np.int64))
                y = jt.getitem(y, (slice(None),) * d + (idx,))
        else:
            y = jt.getitem(x, slices)
    shape = tuple(length for i, (_, length, _) in zip(index, out) if isinstance(i, slice))
    if tuple(y.shape) != (shape or (1,)):
        y = jt.reshape(y, shape or (1,))
    return y


def setitem(x, index, value):
    """A copy of ``x`` with the basic index region replaced by ``value`` (same dtype, shape of the region)."""
    if type(x) is ndarray and type(value) is ndarray:
        y = x.copy()
        y[index] = value
        return y
    x, value = to_var(x), to_var(value)
    norm, vshape, flips = [], [], []
    for n, i in zip(x.shape, index):
        if isinstance(i, slice):
            start, stop, step = i.indices(n)
            length = len(range(start, stop, step))
            if length == 0:
                return x
            if step < 0:
                flips.append(len(vshape))
                start, step = start + (length - 1) * step, -step
            norm.append(slice(start, start + (length - 1) * step + 1, step))
            vshape.append(length)
        else:
            norm.append(slice(i, i + 1, 1))
            vshape.append(1)
    value = jt.reshape(value, tuple(vshape))
    for d in flips:
        value = getitem(value, tuple(slice(None, None, -1) if k == d else slice(None) for k in range(len(vshape))))
    return x.clone().setitem(tuple(norm), value)


def _index(idx, n):
    if type(idx) is ndarray:
        if idx.size and (idx.min() < -n or idx.max() >= n):
            bad = idx.min() if idx.min() < -n else idx.max()
            raise IndexError(f"index {bad} is out of bounds for dimension with size {n}")
    return to_var(idx)


def take_rows(x, idx):
    """``x[idx]`` for 2-D ``x`` and 1-D integer ``idx``. Raises IndexError if a host index is out of range."""
    if type(x) is ndarray and type(idx) is ndarray:
        return x[idx]
    x = to_var(x)
    idx = _index(idx, x.shape[0])
    return active.take_rows(x, idx)


def add_rows(x, idx, values):
    """``x`` with ``values[r]`` added to row ``idx[r]``; repeated rows accumulate in order."""
    if type(x) is ndarray and type(idx) is ndarray and type(values) is ndarray:
        y = x.copy()
        np.add.at(y, idx, values)
        return y
    x = to_var(x)
    return active.give_rows(x, _index(idx, x.shape[0]), to_var(values), True)


def put_rows(x, idx, values):
    """``x`` with row ``idx[r]`` replaced by ``values[r]``; the last of repeated rows wins."""
    if type(x) is ndarray and type(idx) is ndarray and type(values) is ndarray:
        y = x.copy()
        y[idx] = values
        return y
    x = to_var(x)
    return active.give_rows(x, _index(idx, x.shape[0]), to_var(values), False)
