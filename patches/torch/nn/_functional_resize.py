"""Resizing. A linear filter is one small matrix per axis, applied by matrix products; nearest picks by index."""

import functools
import math

import numpy as np

from .._dtype import int64
from .._ops_linalg import bmm_op
from .._ops_shape import _reshape, expand_to
from .._tensor import mk
from ._functional_common import constant, is_half

_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}


def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None,
                antialias=False):
    """Resize the spatial axes of [N, C, ...].

    Args:
        size: int or one per axis; or scale_factor: a number or one per axis.
        mode: 'nearest', 'nearest-exact', 'area', 'linear' (1 axis), 'bilinear', 'bicubic' (2), 'trilinear' (3).
        align_corners: for the linear and cubic modes, corner pixels keep their places.
        recompute_scale_factor: use the ratio of the sizes instead of the factor given.
        antialias: widen the filter when shrinking (bilinear and bicubic).

    Raises:
        ValueError: both or neither of size and scale_factor, or an option the mode has not. NotImplementedError: a
        mode that does not fit the number of axes.
    """
    n = input.ndim - 2
    if n not in (1, 2, 3):
        raise NotImplementedError(f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the "
                                  f"modes: nearest | linear | bilinear | bicubic | trilinear | area | nearest-exact "
                                  f"(got {mode})")
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | "
                             "bicubic | trilinear")
    elif mode not in _LINEAR and mode != "bicubic":
        raise NotImplementedError(f"interpolate: mode={mode!r} is unknown; use nearest, nearest-exact, area, linear, "
                                  "bilinear, bicubic or trilinear")
    out, scales = _sizes(input, n, size, scale_factor)
    if recompute_scale_factor:
        if size is not None:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        scales = None
    if antialias and not (mode in ("bilinear", "bicubic") and n == 2):
        raise ValueError("Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as "
                         "input")
    expected = _LINEAR.get(mode, 2 if mode == "bicubic" else n)
    if expected != n:
        raise NotImplementedError(f"Got {input.ndim}D input, but {mode} mode needs {expected + 2}D input")
    if min(out) < 1:
        raise RuntimeError(f"Input and output sizes should be greater than 0, but got input (size "
                           f"{list(input._shape[2:])}) output (size {list(out)})")
    scales = scales or (None,) * n
    if mode in ("nearest", "nearest-exact"):
        return _nearest(input, out, scales, mode == "nearest-exact")
    if mode == "area":
        return apply_filters(input, [area_matrix(a, b) for a, b in zip(input._shape[2:], out)])
    taps = "cubic" if mode == "bicubic" else "linear"
    make = _antialiased if antialias else _sampled
    return apply_filters(input, [make(taps, a, b, s, bool(align_corners)) for a, b, s in zip(input._shape[2:], out,
                                                                                         scales)])


def _sizes(x, n, size, scale_factor):
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is not None:
        out = tuple(int(s) for s in size) if isinstance(size, (tuple, list)) else (int(size),) * n
        if len(out) != n:
            raise ValueError(f"Input and output must have the same number of spatial dimensions, but got input with "
                             f"spatial dimensions of {list(x._shape[2:])} and output size of {size}.")
        return out, None
    if scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    f = tuple(float(s) for s in scale_factor) if isinstance(scale_factor, (tuple, list)) else (float(scale_factor),) * n
    if len(f) != n:
        raise ValueError(f"Input and scale_factor must have the same number of spatial dimensions, but got input with "
                         f"spatial dimensions of {list(x._shape[2:])} and scale_factor of shape {scale_factor}.")
    return tuple(math.floor(a * s) for a, s in zip(x._shape[2:], f)), f


# --- nearest -----------------------------------------------------------------------------------------------------------
def _nearest_index(n, out, scale, exact):
    step = np.float32(1.0 / scale) if scale is not None else np.float32(n) / np.float32(out)
    at = np.arange(out, dtype=np.float32)
    if exact:
        at = at + np.float32(0.5)
    return np.minimum(np.floor(at * step).astype(np.int64), n - 1)


def _nearest(x, out, scales, exact):
    tables = [_nearest_index(a, b, s, exact) for a, b, s in zip(x._shape[2:], out, scales)]
    repeats = []
    for a, b, t in zip(x._shape[2:], out, tables):
        k = b // a
        repeats.append(k if b % a == 0 and np.array_equal(t, np.arange(b) // k) else None)
    if None not in repeats:  # whole repeats: one broadcast instead of a table
        lead = x._shape[0] * x._shape[1]
        inner, wide = [lead], [lead]
        for a, k in zip(x._shape[2:], repeats):
            inner += [a, 1]
            wide += [a, k]
        return _reshape(expand_to(_reshape(x, inner), wide), (*x._shape[:2], *out)).detach_view()
    for d, (n, t) in enumerate(zip(x._shape[2:], tables)):
        if not np.array_equal(t, np.arange(n)):
            x = x.index_select(d + 2, mk(t, t.shape, int64))
    return x


# --- filters -----------------------------------------------------------------------------------------------------------
def apply_filters(x, matrices):
    """Apply a [out, in] matrix (float64 array, or None for the identity) along each spatial axis of [N, C, ...]."""
    dt = x.dtype
    y = x.float() if is_half(dt) else x
    shape = list(y._shape)
    for d in range(len(shape) - 1, 1, -1):
        m = matrices[d - 2]
        if m is None:
            continue
        t = constant(m[None], y)
        n = math.prod(shape[d + 1:])
        if n == 1:
            flat = _reshape(y, (1, -1, shape[d]))
            y = bmm_op(flat, t, False, True)
        else:
            y = bmm_op(t, _reshape(y, (-1, shape[d], n)))
        shape[d] = m.shape[0]
        y = _reshape(y, shape)
    if y is x:
        return x.clone()
    y = y.detach_view()
    return y if y.dtype is dt else y.to(dt)


def _scale(n, out, factor, align):
    if align:
        return (n - 1) / (out - 1) if out > 1 else 0.0
    return 1.0 / factor if factor is not None and factor > 0 else n / out


def _cubic(t, a):
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = (((t - 5) * t + 8) * t - 4) * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


@functools.lru_cache(maxsize=64)
def _sampled(taps, n, out, factor, align):
    """Interpolation at the output's sample positions; positions outside repeat the border."""
    if n == out and (factor is None or factor == 1.0):
        return None
    scale = _scale(n, out, factor, align)
    i = np.arange(out)
    at = i * scale if align else (i + 0.5) * scale - 0.5
    if taps == "linear":
        at = np.maximum(at, 0.0)
    low = np.floor(at).astype(np.int64)
    if taps == "linear":
        low = np.minimum(low, n - 1)
        t = np.clip(at - low, 0.0, 1.0)
        parts = [(low, 1 - t), (low + (low < n - 1), t)]
    else:
        t = at - low
        parts = [(np.clip(low + k, 0, n - 1), _cubic(t - k, -0.75)) for k in (-1, 0, 1, 2)]
    m = np.zeros((out, n))
    for col, weight in parts:
        np.add.at(m, (i, col), weight)
    return m


@functools.lru_cache(maxsize=64)
def _antialiased(taps, n, out, factor, align):
    """A filter as wide as the shrinking asks for, normalised, cut at the borders (as in Pillow)."""
    if n == out and (factor is None or factor == 1.0):
        return None
    scale = _scale(n, out, factor, align)
    stretch = max(scale, 1.0)
    reach = (1.0 if taps == "linear" else 2.0) * stretch
    m = np.zeros((out, n))
    for i in range(out):
        centre = scale * (i + 0.5)
        first = max(int(centre - reach + 0.5), 0)
        last = min(int(centre + reach + 0.5), n)
        t = (np.arange(first, last) - centre + 0.5) / stretch
        w = np.maximum(1 - np.abs(t), 0.0) if taps == "linear" else _cubic(t, -0.5)
        m[i, first:last] = w / w.sum()
    return m


@functools.lru_cache(maxsize=64)
def area_matrix(n, out):
    """Means over the cells of adaptive pooling: cell i is [floor(i n / out), ceil((i + 1) n / out))."""
    if n == out:
        return None
    m = np.zeros((out, n))
    for i in range(out):
        a, b = i * n // out, -(-(i + 1) * n // out)
        m[i, a:b] = 1.0 / (b - a)
    return m


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """The old name of `interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    """`interpolate` by nearest neighbours."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    """`interpolate` bilinearly with aligned corners."""
    return interpolate(input, size, scale_factor, "bilinear", True)
