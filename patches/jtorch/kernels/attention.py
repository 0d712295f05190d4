"""Attention without its score matrix in memory, forward and backward, on the CPU in float32."""

import functools
from typing import Any, NamedTuple

from .sources import jt, source

_TILES, _FORWARD, _BACKWARD = (source(f"{name}.cc") for name in ("attention_tiles", "attention", "attention_backward"))


class Rows(NamedTuple):
    """A matrix for every head: float32 data [any order of axes] and how far apart, in numbers, batch entries, heads and
    rows are. The numbers of a row lie side by side."""

    var: Any
    batch: int
    head: int
    row: int


@functools.lru_cache(4096)
def _distances(shape, order):
    steps = (shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3])
    return tuple([steps[axis] for axis in order[:3]])


def rows(var, order=(0, 1, 2, 3)):
    """`Rows` of a variable whose axis ``order[i]`` is axis i of [batch, head, row, number]; the last stays last."""
    return Rows(var, *_distances(tuple(var.shape), order))


@functools.lru_cache(4096)
def _data(sizes, names, places, scale, causal, mask, keep):
    """The numbers that the kernels read; ``places``: how far apart batch entries, heads and rows of each name are."""
    data = dict(zip("BHLSEW", map(float, sizes)), scale=scale, causal=float(causal), keep=1 / keep,
                mask_batch=float(mask[0]), mask_rows=float(mask[1]))
    for name, (batch, head, row) in zip(names, places):
        data |= {f"{name}b": float(batch), f"{name}h": float(head), f"{name}r": float(row)}
    return data


@functools.cache
def _header(mask, bits):
    """The numbers of the inputs that hold the mask and the bits of dropout, or None."""
    m, b = (f"in{at}_p" if at is not None else "nullptr" for at in (mask, bits))
    return f"{_TILES}#define MASK ((const float*){m})\n#define KEEP ((const uint8_t*){b})\n"


def arguments(inputs, mask, dropout, sizes, names, operands, scale, causal):
    """Appends mask and bits of dropout to ``inputs``: (the numbers that a kernel reads, places of mask and bits or None)."""
    bits, keep = dropout or (None, 1.0)
    at = [None, None]
    for i, extra in enumerate((mask, bits)):
        if extra is not None:
            at[i] = len(inputs)
            inputs.append(extra)
    return _data(sizes, names, tuple([x[1:] for x in operands]), scale, causal,
                 (1, 1) if mask is None else (mask.shape[0], mask.shape[1]), keep), at


def _call(shapes, inputs, mask, dropout, text, sizes, names, operands, scale, causal):
    data, at = arguments(inputs, mask, dropout, sizes, names, operands, scale, causal)
    return jt.code(shapes, ["float32"] * len(shapes), inputs, cpu_header=_header(*at), cpu_src=text, data=data)


def attention(q, k, v, sizes, scale, causal=False, mask=None, order=(0, 1, 2, 3), dropout=None):
    """Attention of `Rows` q, k and v with ``sizes`` = (batch, heads, L, S, E, V): queries, keys and their widths.

    ``mask`` [MB, L or 1, S] is added to the scores; MB divides batch * heads, and as many matrices in a row share one
    mask. ``dropout``: (uint8 data with a bit, NumPy's packbits order, for each weight [batch, heads, L, S] that is kept,
    the probability to keep one), or None. ``order``: see `rows`; the order in which the result is stored.
    A row without any key gives 0.

    Returns:
        The result, a variable of the axes batch, head, L, V in the order asked for, and what `attention_backward`
        needs [batch * heads * L].
    """
    b, h, length, _, _, width = sizes
    shape = [0] * 4
    for axis, n in zip(order, (b, h, length, width)):
        shape[axis] = n
    return _call([tuple(shape), (b * h * length,)], [q.var, k.var, v.var], mask, dropout, _FORWARD, sizes, "qkvo",
                 (q, k, v, (None, *_distances(tuple(shape), order))), scale, causal)


def attention_backward(q, k, v, result, lse, grad, sizes, scale, causal=False, mask=None, dropout=None):
    """Gradients of q, k and v, each stored as that input is, from `attention`'s results (``result`` as `Rows`) and the
    result's gradient (`Rows`)."""
    return _call([x.var.shape for x in (q, k, v)], [q.var, k.var, v.var, result.var, lse, grad.var], mask, dropout,
                 _BACKWARD, sizes, "qkvog", (q, k, v, result, grad), scale, causal)
