"""Padding, patches and shuffles."""

import math

import numpy as np

from .. import _raw
from .._conv import _place, _slice
from .._dtype import int64
from .._ops_index import get_basic, set_basic
from .._ops_join import cat
from .._ops_shape import _reshape, permute, unsqueeze
from .._tensor import mk
from ._functional_common import ntuple


def pad(input, pad, mode="constant", value=None):
    """Pad the last axes.

    Args:
        input: for the modes other than 'constant' it has a batch or channel axis before the padded ones.
        pad: (last axis before, after, second to last before, after, ...); negative numbers crop.
        mode: 'constant' (with ``value``, 0 if None), 'reflect', 'replicate' or 'circular'.

    Raises:
        RuntimeError: a result or padding that is impossible. NotImplementedError: an unknown mode.
    """
    amounts = [int(v) for v in pad]
    if len(amounts) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    n = len(amounts) // 2
    if n > input.ndim:
        raise RuntimeError(f"Padding length should be less than or equal to two times the input dimension but got "
                           f"padding length {len(amounts)} and input of dimension {input.ndim}")
    sides = [(input.ndim - 1 - i, amounts[2 * i], amounts[2 * i + 1]) for i in range(n)]
    if mode == "constant":
        return _constant(input, sides, 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if input.ndim - n not in (1, 2):
        raise NotImplementedError(f"Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now; got "
                                  f"{len(amounts)} amounts for an input of dimension {input.ndim}")
    x = input
    for d, before, after in sides:
        if before or after:
            x = x.index_select(d, _source(mode, x._shape[d], before, after))
    return x if x is not input else input.clone()


def _constant(x, sides, value):
    if any(a < 0 or b < 0 for _, a, b in sides):
        cut = [slice(None)] * x.ndim
        for d, a, b in sides:
            cut[d] = slice(max(-a, 0), x._shape[d] - max(-b, 0))
            if x._shape[d] + a + b < 0 or x._shape[d] - max(-a, 0) - max(-b, 0) < 0:
                raise RuntimeError(f"The input size {x._shape[d]}, plus negative padding {a} and {b}, resulted in a "
                                   "negative output size")
        x = get_basic(x, cut)
    shape, at = list(x._shape), [slice(None)] * x.ndim
    for d, a, b in sides:
        a, b = max(a, 0), max(b, 0)
        at[d] = slice(a, a + x._shape[d])
        shape[d] += a + b
    if shape == list(x._shape):
        return x.clone()
    full = mk(_raw.full(tuple(shape), value, x.dtype), tuple(shape), x.dtype, x._device)
    return set_basic(full, tuple(at), x) if x.numel() else full


def _source(mode, n, before, after):
    i = np.arange(-before, n + after)
    if mode == "replicate":
        i = i.clip(0, n - 1)
    elif mode == "circular":
        if before > n or after > n:
            raise RuntimeError("Padding value causes wrapping around more than once.")
        i = i % n
    else:
        if before >= n or after >= n:
            raise RuntimeError(f"Argument #4: Padding size should be less than the corresponding input dimension, but "
                               f"got: padding ({before}, {after}) at a dimension of size {n}")
        i = np.abs(i)
        i = np.where(i >= n, 2 * (n - 1) - i, i)
    return mk(i.astype(np.int64), i.shape, int64)


def _spans(size, kernel, dilation, padding, stride):
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in zip(size, kernel, dilation, padding,
                                                                                 stride))


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """Patches of [N, C, H, W] as columns: [N, C * kh * kw, positions]."""
    k, d, p, s = (ntuple(v, 2) for v in (kernel_size, dilation, padding, stride))
    flat = input.ndim == 3
    if input.ndim not in (3, 4):
        raise RuntimeError(f"Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero "
                           f"dimensions for input, but got: {list(input._shape)}")
    x = unsqueeze(input, 0) if flat else input
    n, c = x._shape[:2]
    out = _spans(x._shape[2:], k, d, p, s)
    if min(out) < 1:
        raise RuntimeError(f"Given input with spatial size {tuple(x._shape[2:])}, kernel_size={k}, dilation={d}, "
                           f"padding={p}, calculated shape of the array of sliding blocks as {out}, but its components "
                           "must be at least one.")
    x = _constant(x, [(3, p[1], p[1]), (2, p[0], p[0])], 0) if any(p) else x
    parts = [_reshape(_slice(_slice(x, 2, i * d[0], out[0], s[0]), 3, j * d[1], out[1], s[1]), (n, c, 1, -1))
             for i in range(k[0]) for j in range(k[1])]
    r = _reshape(cat(parts, 2), (n, c * k[0] * k[1], out[0] * out[1])).detach_view()
    return r.squeeze(0).detach_view() if flat else r


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Sum columns [N, C * kh * kw, positions] back into [N, C, *output_size]: the adjoint of `unfold`."""
    size, k, d, p, s = (ntuple(v, 2) for v in (output_size, kernel_size, dilation, padding, stride))
    flat = input.ndim == 2
    x = unsqueeze(input, 0) if flat else input
    n, ck, length = x._shape
    if ck % (k[0] * k[1]):
        raise RuntimeError(f"Expected size of input's dimension 1 to be divisible by the product of kernel_size, but "
                           f"got input.size(1)={ck} and kernel_size={k}.")
    out = _spans(size, k, d, p, s)
    if out[0] * out[1] != length:
        raise RuntimeError(f"Given output_size={size}, kernel_size={k}, dilation={d}, padding={p}, stride={s}, expected "
                           f"size of input's dimension 2 to match the calculated number of sliding blocks {out[0]} * "
                           f"{out[1]} = {out[0] * out[1]}, but got input.size(2)={length}.")
    c = ck // (k[0] * k[1])
    cols = _reshape(x, (n, c, k[0] * k[1], *out))
    full = (size[0] + 2 * p[0], size[1] + 2 * p[1])
    total = None
    for i in range(k[0]):
        for j in range(k[1]):
            part = cols.select(2, i * k[1] + j)
            part = _place(_place(part, 3, j * d[1], full[1], s[1]), 2, i * d[0], full[0], s[0])
            total = part if total is None else total + part
    r = get_basic(total, [slice(None), slice(None), slice(p[0], p[0] + size[0]), slice(p[1], p[1] + size[1])])
    return (r.squeeze(0) if flat else r).clone()


def pixel_shuffle(input, upscale_factor):
    """[..., C r^2, H, W] to [..., C, H r, W r]. Raises RuntimeError if r^2 does not divide the channels."""
    r = int(upscale_factor)
    *lead, c, h, w = input._shape
    if c % (r * r):
        raise RuntimeError(f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
                           f"upscale_factor, but input.size(-3)={c} is not divisible by {r * r}")
    b = math.prod(lead)
    x = permute(_reshape(input, (b, c // (r * r), r, r, h, w)), 0, 1, 4, 2, 5, 3)
    return _reshape(x, (*lead, c // (r * r), h * r, w * r)).detach_view()


def pixel_unshuffle(input, downscale_factor):
    """[..., C, H r, W r] to [..., C r^2, H, W]. Raises RuntimeError if r does not divide height and width."""
    r = int(downscale_factor)
    *lead, c, h, w = input._shape
    if h % r or w % r:
        raise RuntimeError(f"pixel_unshuffle expects height and width to be divisible by downscale_factor, but got "
                           f"input of size {h} x {w} and downscale_factor {r}")
    b = math.prod(lead)
    x = permute(_reshape(input, (b, c, h // r, r, w // r, r)), 0, 1, 3, 5, 2, 4)
    return _reshape(x, (*lead, c * r * r, h // r, w // r)).detach_view()


def channel_shuffle(input, groups):
    """Interleave ``groups`` groups of channels of [N, C, ...]."""
    n, c = input._shape[:2]
    if c % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    x = _reshape(input, (n, groups, c // groups, -1)).transpose(1, 2)
    return _reshape(x, input._shape).detach_view()
