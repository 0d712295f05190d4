"""Linear maps, convolutions, table look-ups and dropout."""

import functools
import math

import numpy as np
from jtorch.kernels import active

from .. import _engine, _raw
from .._conv import conv_nd, conv_transpose_nd
from .._dtype import Size, float32, int64
from .._elementwise import finish
from .._ops_index import take
from .._ops_linalg import _raw_bmm, bmm_op
from .._ops_random import engine_of
from .._ops_shape import _reshape, unsqueeze
from .._tensor import mk, same_device
from ._functional_common import autocast, in_place, native, needs, no_grad, ntuple, record


def linear(input, weight, bias=None):
    """``input @ weight.T + bias``.

    Args:
        input: [..., in]. weight: [out, in] (or [in]). bias: [out].

    Returns:
        [..., out], in the inputs' common dtype (autocast's where that is on).

    Raises:
        RuntimeError: sizes or dtypes do not fit.
    """
    x, w, b = autocast("low", input, weight, bias)
    if w.ndim == 1:
        r = x.matmul(w)
        return r if b is None else r + b
    place = x._device
    if place is not w._device or (b is not None and b._device is not place):
        same_device(x, w, b)
    if x.dtype is not w.dtype:
        raise RuntimeError(f"mat1 and mat2 must have the same dtype, but got {x.dtype.name} and {w.dtype.name}")
    n, k = w._shape
    *lead, last = x._shape or (1,)
    m = math.prod(lead)
    if not x._shape or last != k:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({m}x{last} and {k}x{n})")
    direct = native(x) and m and n and k and (b is None or b.dtype is x.dtype)
    if direct:
        v = active.linear(x._data(), w._var(), None if b is None else b._var())
    else:
        v = _plain(x._data(), w._data(), None if b is None else b._data(), (1, m, k), (1, n, k), (*lead, n), x.dtype)
    r = mk(v, (*lead, n), x.dtype, x._device) if direct else finish(v, (*lead, n), x.dtype, x._device)
    if needs(x, w) or (b is not None and needs(b)):
        _record_linear(r, x, w, b, (1, m, k), (1, n, k), (1, m, n))
    return r


def _plain(x, w, b, sx, sw, shape, dtype):
    """The map by a product and a sum, on the host or in Jittor."""
    if type(x) is not type(w):
        x, w = _raw.to_var(x), _raw.to_var(w)
    v = _raw.reshape(_raw_bmm(_raw.reshape(x, sx), _raw.reshape(w, sw), False, True), shape)
    return v if b is None else _raw.add(v, _raw.cast(b, dtype))


def _record_linear(r, x, w, b, sx, sw, sg):
    gx, gw, gb = x.requires_grad, w.requires_grad, b is not None and b.requires_grad
    xs, ws = (x._snap() if gw else None), (w._snap() if gx else None)
    shape_x, shape_w, bdt = x._shape, w._shape, b.dtype if gb else None

    def backward(g):
        direct = gx and not _engine.state.grad and native(g) and native(ws) and g.dtype is ws.dtype and 0 not in sg
        g3 = None if direct and not (gw or gb) else _reshape(g, sg)
        dx = dw = db = None
        if direct:
            dx = mk(active.linear_data(g._data(), ws._data()), shape_x, g.dtype, g._device)
        elif gx:
            dx = _reshape(bmm_op(g3, _reshape(ws, sw)), shape_x).detach_view()
        if gw:
            dw = _reshape(bmm_op(g3, _reshape(xs, sx), True, False), shape_w).detach_view()
        if gb:
            db = g3.sum((0, 1)).to(bdt)
        return dx, dw, db

    record((r,), (x if gx else None, w if gw else None, b if gb else None), backward, "linear")


def bilinear(input1, input2, weight, bias=None):
    """``input1[..., i] weight[o, i, j] input2[..., j]`` summed over i and j, plus bias[o]."""
    a, b, w, c = autocast("low", input1, input2, weight, bias)
    o, i, j = w._shape
    lead = a._shape[:-1]
    a2, b2 = _reshape(a, (-1, i)), _reshape(b, (-1, j))
    left = a2.matmul(_reshape(w.permute(1, 0, 2), (i, o * j)))  # [m, o * j]
    r = (_reshape(left, (-1, o, j)) * unsqueeze(b2, 1)).sum(-1)
    r = _reshape(r, (*lead, o)).detach_view()
    return r if c is None else r + c


# --- convolution -------------------------------------------------------------------------------------------------------
def _check_conv(name, x, w, n, channels, groups):
    """``x`` and ``w``: sizes."""
    if len(w) != n + 2:
        raise RuntimeError(f"{name}: expected a {n + 2}D weight, but got size {list(w)}")
    if len(x) not in (n + 1, n + 2):
        raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: "
                           f"{list(x)}")
    c = x[-n - 1]
    if c != channels:
        raise RuntimeError(f"Given groups={groups}, weight of size {list(w)}, expected input{list(x)} to "
                           f"have {channels} channels, but got {c} channels instead")


def _check_conv_types(x, w):
    if x.dtype is not w.dtype:
        raise RuntimeError(f"Input type ({x.dtype!r}) and weight type ({w.dtype!r}) should be the same")


@functools.lru_cache(4096)
def _conv_places(name, n, x, w, stride, padding, dilation, groups):
    """(stride, padding, dilation) as tuples for inputs of sizes ``x`` and ``w``; a padding may stay a name."""
    _check_conv(name, x, w, n, w[1] * groups if len(w) > 1 else 0, groups)
    if w[0] % groups:
        raise RuntimeError(f"{name}: weight of size {list(w)} has {w[0]} output channels, which groups={groups} does not "
                           "divide")
    stride, dilation = ntuple(stride, n, "stride"), ntuple(dilation, n, "dilation")
    if isinstance(padding, str):
        return stride, padding, dilation
    padding = ntuple(padding, n, "padding")
    _check_fit(x[-n:], w, padding, dilation)
    return stride, padding, dilation


def _check_fit(sizes, w, padding, dilation):
    for size, k, p, d in zip(sizes, w[2:], padding, dilation):
        if size + 2 * p < d * (k - 1) + 1:
            raise RuntimeError(f"Calculated padded input size per channel: ({size + 2 * p}). Kernel size: "
                               f"({d * (k - 1) + 1}). Kernel size can't be greater than actual input size")


def _hashable(value):
    return tuple(value) if isinstance(value, list) else value


def _add_bias(r, b, n):
    return r if b is None else r + _reshape(b, (-1, *(1,) * n))


def _conv(name, n, input, weight, bias, stride, padding, dilation, groups):
    x, w, b = autocast("low", input, weight, bias)
    stride, padding, dilation = _conv_places(name, n, tuple(x._shape), tuple(w._shape), *map(
        _hashable, (stride, padding, dilation)), groups)
    _check_conv_types(x, w)
    flat = len(x._shape) == n + 1
    x = unsqueeze(x, 0) if flat else x
    if isinstance(padding, str):
        x, padding = _named_padding(name, x, w, padding, stride, dilation, n)
        _check_fit(x._shape[2:], w._shape, padding, dilation)
    if x._device is not w._device:
        same_device(x, w, b)
    r = conv_nd(x, w, stride, padding, dilation, groups, b)
    return r.squeeze(0).detach_view() if flat else r


def _named_padding(name, x, w, padding, stride, dilation, n):
    """('valid' or 'same') as an input padded on one side where that is uneven, and a symmetric rest."""
    if padding == "valid":
        return x, (0,) * n
    if padding != "same":
        raise RuntimeError(f"Invalid padding string: {padding!r}; {name} knows 'valid' and 'same'")
    if any(s != 1 for s in stride):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    total = [d * (k - 1) for k, d in zip(w._shape[2:], dilation)]
    if any(t % 2 for t in total):
        from ._functional_pad import pad

        x = pad(x, [v for t in reversed(total) for v in (0, t % 2)])
    return x, tuple(t // 2 for t in total)


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolution over one axis: [N, C, L] with [O, C / groups, k]; ``padding`` an int, 'same' or 'valid'."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolution over two axes: [N, C, H, W] with [O, C / groups, kh, kw]."""
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolution over three axes: [N, C, D, H, W] with [O, C / groups, kd, kh, kw]."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(n, input, weight, bias, stride, padding, output_padding, groups, dilation):
    name = f"conv_transpose{n}d"
    x, w, b = autocast("low", input, weight, bias)
    _check_conv(name, x._shape, w._shape, n, w._shape[0], groups)
    _check_conv_types(x, w)
    stride, padding, out, dilation = (ntuple(v, n, k) for k, v in (
        ("stride", stride), ("padding", padding), ("output_padding", output_padding), ("dilation", dilation)))
    if any(o >= max(s, d) for o, s, d in zip(out, stride, dilation)):
        raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got output_padding: "
                           f"{list(out)} stride: {list(stride)} dilation: {list(dilation)}")
    flat = x.ndim == n + 1
    x = unsqueeze(x, 0) if flat else x
    r = _add_bias(conv_transpose_nd(x, w, stride, padding, out, dilation, groups), b, n)
    return r.squeeze(0).detach_view() if flat else r


def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution over one axis: [N, I, L] with [I, O / groups, k]."""
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution over two axes: [N, I, H, W] with [I, O / groups, kh, kw]."""
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution over three axes: [N, I, D, H, W] with [I, O / groups, kd, kh, kw]."""
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_tbc(input, weight, bias, pad=0):
    """Convolution of [time, batch, in] with [k, in, out], zero-padded by ``pad`` on both ends."""
    r = conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return r.permute(2, 0, 1)


# --- tables ------------------------------------------------------------------------------------------------------------
def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """Rows of a table.

    Args:
        input: integers of any shape. weight: [rows, width].
        padding_idx: a row whose gradient stays zero. max_norm: rows used are first scaled down to it, in place.
        sparse: the gradient is dense all the same (equal values, more memory).

    Returns:
        [*input.shape, width].

    Raises:
        IndexError: an index out of range. NotImplementedError: ``scale_grad_by_freq``.
    """
    if scale_grad_by_freq:
        raise NotImplementedError("embedding with scale_grad_by_freq=True is not implemented in torch on Jittor")
    if input.dtype._kind != 1:
        raise RuntimeError(f"Expected tensor for argument #1 'indices' to have scalar type Long or Int; but got "
                           f"{input.dtype!r} instead")
    if input._device is not weight._device:
        same_device(weight, input)
    rows, width = weight._shape
    a = input._data()
    if type(a) is np.ndarray and a.size and (a.min() < 0 or a.max() >= rows):
        raise IndexError(f"index out of range in self: {a.min() if a.min() < 0 else a.max()} in a table of {rows} rows")
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    if max_norm is not None:
        _renorm_rows(weight, input, max_norm, norm_type)
    if input.numel() == 0:
        return weight.new_zeros((*input._shape, width))
    flat = _reshape(input, (-1,)).detach_copy()
    r = take(weight, flat)
    if padding_idx is not None and r.requires_grad:
        keep = unsqueeze(flat != padding_idx, 1)
        plain = r.detach_copy()
        inner = r
        r = mk(plain._v, plain._shape, plain.dtype, plain._device)
        record((r,), (inner,), lambda g: (g * keep,), "embedding")
    return _reshape(r, (*input._shape, width)).detach_view()


def _renorm_rows(weight, input, max_norm, norm_type):
    with no_grad(False):
        used = np.unique(input._host())
        idx = mk(used.astype(np.int64), used.shape, int64)
        w = weight.detach()
        rows = w[idx]
        norm = rows.norm(norm_type, dim=1, keepdim=True)
        scale = (max_norm / (norm + 1e-7)).clamp(max=1.0)
        w[idx] = rows * (scale * (norm > max_norm) + (norm <= max_norm))


def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, mode="mean",
                  sparse=False, per_sample_weights=None, include_last_offset=False, padding_idx=None):
    """Sum, mean or maximum of table rows per bag: [bags, length] indices, or 1-D indices cut at ``offsets``."""
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"mode has to be one of sum, mean or max, not {mode!r}")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError("embedding_bag: per_sample_weights needs mode='sum'")
    if input.ndim == 2:
        bags = [list(range(i * input._shape[1], (i + 1) * input._shape[1])) for i in range(input._shape[0])]
    else:
        cuts = [int(v) for v in offsets._host()]
        cuts = cuts if include_last_offset else [*cuts, input.numel()]
        bags = [list(range(a, b)) for a, b in zip(cuts, cuts[1:])]
    idx = input._host().reshape(-1)
    if padding_idx is not None:
        bags = [[k for k in bag if idx[k] != padding_idx % weight._shape[0]] for bag in bags]
    rows = embedding(_reshape(input, (-1,)), weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if mode == "max":
        from .. import stack

        zero = rows.new_zeros((weight._shape[1],))
        return stack([rows[bag[0]:bag[-1] + 1].amax(0) if bag else zero for bag in bags])
    m = np.zeros((len(bags), idx.size), np.float32)
    for i, bag in enumerate(bags):
        m[i, bag] = 1 / len(bag) if mode == "mean" and bag else 1
    pick = mk(m, m.shape, float32, rows._device).to(rows.dtype)
    if per_sample_weights is not None:
        rows = rows * _reshape(per_sample_weights, (-1, 1))
    return pick.matmul(rows)


def one_hot(tensor, num_classes=-1):
    """int64 [..., num_classes] with a 1 at each class number. Raises RuntimeError for numbers out of range."""
    a = tensor._host()
    if a.size == 0 and num_classes <= 0:
        raise RuntimeError("Can not infer total number of classes from empty tensor.")
    if a.size and a.min() < 0:
        raise RuntimeError("Class values must be non-negative.")
    n = int(a.max()) + 1 if num_classes == -1 else num_classes
    if a.size and a.max() >= n:
        raise RuntimeError("Class values must be smaller than num_classes.")
    r = (a[..., None] == np.arange(n)).astype(np.int64)
    return mk(r, r.shape, int64, tensor._device)


# --- dropout -----------------------------------------------------------------------------------------------------------
def _check_p(p):
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _noise(x, shape, p):
    from .. import empty

    return empty(shape, dtype=x.dtype, device=x._device).bernoulli_(1 - p)


def _drop(x, p, shape):
    if p == 1:
        return x * 0
    if x.dtype is float32 and not x.is_meta:
        keep = engine_of(None).bernoulli(shape.numel(), 1 - p).astype(np.float32)
        keep /= np.float32(1 - p)
        return x * mk(keep.reshape(shape), shape, float32, x._device)
    return x * (_noise(x, shape, p) / (1 - p))


def dropout(input, p=0.5, training=True, inplace=False):
    """Zero each element with probability ``p`` and scale the rest by 1 / (1 - p); the identity unless ``training``."""
    _check_p(p)
    if not training or p == 0 or input.numel() == 0:
        return input
    return in_place(input, lambda x: _drop(x, p, x._shape), inplace)


def _dropout_channels(input, p, training, inplace, lead):
    _check_p(p)
    if not training or p == 0 or input.numel() == 0:
        return input
    return in_place(input, lambda x: _drop(x, p, Size((*x._shape[:lead], *(1,) * (x.ndim - lead)))), inplace)


def dropout1d(input, p=0.5, training=True, inplace=False):
    """Zero whole channels of [N, C, L] or [C, L]."""
    return _dropout_channels(input, p, training, inplace, 2 if input.ndim == 3 else 1)


def dropout2d(input, p=0.5, training=True, inplace=False):
    """Zero whole channels of [N, C, H, W] (a 3-D input counts as [N, C, L], as in PyTorch)."""
    return _dropout_channels(input, p, training, inplace, 2)


def dropout3d(input, p=0.5, training=True, inplace=False):
    """Zero whole channels of [N, C, D, H, W] or [C, D, H, W]."""
    return _dropout_channels(input, p, training, inplace, 2 if input.ndim == 5 else 1)


_ALPHA = 1.7580993408473766  # scale * alpha of SELU, negated: its value at minus infinity


def _alpha_drop(x, p, shape):
    if p == 1:
        return x * 0
    keep = _noise(x, shape, p)
    a = ((_ALPHA**2 * p + 1) * (1 - p)) ** -0.5
    return x * (keep * a) + (keep - 1) * (_ALPHA * a) + _ALPHA * a * p


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout to SELU's floor that keeps mean and variance."""
    _check_p(p)
    if not training or p == 0:
        return input
    return in_place(input, lambda x: _alpha_drop(x, p, x._shape), inplace)


def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """`alpha_dropout` of whole channels."""
    _check_p(p)
    if not training or p == 0:
        return input
    return in_place(input, lambda x: _alpha_drop(x, p, (*x._shape[:2], *(1,) * (x.ndim - 2))), inplace)
