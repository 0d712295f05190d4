"""Attention."""

import math

import numpy as np

from .._dtype import bool_
from .._ops_linalg import bmm_op
from .._ops_pointwise import mk, where
from .._ops_reduce import _softmax
from .._ops_shape import _reshape, cat, expand_to
from ._functional_common import autocast
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
        [..., L, V].

    Raises:
        RuntimeError: a mask together with ``is_causal``, or dtypes that differ.
    """
    q, k, v = autocast("low", query, key, value)
    if attn_mask is not None and is_causal:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if not q.dtype is k.dtype is v.dtype:
        raise RuntimeError(f"Expected query, key, and value to have the same dtype, but got query.dtype: {q.dtype.name} "
                           f"key.dtype: {k.dtype.name} and value.dtype: {v.dtype.name} instead.")
    from .._ops_pointwise import broadcast_shape

    (rows, e), cols = q._shape[-2:], k._shape[-2]
    scale = 1 / math.sqrt(e) if scale is None else scale
    batch = tuple(broadcast_shape(broadcast_shape(q._shape[:-2], k._shape[:-2]), v._shape[:-2]))
    scores = bmm_op(_three(q * scale, batch), _three(k, batch), False, True)
    if is_causal:
        attn_mask = _causal(rows, cols)
    if attn_mask is not None:
        scores = _reshape(scores, (*batch, rows, cols))
        if attn_mask.dtype is bool_:
            scores = where(attn_mask, scores, -math.inf)
        else:
            scores = scores + attn_mask.to(q.dtype)
        batch = tuple(scores._shape[:-2])
        scores = _reshape(scores, (-1, rows, cols))
    weights = _softmax(scores, -1)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    r = bmm_op(weights, _three(v, batch))
    return _reshape(r, (*batch, rows, v._shape[-1])).detach_view()


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
