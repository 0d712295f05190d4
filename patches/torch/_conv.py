"""Convolution: three operations, each the gradient of the others, so that any order of differentiation works.

``conv`` maps (x, w) to y; ``conv_x`` maps (w, y) back to x (a transposed convolution); ``conv_w`` maps (x, y) to w.
Two spatial axes are native (jtorch.kernels.conv on the CPU, cuDNN on a card; half precision that they do not take is
computed in float32). One axis is the same with an axis of size 1. Three axes fold the depth of the kernel into the
channels. float64 runs on the host where they do not take it.
"""

import numpy as np
from jtorch.kernels import active

from . import _engine, _raw
from ._dtype import float32
from ._elementwise import finish
from ._ops_index import get_basic, set_basic
from ._ops_join import cat
from ._ops_shape import _reshape, permute, unsqueeze
from ._tensor import mk


class Geometry:
    """Stride, padding, dilation (each (height, width)) and groups of a two-dimensional convolution."""

    __slots__ = ("dilation", "groups", "padding", "stride")

    def __init__(self, stride, padding, dilation, groups):
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def out(self, size, kernel):
        (h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = size, kernel, self.stride, self.padding, self.dilation
        return (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1

    def flat(self):
        return (*self.stride, *self.padding, *self.dilation, self.groups)


# --- on the host: one matrix product per position in the kernel ---------------------------------------------------------
def _windows(xp, kernel, out, geo):
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            a, b = i * geo.dilation[0], j * geo.dilation[1]
            yield i, j, (Ellipsis, slice(a, a + geo.stride[0] * (out[0] - 1) + 1, geo.stride[0]),
                         slice(b, b + geo.stride[1] * (out[1] - 1) + 1, geo.stride[1]))


def _padded(x, geo):
    (p, q) = geo.padding
    return np.pad(x, ((0, 0), (0, 0), (p, p), (q, q)))


def _host_conv(x, w, geo):
    g, (n, c), (o, ci) = geo.groups, x.shape[:2], w.shape[:2]
    out = geo.out(x.shape[2:], w.shape[2:])
    xp = _padded(x, geo)
    y = np.zeros((n, g, o // g, out[0] * out[1]), x.dtype)
    wg = w.reshape(g, o // g, ci, *w.shape[2:])
    for i, j, at in _windows(xp, w.shape[2:], out, geo):
        y += wg[..., i, j] @ xp[at].reshape(n, g, c // g, -1)
    return y.reshape(n, o, *out)


def _host_conv_x(w, y, size, geo):
    g, n, (o, ci) = geo.groups, y.shape[0], w.shape[:2]
    out = y.shape[2:]
    (p, q) = geo.padding
    xp = np.zeros((n, ci * g, size[0] + 2 * p, size[1] + 2 * q), y.dtype)
    wg = w.reshape(g, o // g, ci, *w.shape[2:])
    yg = y.reshape(n, g, o // g, -1)
    for i, j, at in _windows(xp, w.shape[2:], out, geo):
        xp[at] += (wg[..., i, j].swapaxes(-1, -2) @ yg).reshape(n, ci * g, *out)
    return np.ascontiguousarray(xp[:, :, p:p + size[0], q:q + size[1]])


def _host_conv_w(x, y, kernel, geo):
    g, (n, c), o = geo.groups, x.shape[:2], y.shape[1]
    xp = _padded(x, geo)
    yg = y.reshape(n, g, o // g, -1)
    w = np.zeros((g, o // g, c // g, *kernel), x.dtype)
    for i, j, at in _windows(xp, kernel, y.shape[2:], geo):
        w[..., i, j] = (yg @ xp[at].reshape(n, g, c // g, -1).swapaxes(-1, -2)).sum(0)
    return w.reshape(o, c // g, *kernel)


# --- data level --------------------------------------------------------------------------------------------------------
_HOST = {"": _host_conv, "_backward_x": _host_conv_x, "_backward_w": _host_conv_w}


def _on_host(kind, a, b, size, geo, bias):
    r = _HOST[kind](a, b, *((size, geo) if kind else (geo,)))
    return r if bias is None else r + bias.reshape(-1, 1, 1)


def _run(kind, a, b, size, geo, dt, bias=None):
    """``kind`` is '', '_backward_x' or '_backward_w'; ``size`` the spatial size of the result; ``bias`` [O] or None."""
    if type(a) is np.ndarray and type(b) is np.ndarray and (bias is None or type(bias) is np.ndarray):
        if a.dtype == np.float16:
            wide = [None if v is None else v.astype(np.float32) for v in (a, b, bias)]
            return _on_host(kind, *wide[:2], size, geo, wide[2]).astype(np.float16)
        return _on_host(kind, a, b, size, geo, bias)
    a, b, bias = _raw.to_var(a), _raw.to_var(b), None if bias is None else _raw.to_var(bias)
    # an output padding beyond the stride leaves places that no position of the kernel reaches
    odd = ((kind == "_backward_x" and geo.out(size, a.shape[2:]) != tuple(b.shape[2:]))
           or (kind == "_backward_w" and geo.out(a.shape[2:], size) != tuple(b.shape[2:])))
    half = dt.name not in active.CONVOLUTION_TYPES and dt.itemsize == 2
    if odd or 0 in a.shape or 0 in b.shape or not (half or dt.name in active.CONVOLUTION_TYPES):
        return _raw.to_var(_on_host(kind, a.numpy(), b.numpy(), size, geo, None if bias is None else bias.numpy()))
    if half:
        a, b, bias = (None if v is None else _raw.cast(v, float32) for v in (a, b, bias))
    if not kind:
        r = active.conv(a, b, bias, size, geo.flat())
    else:
        r = (active.conv_data if kind == "_backward_x" else active.conv_weights)(a, b, size, geo.flat())
    return _raw.cast(r, dt) if half else r


def _data(a, b):
    va, vb = a._data(), b._data()
    if type(va) is not type(vb):
        va, vb = a._var(), b._var()
    return va, vb


def _wrap(v, shape, like):
    """A tensor of the dtype of ``like``. Of float32 come float32 data."""
    return mk(v, shape, float32, like._device) if like.dtype is float32 and type(v) is _raw.Var else finish(
        v, shape, like.dtype, like._device)


# --- recorded operations -----------------------------------------------------------------------------------------------
def conv(x, w, geo, bias=None):
    """[N, C, H, W] and [O, C / groups, kh, kw] (and bias [O]) to [N, O, oh, ow]."""
    size, kernel = tuple(x._shape)[2:], tuple(w._shape)[2:]
    out = geo.out(size, kernel)
    vx, vw = _data(x, w)
    vb = None if bias is None else bias._data() if type(vx) is np.ndarray else bias._var()
    r = _wrap(_run("", vx, vw, out, geo, x.dtype, vb), (x._shape[0], w._shape[0], *out), x)
    if _engine.needs(x, w) or (bias is not None and _engine.needs(bias)):
        gx, gw, gb = x.requires_grad, w.requires_grad, bias is not None and bias.requires_grad
        sx, sw = (x._snap() if gw else None), (w._snap() if gx else None)
        _engine.record((r,), (x if gx else None, w if gw else None, bias if gb else None), lambda g: (
            conv_x(sw, g, size, geo) if gx else None, conv_w(sx, g, kernel, geo) if gw else None,
            g.sum((0, 2, 3)) if gb else None), "convolution")
    return r


def conv_x(w, y, size, geo):
    """The x of spatial ``size`` that `conv` carries y's gradient to."""
    kernel, out = tuple(w._shape[2:]), tuple(y._shape[2:])
    r = _wrap(_run("_backward_x", *_data(w, y), size, geo, y.dtype), (y._shape[0], w._shape[1] * geo.groups, *size), y)
    if _engine.needs(w, y):
        gw, gy = w.requires_grad, y.requires_grad
        sw, sy = (w._snap() if gy else None), (y._snap() if gw else None)
        _engine.record((r,), (w if gw else None, y if gy else None), lambda g: (
            conv_w(g, sy, kernel, geo) if gw else None,
            _cut(conv(g, sw, geo), out) if gy else None), "convolution_transpose")
    return r


def _cut(y, size):
    if tuple(y._shape[2:]) == size:
        return y
    return _slice(_slice(y, 2, 0, size[0], 1), 3, 0, size[1], 1).clone()


def conv_w(x, y, kernel, geo):
    """The gradient of a kernel of spatial size ``kernel`` from the input and the output's gradient."""
    size = tuple(x._shape[2:])
    r = _wrap(_run("_backward_w", *_data(x, y), kernel, geo, x.dtype), (y._shape[1], x._shape[1] // geo.groups, *kernel), x)
    if _engine.needs(x, y):
        gx, gy = x.requires_grad, y.requires_grad
        sx, sy = (x._snap() if gy else None), (y._snap() if gx else None)
        _engine.record((r,), (x if gx else None, y if gy else None), lambda g: (
            conv_x(g, sy, size, geo) if gx else None, conv(sx, g, geo) if gy else None), "convolution_weight")
    return r


# --- one and three axes ------------------------------------------------------------------------------------------------
def conv_nd(x, w, stride, padding, dilation, groups, bias=None):
    """Convolution over ``len(stride)`` (1, 2 or 3) axes of a batched input; symmetric zero padding."""
    n = len(stride)
    if bias is not None and (n == 3 or bias.dtype is not x.dtype or bias._shape != w._shape[:1]):
        return conv_nd(x, w, stride, padding, dilation, groups) + _reshape(bias, (-1, *(1,) * n))
    if n == 2:
        return conv(x, w, Geometry(stride, padding, dilation, groups), bias)
    if n == 1:
        geo = Geometry((1, *stride), (0, *padding), (1, *dilation), groups)
        return conv(unsqueeze(x, 2), unsqueeze(w, 2), geo, bias).squeeze(2).detach_view()
    b, c = x._shape[:2]
    o, ci, kd = w._shape[:3]
    (s, p, d) = stride[0], padding[0], dilation[0]
    depth = (x._shape[2] + 2 * p - d * (kd - 1) - 1) // s + 1
    if p:
        x = _place(x, 2, p, x._shape[2] + 2 * p, 1)
    parts = [_slice(x, 2, k * d, depth, s) for k in range(kd)]  # each [B, C, depth, H, W]
    hw = tuple(x._shape[3:])
    folded = cat([unsqueeze(t, 2) for t in parts], 2) if kd > 1 else unsqueeze(parts[0], 2)  # [B, C, kd, depth, H, W]
    folded = _reshape(permute(folded, 0, 3, 1, 2, 4, 5), (b * depth, c * kd, *hw))
    geo = Geometry(stride[1:], padding[1:], dilation[1:], groups)
    y = conv(folded, _reshape(w, (o, ci * kd, *w._shape[3:])), geo)
    return permute(_reshape(y, (b, depth, o, *y._shape[2:])), 0, 2, 1, 3, 4).clone()


def conv_transpose_nd(y, w, stride, padding, output_padding, dilation, groups):
    """Transposed convolution of [N, I, ...] with a weight [I, O / groups, ...]."""
    n = len(stride)
    size = tuple((m - 1) * s - 2 * p + d * (k - 1) + 1 + e for m, k, s, p, d, e in zip(
        y._shape[2:], w._shape[2:], stride, padding, dilation, output_padding))
    if n == 2:
        return conv_x(w, y, size, Geometry(stride, padding, dilation, groups))
    if n == 1:
        geo = Geometry((1, *stride), (0, *padding), (1, *dilation), groups)
        return conv_x(unsqueeze(w, 2), unsqueeze(y, 2), (1, *size), geo).squeeze(2).detach_view()
    b, ci, depth = y._shape[:3]
    kd, co = w._shape[2], w._shape[1] * groups
    (s, p, d) = stride[0], padding[0], dilation[0]
    flat = _reshape(permute(y, 0, 2, 1, 3, 4), (b * depth, ci, *y._shape[3:]))
    geo = Geometry(stride[1:], padding[1:], dilation[1:], groups)
    full = conv_x(_reshape(w, (ci, w._shape[1] * kd, *w._shape[3:])), flat, size[1:], geo)
    full = permute(_reshape(full, (b, depth, co, kd, *size[1:])), 3, 0, 2, 1, 4, 5)  # [kd, B, C, depth, H, W]
    total = None
    for k in range(kd):  # output positions k * d + s * i - p
        part = _place(full[k], 2, k * d, max(size[0] + 2 * p, (depth - 1) * s + d * (kd - 1) + 1), s)
        total = part if total is None else total + part
    return _slice(total, 2, p, size[0], 1).clone()


def _slice(x, dim, start, count, step):
    return get_basic(x, [slice(None)] * dim + [slice(start, start + step * (count - 1) + 1, step)]
                     + [slice(None)] * (x.ndim - dim - 1))


def _place(x, dim, start, total, step):
    """Zeros of length ``total`` along ``dim`` with ``x`` written at start, start + step, ..."""
    shape = (*x._shape[:dim], total, *x._shape[dim + 1:])
    zero = mk(_raw.full(shape, 0, x.dtype), shape, x.dtype, x._device)
    at = slice(start, start + step * (x._shape[dim] - 1) + 1, step)
    core = tuple(at if i == dim else slice(None) for i in range(x.ndim))
    return set_basic(zero, core, x)
