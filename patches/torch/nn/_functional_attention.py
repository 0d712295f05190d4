"""Attention. A kernel does it without the matrix of scores in memory; tensor operations serve the rest."""

import math

import numpy as np
from jtorch.kernels import active
from jtorch.kernels.attention import rows as kernel_rows

from .. import _engine, _raw
from .._dtype import Size, bool_, float32
from .._elementwise import broadcast_shape
from .._ops_join import cat
from .._ops_linalg import bmm_op
from .._ops_pointwise import where
from .._ops_random import engine_of
from .._ops_reduce import _softmax
from .._ops_shape import _reshape, expand_to, stored_order, with_order
from .._tensor import mk
from ._functional_common import autocast, no_grad, record
from ._functional_linear import dropout, linear


def _three(x, batch):
    """[..., rows, width] over a common batch as 3-D."""
    if tuple(x._shape[:-2]) != batch:
        x = expand_to(x, (*batch, *x._shape[-2:]))
    return _reshape(x, (math.prod(batch), *x._shape[-2:]))


def _causal(rows, cols):
    m = np.tril(np.ones((rows, cols), bool))
    return mk(m, m.shape, bool_)


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
    """softmax(query key^T * scale + mask) value.

    Args:
        query: [..., L, E]. key: [..., S, E]. value: [..., S, V].
        attn_mask: broadcasts to [..., L, S]; bool (True takes part) or numbers that are added.
        dropout_p: applied whenever positive. is_causal: row i sees columns up to i; excludes a mask.
        scale: 1 / sqrt(E) if None.

    Returns:
        [..., L, V]; 0 in rows whose keys are all masked, as in PyTorch.

    Raises:
        RuntimeError: a mask together with ``is_causal``, or dtypes that differ.
    """
    q, k, v = autocast("low", query, key, value)
    if attn_mask is not None and is_causal:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if not q.dtype is k.dtype is v.dtype:
        raise RuntimeError(f"Expected query, key, and value to have the same dtype, but got query.dtype: {q.dtype.name} "
                           f"key.dtype: {k.dtype.name} and value.dtype: {v.dtype.name} instead.")
    scale = 1 / math.sqrt(q._shape[-1]) if scale is None else float(scale)
    batch, *others = [tuple(t._shape)[:-2] for t in (q, k, v, attn_mask) if t is not None]
    for other in others:
        if other != batch:
            batch = tuple(broadcast_shape(Size(batch), Size(other)))
    if 0 <= dropout_p < 1 and _fits_kernel(q, k, v, attn_mask):
        return _fused(q, k, v, attn_mask, dropout_p, is_causal, scale, batch)
    return _plain(q, k, v, attn_mask, dropout_p, is_causal, scale, batch)


def _weights(q, k, mask, causal, scale, batch):
    """softmax(q k^T * scale + mask) of [B, L, E] and [B, S, E] by tensor operations; 0 where no key takes part."""
    rows, cols = q._shape[1], k._shape[1]
    scores = bmm_op(q * scale, k, False, True)
    if causal:
        mask = _causal(rows, cols)
    if mask is not None:
        scores = _reshape(scores, (*batch, rows, cols))
        if mask.dtype is bool_:
            scores = where(mask, scores, -math.inf)
        else:
            scores = scores + mask.to(q.dtype)
        scores = _reshape(scores, (-1, rows, cols))
        empty = (scores == -math.inf).all(-1, keepdim=True)
        return where(empty, 0.0, _softmax(where(empty, 0.0, scores), -1))
    return _softmax(scores, -1)


def _plain(q, k, v, mask, dropout_p, causal, scale, batch):
    weights = _weights(_three(q, batch), _three(k, batch), mask, causal, scale, batch)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    r = bmm_op(weights, _three(v, batch))
    return _reshape(r, (*batch, q._shape[-2], v._shape[-1])).detach_view()


def _fits_kernel(q, k, v, mask):
    if q.dtype.itemsize > 4 or (mask is not None and mask.requires_grad):
        return False
    if active.CARD and max(q._shape[-1], v._shape[-1]) > active.WIDEST:
        return False
    return all([0 not in t._shape and type(t._data()) is _raw.Var for t in (q, k, v)])


def _kernel_mask(mask, batch, rows, cols):
    """A mask as float32 data [MB, L or 1, S], where MB divides the batch."""
    if mask is None:
        return None
    if mask.dtype is bool_:
        mask = where(mask, 0.0, -math.inf)
    lead = (1,) * (len(batch) + 2 - mask.ndim) + tuple(mask._shape)
    mask = _reshape(mask, lead)
    keep = len(batch)
    while keep and mask._shape[keep - 1] == 1:
        keep -= 1  # one mask for all matrices of the inner batch axes
    mask = expand_to(mask, (*batch[:keep], *(1,) * (len(batch) - keep), mask._shape[-2], cols))
    return _raw.cast(_raw.to_var(_reshape(mask, (math.prod(batch[:keep]), mask._shape[-2], cols))._data()), float32)


def _four(x, batch):
    """[..., rows, width] over a common batch as 4-D; two batch axes stay as they are, with the way they are stored."""
    if tuple(x._shape)[:-2] != batch:
        x = expand_to(x, (*batch, *x._shape[-2:]))
    return x if len(batch) == 2 else _reshape(x, (math.prod(batch), 1, *x._shape[-2:]))


def _stored(x):
    """(data, order of axes) a kernel can read: rows whose numbers lie side by side. See `stored_order`."""
    source, order = stored_order(x)
    return (source, order) if type(source) is _raw.Var and order[3] == 3 else (x._var(), (0, 1, 2, 3))


def _rows(source, order, dt):
    return kernel_rows(_raw.cast(source, dt), order)


def _unstored(var, order, shape, dt, device):
    """The tensor of this shape whose data is stored in this order of axes."""
    source = var if dt.name in active.TYPES else _raw.cast(var, dt)
    return with_order(mk(_raw.transpose(source, order), shape, dt, device), source, order)


def _kept(dropout_p, count):
    """What the kernels take as dropout: (a bit for each of ``count`` weights, as `dropout` would draw them, the
    probability of a set bit). A thirty-second of the weights' memory."""
    if not dropout_p:
        return None
    draw, step = engine_of(None).bernoulli, 1 << 23
    bits = [np.packbits(draw(min(step, count - i), 1 - dropout_p)) for i in range(0, count, step)]
    return _raw.to_var(np.concatenate(bits)), 1 - dropout_p


def _fused(q, k, v, mask, dropout_p, causal, scale, batch):
    """Attention as one recorded node on the kernels. Heads may lie between the rows, as a transposed
    [batch, L, heads, width] has them: they are read, and the result and the gradients are stored, as they lie."""
    inputs = [_four(t, batch) for t in (q, k, v)]
    dt, device, (rows, width), (cols, wide) = q.dtype, q._device, tuple(q._shape)[-2:], tuple(v._shape)[-2:]
    with no_grad(False):
        m = _kernel_mask(mask, batch, rows, cols)
    stored = [_stored(t) for t in inputs]
    sizes = (*tuple(inputs[0]._shape)[:2], rows, cols, width, wide)
    order = stored[0][1]
    kept = _kept(dropout_p, sizes[0] * sizes[1] * rows * cols)
    work = dt if dt.name in active.TYPES else float32
    out, lse = active.attention(*(_rows(*x, work) for x in stored), sizes, scale, causal, m, order, kept)
    r = _unstored(out, order, (*sizes[:2], rows, wide), dt, device)
    need = [t.requires_grad for t in inputs]
    if _engine.state.grad and any(need):
        saved = [t._snap() for t in inputs]
        for t in saved:
            t._v = None  # made again from `stored`: pending, the transposed copies would run with the next synchronization
        mask = None if mask is None else mask.detach_copy()

        def backward(g):
            if _engine.state.grad:
                for t, (source, axes) in zip(saved, stored):
                    t._v = _raw.transpose(source, axes)
                return _differentiable_gradients(g, *saved, mask, kept, causal, scale, batch, need)
            grads = active.attention_backward(*(_rows(*x, work) for x in stored), kernel_rows(out, order), lse,
                                              _rows(*_stored(g), work), sizes, scale, causal, m, kept)
            return tuple(_unstored(d, x[1], s._shape, dt, g._device) if n else None
                         for d, x, s, n in zip(grads, stored, saved, need))

        record((r,), tuple(t if n else None for t, n in zip(inputs, need)), backward, "attention")
    return r if len(batch) == 2 else _reshape(r, (*batch, rows, wide)).detach_view()


def _differentiable_gradients(g, q, k, v, mask, kept, causal, scale, batch, need):
    shapes = [t._shape for t in (q, k, v)]
    g, q, k, v = (_reshape(t, (-1, *t._shape[-2:])) for t in (g, q, k, v))
    p = _weights(q, k, mask, causal, scale, batch)
    d, dropped = bmm_op(g, v, False, True), p
    if kept is not None:
        factor = np.unpackbits(kept[0].numpy(), count=p.numel()).astype(np.float32) / np.float32(kept[1])
        factor = mk(factor.reshape(p._shape), p._shape, float32, p._device).to(p.dtype)
        d, dropped = d * factor, p * factor
    d = p * (d - (d * p).sum(-1, keepdim=True)) * scale
    products = ((d, k, False), (d, q, True), (dropped, g, True))
    return tuple(_reshape(bmm_op(a, b, turned, False), s) if n else None
                 for (a, b, turned), s, n in zip(products, shapes, need))


def _project(query, key, value, e, w, b, separate, qw, kw, vw):
    if separate:
        weights = (qw, kw, vw)
    else:
        weights = w.split(e, 0)
    biases = (None, None, None) if b is None else b.split(e, 0)
    return [linear(x, wt, bt) for x, wt, bt in zip((query, key, value), weights, biases)]


def _additive(mask, dt):
    return where(mask, -math.inf, 0.0).to(dt) if mask.dtype is bool_ else mask.to(dt)


def multi_head_attention_forward(query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k,
                                 bias_v, add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training=True,
                                 key_padding_mask=None, need_weights=True, attn_mask=None,
                                 use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None,
                                 v_proj_weight=None, static_k=None, static_v=None, average_attn_weights=True,
                                 is_causal=False):
    """Multi-head attention of [L, N, E] queries (or [L, E]) over [S, N, E] keys and values.

    Masks are True (or -inf) where a pair is left out. Returns (output [L, N, E], weights or None).

    Raises:
        AssertionError: the width is not ``embed_dim_to_check``. RuntimeError: ``is_causal`` without a mask.
    """
    single = query.ndim == 2
    if single:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, n, e = query._shape
    if e != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {e}")
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    head = e // num_heads
    q, k, v = _project(query, key, value, e, in_proj_weight, in_proj_bias, use_separate_proj_weight, q_proj_weight,
                       k_proj_weight, v_proj_weight)
    if bias_k is not None:
        k, v = (cat([x, b.repeat(1, n, 1)]) for x, b in ((k, bias_k), (v, bias_v)))

    def heads(x):  # [rows, N, E] -> [N * heads, rows, head]
        return _reshape(x, (x._shape[0], n * num_heads, head)).transpose(0, 1)

    q = heads(q)
    k = heads(k) if static_k is None else static_k
    v = heads(v) if static_v is None else static_v
    if add_zero_attn:
        k, v = (cat([x, x.new_zeros((n * num_heads, 1, head))], 1) for x in (k, v))
    cols = k._shape[1]
    mask = None
    if attn_mask is not None:
        mask = _additive(attn_mask, q.dtype)
        mask = mask.unsqueeze(0) if mask.ndim == 2 else mask
        mask = _widen_mask(mask, cols)
    if key_padding_mask is not None:
        pad = _widen_mask(_additive(key_padding_mask, q.dtype), cols)
        pad = _reshape(expand_to(_reshape(pad, (n, 1, 1, cols)), (n, num_heads, 1, cols)), (n * num_heads, 1, cols))
        mask = pad if mask is None else mask + pad
    scores = bmm_op(_reshape(q / math.sqrt(head), q._shape), _reshape(k, k._shape), False, True)
    weights = _softmax(scores if mask is None else scores + mask, -1)
    if training and dropout_p:
        weights = dropout(weights, dropout_p)
    out = _reshape(bmm_op(weights, _reshape(v, v._shape)).transpose(0, 1), (length, n, e))
    out = linear(out, out_proj_weight, out_proj_bias)
    if not need_weights:
        return (out.squeeze(1) if single else out), None
    weights = _reshape(weights, (n, num_heads, length, cols))
    if average_attn_weights:
        weights = weights.mean(1)
    return (out.squeeze(1), weights.squeeze(0)) if single else (out, weights)


def _widen_mask(mask, cols):
    """Columns added after the mask was made (bias and zero key) take part."""
    more = cols - mask._shape[-1]
    return mask if more <= 0 else cat([mask, mask.new_zeros((*mask._shape[:-1], more))], -1)
