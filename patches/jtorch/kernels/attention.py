"""Attention without its score matrix in memory, forward and backward, on the CPU in float32."""

from pathlib import Path
from typing import Any, NamedTuple

from ..startup import import_jittor

_FOLDER = Path(__file__).parent
_TILES, _FORWARD, _BACKWARD = ((_FOLDER / f"{name}.cc").read_text()
                               for name in ("attention_tiles", "attention", "attention_backward"))


class Rows(NamedTuple):
    """A matrix for every head: float32 data [any order of axes] and how far apart, in numbers, batch entries, heads and
    rows are. The numbers of a row lie side by side."""

    var: Any
    batch: int
    head: int
    row: int


def _distances(shape, order):
    steps = (shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3])
    return [steps[axis] for axis in order[:3]]


def rows(var, order=(0, 1, 2, 3)):
    """`Rows` of a variable whose axis ``order[i]`` is axis i of [batch, head, row, number]; the last stays last."""
    return Rows(var, *_distances(tuple(var.shape), order))


def _flat(var):
    return var.reshape((-1,))


def _call(shapes, inputs, mask, dropout, source, sizes, operands, scale, causal):
    bits, keep = dropout or (None, 1.0)
    data = dict(zip("BHLSEW", map(float, sizes)), scale=scale, causal=float(causal), keep=1 / keep,
                mask_batch=1.0, mask_rows=1.0)
    for name, x in operands.items():
        data |= {f"{name}b": float(x.batch), f"{name}h": float(x.head), f"{name}r": float(x.row)}
    header, inputs = "", [_flat(x) for x in inputs]
    for name, kind, extra in (("MASK", "float", mask), ("KEEP", "uint8_t", bits)):
        header += f"#define {name} ((const {kind}*){'nullptr' if extra is None else f'in{len(inputs)}_p'})\n"
        if extra is not None:
            inputs.append(_flat(extra))
    if mask is not None:
        data |= {"mask_batch": float(mask.shape[0]), "mask_rows": float(mask.shape[1])}
    return import_jittor().code(shapes, ["float32"] * len(shapes), inputs, cpu_header=_TILES + header, cpu_src=source,
                                data=data)


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
    return _call([tuple(shape), (b * h * length,)], [q.var, k.var, v.var], mask, dropout, _FORWARD, sizes,
                 {"q": q, "k": k, "v": v, "o": Rows(None, *_distances(shape, order))}, scale, causal)


def attention_backward(q, k, v, result, lse, grad, sizes, scale, causal=False, mask=None, dropout=None):
    """Gradients of q, k and v, each stored as that input is, from `attention`'s results (``result`` as `Rows`) and the
    result's gradient (`Rows`)."""
    return _call([tuple(x.var.shape) for x in (q, k, v)], [q.var, k.var, v.var, result.var, lse, grad.var], mask, dropout,
                 _BACKWARD, sizes, {"q": q, "k": k, "v": v, "o": result, "g": grad}, scale, causal)
