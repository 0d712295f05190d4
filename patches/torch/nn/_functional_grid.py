"""Sampling images at given positions."""

import numpy as np

from .._ops_pointwise import where
from .._ops_shape import _reshape, unsqueeze
from ._functional_common import constant


def affine_grid(theta, size, align_corners=None):
    """Sampling positions of affine maps, for `grid_sample`.

    Args:
        theta: [N, 2, 3] (or [N, 3, 4]). size: of the output, (N, C, H, W) or (N, C, D, H, W).

    Returns:
        [N, H, W, 2] (x, y) or [N, D, H, W, 3] (x, y, z), in -1 .. 1.
    """
    spatial = [int(s) for s in size[2:]]
    n = len(spatial)
    if tuple(theta._shape[1:]) != (n, n + 1):
        raise ValueError(f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size {tuple(size)}. Got "
                         f"{tuple(theta._shape)}.")
    axes = []
    for s in spatial:
        a = np.linspace(-1, 1, s) if s > 1 else np.zeros(1)
        axes.append(a if align_corners else a * (s - 1) / s)
    grids = np.meshgrid(*axes, indexing="ij")[::-1]
    base = np.stack([g.reshape(-1) for g in (*grids, np.ones(spatial))], -1)  # [positions, n + 1]
    r = constant(base[None], theta).matmul(theta.transpose(1, 2))
    return _reshape(r, (theta._shape[0], *spatial, n)).detach_view()


def _positions(g, n, align):
    return (g + 1) * ((n - 1) / 2) if align else ((g + 1) * n - 1) * 0.5


def _reflected(x, n, align):
    low, span = (0.0, n - 1.0) if align else (-0.5, float(n))
    if span <= 0:
        return x * 0
    t = (x - low).abs()
    period = 2 * span
    t = t - (t / period).detach().floor() * period
    return where(t > span, period - t, t) + low


def _bounded(x, n, mode, align):
    if mode == "zeros":
        return x
    if mode == "reflection":
        x = _reflected(x, n, align)
    return x.clamp(0, n - 1)


def _fetch(flat, index, sizes):
    """Pixels [N, C, P] at integer positions (one tensor [N, P] per axis); zero outside."""
    inside, at = None, None
    for i, s in zip(index, sizes):
        ok = (i >= 0) & (i <= s - 1)
        inside = ok if inside is None else inside & ok
        c = i.clamp(0, s - 1)
        at = c if at is None else at * s + c
    n, c = flat._shape[:2]
    at = unsqueeze(at.long(), 1).expand(n, c, at._shape[1])
    return flat.gather(2, at) * unsqueeze(inside, 1).to(flat.dtype)


def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """Pixels of [N, C, H, W] (or [N, C, D, H, W]) at grid positions in -1 .. 1.

    Args:
        grid: [N, h, w, 2] with (x, y), or [N, d, h, w, 3] with (x, y, z).
        mode: 'bilinear' (trilinear in 3-D), 'nearest' or, in 2-D, 'bicubic'.
        padding_mode: 'zeros', 'border' or 'reflection'.

    Raises:
        ValueError: an unknown mode. RuntimeError: shapes that do not fit.
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: "
                         f"'{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', "
                         f"but got: '{padding_mode}'")
    sizes = tuple(input._shape[2:])
    n = len(sizes)
    if n not in (2, 3) or grid.ndim != input.ndim or grid._shape[-1] != n or grid._shape[0] != input._shape[0]:
        raise RuntimeError(f"grid_sampler(): expected input and grid to have the same batch size and fitting shapes, but "
                           f"got input of size {list(input._shape)} and grid of size {list(grid._shape)}")
    if mode == "bicubic" and n == 3:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    align = bool(align_corners)
    out = tuple(grid._shape[1:-1])
    points = _reshape(grid, (grid._shape[0], -1, n))
    pos = [_positions(points.select(2, n - 1 - d), s, align) for d, s in enumerate(sizes)]  # y (, z) first, then x
    flat = _reshape(input, (*input._shape[:2], -1))
    if mode == "bicubic":
        r = _bicubic(flat, pos, sizes, padding_mode, align)
    else:
        pos = [_bounded(p, s, padding_mode, align) for p, s in zip(pos, sizes)]
        r = _corners(flat, pos, sizes) if mode == "bilinear" else _fetch(flat, [p.detach().round() for p in pos], sizes)
    return _reshape(r, (*input._shape[:2], *out)).detach_view()


def _corners(flat, pos, sizes):
    low = [p.detach().floor() for p in pos]
    frac = [p - q for p, q in zip(pos, low)]
    total = None
    for corner in range(2 ** len(pos)):
        index, weight = [], None
        for d, (q, f) in enumerate(zip(low, frac)):
            up = corner >> d & 1
            index.append(q + up)
            w = f if up else 1 - f
            weight = w if weight is None else weight * w
        part = _fetch(flat, index, sizes) * unsqueeze(weight, 1)
        total = part if total is None else total + part
    return total


def _cubic_weights(t):
    a = -0.75

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return far(t + 1), near(t), near(1 - t), far(2 - t)


def _bicubic(flat, pos, sizes, mode, align):
    low = [p.detach().floor() for p in pos]
    wy, wx = (_cubic_weights(p - q) for p, q in zip(pos, low))
    total = None
    for i in range(4):
        for j in range(4):
            index = [_bounded(low[0] + (i - 1), sizes[0], mode, align), _bounded(low[1] + (j - 1), sizes[1], mode, align)]
            if mode == "reflection":
                index = [k.round() for k in index]
            part = _fetch(flat, index, sizes) * unsqueeze(wy[i] * wx[j], 1)
            total = part if total is None else total + part
    return total
