"""Data-level indexing: basic regions, and rows of a table picked, added or replaced by an index."""

import numpy as np

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


_TAKE = """
    const int64_t rows = in1->num, width = in0->num / (in0_shape0 ? in0_shape0 : 1), n = in0_shape0;
    #pragma omp parallel for
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = in1_p[r]; if (i < 0) i += n;
        if (i < 0 || i >= n) continue;
        for (int64_t c = 0; c < width; c++) out0_p[r * width + c] = in0_p[i * width + c];
    }
"""
# Threads own columns, so that rows named twice are added without races and always in the same order.
_ADD_ROWS = """
    const int64_t rows = in1->num, n = in0_shape0, width = n ? in0->num / n : 0;
    for (int64_t k = 0; k < in0->num; k++) out0_p[k] = in0_p[k];
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = in1_p[r]; if (i < 0) i += n;
        for (int64_t c = 0; c < width; c++) out0_p[i * width + c] %s in2_p[r * width + c];
    }
"""


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
    return jt.code((idx.shape[0], x.shape[1]), x.dtype, [x, idx], cpu_src=_TAKE)


def add_rows(x, idx, values):
    """``x`` with ``values[r]`` added to row ``idx[r]``; repeated rows accumulate in order."""
    if type(x) is ndarray and type(idx) is ndarray and type(values) is ndarray:
        y = x.copy()
        np.add.at(y, idx, values)
        return y
    x = to_var(x)
    return jt.code(x.shape, x.dtype, [x, _index(idx, x.shape[0]), to_var(values)], cpu_src=_ADD_ROWS % "+=")


def put_rows(x, idx, values):
    """``x`` with row ``idx[r]`` replaced by ``values[r]``; the last of repeated rows wins."""
    if type(x) is ndarray and type(idx) is ndarray and type(values) is ndarray:
        y = x.copy()
        y[idx] = values
        return y
    x = to_var(x)
    return jt.code(x.shape, x.dtype, [x, _index(idx, x.shape[0]), to_var(values)], cpu_src=_ADD_ROWS % "=")
