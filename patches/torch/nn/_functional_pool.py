"""Pooling. Averages are small matrices per axis; maxima come from one pass that also tells where they stood."""

import itertools
import math

import numpy as np
from jtorch.kernels import active

from .. import _engine, _raw
from .._dtype import float32, int64
from .._elementwise import finish
from .._ops_index import add_rows
from .._ops_shape import _reshape, unsqueeze
from .._tensor import mk
from ._functional_common import ntuple, record
from ._functional_resize import apply_filters, area_matrix


def _out_size(n, k, s, p, d, ceil_mode):
    span = n + 2 * p - d * (k - 1) - 1
    out = (-(-span // s) if ceil_mode else span // s) + 1
    if ceil_mode and (out - 1) * s >= n + p:  # a last window that starts in the padding does not count
        out -= 1
    return out


def _prepare(name, x, n, kernel_size, stride, padding, dilation, ceil_mode):
    k = ntuple(kernel_size, n, "kernel_size")
    s = k if stride is None or (isinstance(stride, (tuple, list)) and not stride) else ntuple(stride, n, "stride")
    p, d = ntuple(padding, n, "padding"), ntuple(dilation, n, "dilation")
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}: expected {n + 1}D or {n + 2}D input, but got input of size {list(x._shape)}")
    if any(q > kk // 2 for q, kk in zip(p, k)):
        raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={list(p)} and "
                           f"kernel_size={list(k)}")
    sizes = tuple(x._shape[-n:])
    out = tuple(_out_size(*a, ceil_mode) for a in zip(sizes, k, s, p, d))
    if min(out) < 1:
        raise RuntimeError(f"Given input size: {list(sizes)}. Calculated output size: {list(out)}. Output size is too "
                           "small")
    return k, s, p, d, sizes, out


def _batched(x, n, f):
    return f(x) if x.ndim == n + 2 else f(unsqueeze(x, 0)).squeeze(0).detach_view()


# --- averages ----------------------------------------------------------------------------------------------------------
def _average_matrix(n, out, k, s, p, include_pad, divide):
    m = np.zeros((out, n))
    for i in range(out):
        a = i * s - p
        b = min(a + k, n + p)
        full = b - a
        a, b = max(a, 0), min(b, n)
        m[i, a:b] = 1.0 / (full if include_pad else max(b - a, 1)) if divide else 1.0
    return m


def _avg(name, n, input, kernel_size, stride, padding, ceil_mode, include_pad, divisor=None):
    if divisor == 0:
        raise RuntimeError("divisor must be not zero")
    k, s, p, _, sizes, out = _prepare(name, input, n, kernel_size, stride, padding, 1, ceil_mode)
    mats = [_average_matrix(a, b, *c, include_pad, divisor is None) for a, b, *c in zip(sizes, out, k, s, p)]
    if divisor is not None:
        mats[0] = mats[0] / divisor
    return _batched(input, n, lambda x: apply_filters(x, mats))


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """Means over windows of [N, C, L]."""
    return _avg("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None):
    """Means over windows of [N, C, H, W]."""
    return _avg("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None):
    """Means over windows of [N, C, D, H, W]."""
    return _avg("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _target_sizes(x, n, output_size):
    sizes = tuple(x._shape[-n:])
    if not isinstance(output_size, (tuple, list)):
        output_size = (output_size,) * n
    return sizes, tuple(a if o is None else int(o) for a, o in zip(sizes, output_size))


def _adaptive_avg(n, input, output_size):
    sizes, out = _target_sizes(input, n, output_size)
    return _batched(input, n, lambda x: apply_filters(x, [area_matrix(a, b) for a, b in zip(sizes, out)]))


def adaptive_avg_pool1d(input, output_size):
    """Means over ``output_size`` cells of [N, C, L]."""
    return _adaptive_avg(1, input, output_size)


def adaptive_avg_pool2d(input, output_size):
    """Means over (h, w) cells of [N, C, H, W]; None keeps a size."""
    return _adaptive_avg(2, input, output_size)


def adaptive_avg_pool3d(input, output_size):
    """Means over (d, h, w) cells of [N, C, D, H, W]; None keeps a size."""
    return _adaptive_avg(3, input, output_size)


def _lp(n, pool, input, norm_type, kernel_size, stride, ceil_mode):
    size = math.prod(ntuple(kernel_size, n))
    out = pool(input ** norm_type, kernel_size, stride, 0, ceil_mode)
    return (out.sign() * out.abs().relu() * size) ** (1.0 / norm_type)


def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The norm of order ``norm_type`` over windows of [N, C, L]."""
    return _lp(1, avg_pool1d, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The norm of order ``norm_type`` over windows of [N, C, H, W]."""
    return _lp(2, avg_pool2d, input, norm_type, kernel_size, stride, ceil_mode)


# --- maxima ------------------------------------------------------------------------------------------------------------
def _max_jittor(v, sizes, out, k, s, p, d):
    """A NaN wins, the first of equal values wins, as in PyTorch."""
    return active.max_pool(_raw.reshape(v, (math.prod(v.shape) // math.prod(sizes), *sizes)), out, (*k, *s, *p, *d))


def _max_host(a, cells):
    """Maximum and its flat place over cells: per axis a list of index arrays, one per output."""
    sizes = a.shape[1:]
    out = tuple(len(c) for c in cells)
    top = np.empty((a.shape[0], *out), a.dtype)
    where_ = np.empty((a.shape[0], *out), np.int64)
    for at in itertools.product(*(range(o) for o in out)):
        mesh = np.ix_(*(c[i] for c, i in zip(cells, at)))
        flat = np.ravel_multi_index(np.broadcast_arrays(*mesh), sizes).reshape(-1)
        window = a.reshape(a.shape[0], -1)[:, flat]
        j = window.argmax(1)
        top[(slice(None), *at)] = window[np.arange(len(j)), j]
        where_[(slice(None), *at)] = flat[j]
    return top, where_


def _max_pool(x, out, cells, kernel=None):
    """Recorded maximum over cells; returns (values, int64 places within the plane)."""
    n = len(out)
    lead, sizes = tuple(x._shape[:-n]), tuple(x._shape[-n:])
    planes, area = math.prod(lead), math.prod(sizes)
    v = x._data()
    native = kernel is not None and n == 2 and x.dtype.itemsize <= 4
    if native and type(v) is _raw.Var:
        top, place = _max_jittor(_raw.cast(v, float32), sizes, out, *kernel)
        index = mk(_raw.cast(place, int64), (*lead, *out), int64, x._device)
    else:
        top, place = _max_host(_raw.to_host(v).reshape(planes, *sizes), cells() if callable(cells) else cells)
        index = finish(place, (*lead, *out), int64, x._device)
    r = finish(_raw.reshape(top, (*lead, *out)), (*lead, *out), x.dtype, x._device)
    index._v = _raw.reshape(index._v, (*lead, *out))
    if x.requires_grad and _engine.state.grad:
        base = mk(np.arange(planes, dtype=np.int64)[:, None] * area, (planes, 1), int64, index._device)
        flat = _reshape(_reshape(index, (planes, -1)) + base, (-1,)).detach_copy()
        shape = x._shape

        def backward(g):
            zero = mk(_raw.full((planes * area, 1), 0, g.dtype), (planes * area, 1), g.dtype, g._device)
            return (_reshape(add_rows(zero, flat, _reshape(g, (-1, 1))), shape).detach_view(),)

        record((r,), (x,), backward, "max_pool")
    return r, index


def _max(name, n, input, kernel_size, stride, padding, dilation, ceil_mode):
    k, s, p, d, sizes, out = _prepare(name, input, n, kernel_size, stride, padding, dilation, ceil_mode)
    if n == 1:  # as a plane of height 1
        r, i = _max(name, 2, unsqueeze(input, -2), (1, *k), (1, *s), (0, *p), (1, *d), ceil_mode)
        return r.squeeze(-2).detach_view(), i.squeeze(-2).detach_view()

    def cells():
        return [[np.array([q for q in range(i * ss - pp, i * ss - pp + (kk - 1) * dd + 1, dd) if 0 <= q < a])
                 for i in range(o)] for a, o, kk, ss, pp, dd in zip(sizes, out, k, s, p, d)]

    return _max_pool(input, out, cells, (k, s, p, d))


def _max_public(n):
    name = f"max_pool{n}d"

    def with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        return _max(name, n, input, kernel_size, stride, padding, dilation, ceil_mode)

    def pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        r = _max(name, n, input, kernel_size, stride, padding, dilation, ceil_mode)
        return r if return_indices else r[0]

    pool.__name__, with_indices.__name__ = name, name + "_with_indices"
    pool.__doc__ = f"Maxima over windows of the last {n} axes; with ``return_indices`` also their flat places."
    with_indices.__doc__ = f"`{name}` with ``return_indices``."
    return pool, with_indices


(max_pool1d, max_pool1d_with_indices), (max_pool2d, max_pool2d_with_indices), (max_pool3d, max_pool3d_with_indices) = (
    _max_public(n) for n in (1, 2, 3))


def _adaptive_max_public(n):
    name = f"adaptive_max_pool{n}d"

    def with_indices(input, output_size, return_indices=False):
        sizes, out = _target_sizes(input, n, output_size)
        cells = [[np.arange(i * a // o, -(-(i + 1) * a // o)) for i in range(o)] for a, o in zip(sizes, out)]
        return _max_pool(input, out, cells)

    def pool(input, output_size, return_indices=False):
        r = with_indices(input, output_size)
        return r if return_indices else r[0]

    pool.__name__, with_indices.__name__ = name, name + "_with_indices"
    pool.__doc__ = f"Maxima over ``output_size`` cells of the last {n} axes; optionally with their flat places."
    with_indices.__doc__ = f"`{name}` with ``return_indices``."
    return pool, with_indices


adaptive_max_pool1d, adaptive_max_pool1d_with_indices = _adaptive_max_public(1)
adaptive_max_pool2d, adaptive_max_pool2d_with_indices = _adaptive_max_public(2)
adaptive_max_pool3d, adaptive_max_pool3d_with_indices = _adaptive_max_public(3)


def _max_unpool(n, input, indices, kernel_size, stride, padding, output_size):
    k = ntuple(kernel_size, n)
    s = k if stride is None else ntuple(stride, n)
    p = ntuple(padding, n)
    if output_size is None:
        out = tuple((a - 1) * ss + kk - 2 * pp for a, kk, ss, pp in zip(input._shape[-n:], k, s, p))
    else:
        out = tuple(int(v) for v in output_size)[-n:]
    lead = tuple(input._shape[:-n])
    area = math.prod(out)
    idx = indices._host()
    if idx.size and (idx.min() < 0 or idx.max() >= area):
        raise RuntimeError(f"Found an invalid max index: {idx.max()} (output volumes are of size {'x'.join(map(str, out))}")
    flat = input.new_zeros((*lead, area)).scatter(-1, _reshape(indices, (*lead, -1)), _reshape(input, (*lead, -1)))
    return _reshape(flat, (*lead, *out)).detach_view()


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Put the maxima of `max_pool1d` back where they stood; zero elsewhere."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Put the maxima of `max_pool2d` back where they stood; zero elsewhere."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Put the maxima of `max_pool3d` back where they stood; zero elsewhere."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
