"""Normalisations. One recorded node each; the variance is computed in two passes, in float32 at least.

A kernel does a whole layer; the tensor operations beside it serve float64, small host data and second derivatives, and
are the reference the kernels are tested against.
"""

import math

from jtorch.kernels import active

from .. import _engine, _raw
from .._dtype import float32
from .._elementwise import finish
from .._ops_shape import _reshape
from .._tensor import mk
from ._functional_common import autocast, kernel_data, needs, no_grad, record, widen


def _statistics(x2, eps):
    """(centred rows, 1 / standard deviation) of [rows, width]."""
    n = x2._shape[1]
    c = x2 - _mean(x2, n)
    return c, 1 / (_mean(c * c, n) + eps).sqrt()


def _mean(x2, n):
    # long rows are summed in two steps: one running float32 sum over a whole feature map loses digits
    k = _split(n)
    if k > 1:
        s = _reshape(x2, (x2._shape[0], k, n // k)).sum(2).sum(1, keepdim=True)
    else:
        s = x2.sum(1, keepdim=True)
    return s / n


def _split(n):
    if n < 8192:
        return 1
    k = int(math.sqrt(n))
    while n % k:
        k -= 1
    return k


def _native(*tensors):
    """Whether the kernels apply: in at most single precision, with the data in Jittor."""
    x = tensors[0]
    return (type(x._data()) is _raw.Var and 0 not in x._shape
            and all([t is None or (t.dtype._kind == 2 and t.dtype.itemsize <= 4) for t in tensors]))


def _single(t, shape=None):
    """Data of a tensor in float32 (None passes)."""
    if t is None:
        return None
    v = t._data()
    if t.dtype is not float32 or type(v) is not _raw.Var:
        v = _raw.cast(_raw.to_var(v), float32)
    return v if shape is None or t._shape == shape else _raw.reshape(v, shape)


def _forward(x, rows, inner, groups, weight, bias, eps):
    """(result, saved statistics): raw kernel outputs, or centred rows and 1 / deviation as tensors.

    ``_norm`` on the result: what `silu_of_norm` needs.
    """
    if _native(x, weight, bias):
        n = rows[1] // inner * groups
        values = kernel_data(x), _single(weight, (n,)), _single(bias, (n,))
        y, mean, rstd = active.norm(*values, rows, inner, groups, eps)
        if x.dtype.name not in active.TYPES:
            return finish(y, x._shape, x.dtype, x._device), [mean, rstd]
        r, saved = mk(y, x._shape, x.dtype, x._device), [mean, rstd]
        if inner > 1:
            r._norm = (y, *values, rows, inner, groups, eps, saved)
        return r, saved
    with no_grad(False):
        c, rstd = _statistics(_reshape(widen(x.detach_copy()), rows), eps)
        y = c * rstd
        if weight is not None or bias is not None:
            y = _reshape(y, _view(rows, inner, groups))
            if weight is not None:
                y = y * _reshape(widen(weight.detach_copy()), (1, -1, 1))
            if bias is not None:
                y = y + _reshape(widen(bias.detach_copy()), (1, -1, 1))
        return _reshape(y, x._shape).to(x.dtype).detach_copy(), (c.detach_copy(), rstd.detach_copy())


def _view(rows, inner, groups):
    return rows[0] // groups, groups * (rows[1] // inner), inner


def normalize_rows(name, x, rows, inner, groups, weight, bias, eps):
    """Normalise ``x`` read as ``rows`` = (rows, width), then scale and shift by channel.

    A row holds width / inner channels of ``inner`` values; row r starts at channel (r % groups) * width / inner.
    Returns a tensor of x's shape and dtype.
    """
    r, saved = _forward(x, rows, inner, groups, weight, bias, eps)
    inputs = (x, weight, bias)
    need = [t is not None and t.requires_grad for t in inputs]
    if _engine.state.grad and any(need):
        xs, ws = x._snap(), None if weight is None else weight._snap()
        raw = type(saved[0]) is _raw.Var
        shapes = [None if t is None else (t._shape, t.dtype) for t in inputs]

        def backward(g):
            if raw and not _engine.state.grad:
                return _kernel_gradients(g, xs, ws, saved, rows, inner, groups, need, shapes)
            c, rstd = _statistics(_reshape(widen(xs), rows), eps) if raw or _engine.state.grad else saved
            return _gradients(widen(g), c, rstd, rows, _view(rows, inner, groups), ws, need, shapes)

        record((r,), tuple(t if n else None for t, n in zip(inputs, need)), backward, name)
    return r


def silu_of_norm(r, slope):
    """SiLU of a fresh result of `group_norm` in the same kernel; None for other tensors.

    The tape is that of two operations, but the result between them is computed only where something else asks for it,
    as is its gradient: `_kernel_gradients` finds the mark on that and differentiates both at once. ``slope(g, x)`` is
    SiLU's gradient as tensor operations, for second derivatives.
    """
    mark = r.__dict__.get("_norm")
    if mark is None or mark[0] is not r._data():
        return None
    _, x, w, b, rows, inner, groups, eps, saved = mark
    y, mean, rstd = active.norm(x, w, b, rows, inner, groups, eps, True)
    result = mk(y, r._shape, r.dtype, r._device)
    if needs(r):
        saved[:] = mean, rstd  # or the norm's own kernel would run for them
        shape, dt, device = r._shape, r.dtype, r._device

        def between():
            return active.norm(x, w, b, rows, inner, groups, eps)[0]

        def backward(g):
            if _engine.state.grad:
                s = mk(between(), shape, dt, device)
                s._rg, (s._node, s._out_nr) = True, edge
                return (slope(g, s),)
            gv = _raw.cast(g._var(), dt)
            d = mk(active.activate_backward("silu", between(), gv), shape, dt, device)
            d._silu = (d._v, gv, b, saved)
            return (d,)

        record((result,), (r,), backward, "silu")
        edge = result._node.edges[0]
    return result


def _kernel_gradients(g, x, w, saved, rows, inner, groups, need, shapes):
    xv, (mean, rstd) = kernel_data(x), saved
    gv = kernel_data(g if g.dtype is x.dtype else g.to(x.dtype))
    out = [None, None, None]
    wv = _single(w, (rows[1] // inner * groups,)) if w is not None else None
    mark = g.__dict__.get("_silu")
    if mark is not None and mark[0] is g._data() and mark[3] is saved and need[0]:
        both = need[1] or need[2]
        out[0] = active.norm_silu_backward(xv, mark[1], mean, rstd, wv, mark[2], rows, inner, groups, both)
        if both:
            out[0], gv = out[0]
    elif need[0]:
        out[0] = active.norm_backward(xv, gv, mean, rstd, wv, rows, inner, groups)
    if need[1] or need[2]:
        out[1:] = active.norm_weights(xv, gv, mean, rstd, rows, inner, groups)
    if shapes[0][1].name in active.TYPES:
        out[0] = mk(out[0], *shapes[0], g._device) if need[0] else None
    else:
        out[0] = finish(out[0], *shapes[0], g._device) if need[0] else None
    for i in (1, 2):
        out[i] = finish(_raw.reshape(out[i], shapes[i][0]), *shapes[i], g._device) if need[i] else None
    return tuple(out)


def _gradients(g, c, rstd, rows, view, w, need, shapes):
    gv, xhat = _reshape(g, view), c * rstd
    dx = dw = db = None
    if need[1]:
        dw = _reshape((gv * _reshape(xhat, view)).sum((0, 2)), shapes[1][0]).to(shapes[1][1])
    if need[2]:
        db = _reshape(gv.sum((0, 2)), shapes[2][0]).to(shapes[2][1])
    if need[0]:
        gh = _reshape(gv if w is None else gv * _reshape(widen(w), (1, -1, 1)), rows)
        n = rows[1]
        dx = _reshape(rstd * (gh - _mean(gh, n) - xhat * _mean(gh * xhat, n)), shapes[0][0]).to(shapes[0][1])
        dx = dx.detach_view()
    return dx, dw, db


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise over the last axes.

    Args:
        input: [..., *normalized_shape]. weight, bias: of ``normalized_shape``.

    Raises:
        RuntimeError: the input does not end in ``normalized_shape``.
    """
    x, w, b = autocast("fp32_cuda", input, weight, bias)
    ns, shape = tuple([int(s) for s in normalized_shape]), tuple(x._shape)
    if len(shape) < len(ns) or shape[len(shape) - len(ns):] != ns:
        raise RuntimeError(f"Given normalized_shape={list(ns)}, expected input with shape [*, "
                           f"{', '.join(map(str, ns))}], but got input of size{list(x._shape)}")
    width = math.prod(ns)
    rows = (x.numel() // width if width else 0, width)
    return normalize_rows("layer_norm", x, rows, 1, 1, w, b, eps)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalise groups of channels.

    Args:
        input: [N, C, ...]. num_groups: divides C. weight, bias: [C].

    Raises:
        RuntimeError: the groups do not divide the channels.
    """
    x, w, b = autocast("fp32_cuda", input, weight, bias)
    shape = tuple(x._shape)
    if len(shape) < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {x.ndim}")
    n, c = shape[:2]
    if num_groups <= 0 or c % num_groups:
        raise RuntimeError(f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
                           f"{list(x._shape)} and num_groups={num_groups}")
    s = math.prod(shape[2:])
    if n * num_groups * s == 0:
        return x.clone()
    return normalize_rows("group_norm", x, (n * num_groups, c // num_groups * s), s, num_groups, w, b, eps)


def _update(running, value, momentum):
    if running is not None:
        with no_grad(False):
            running.copy_(running * (1 - momentum) + value.to(running.dtype) * momentum)


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise channels by the batch's statistics (``training``, updating the running ones) or by the running ones.

    Raises:
        ValueError: one value per channel in training.
    """
    x = input
    n, c = x._shape[:2]
    s = math.prod(x._shape[2:])
    if not training:
        shape = [1, c] + [1] * (x.ndim - 2)
        rstd = 1 / (widen(running_var) + eps).sqrt()
        scale = rstd if weight is None else rstd * widen(weight)
        shift = -widen(running_mean) * scale if bias is None else widen(bias) - widen(running_mean) * scale
        return (widen(x) * _reshape(scale, shape) + _reshape(shift, shape)).to(x.dtype)
    if n * s == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x._shape}")
    t = _reshape(widen(x), (n, c, s)).transpose(0, 1)
    rows = _reshape(t, (c, n * s))
    if running_mean is not None or running_var is not None:
        with no_grad(False):
            m = rows.detach_copy()
            mean = _mean(m, n * s)
            d = m - mean
            _update(running_mean, _reshape(mean, (c,)), momentum)
            _update(running_var, _reshape(_mean(d * d, n * s), (c,)) * (n * s / (n * s - 1)), momentum)
    y = normalize_rows("batch_norm", rows, (c, n * s), n * s, c, weight, bias, eps)
    return _reshape(_reshape(y, (c, n, s)).transpose(0, 1), x._shape).to(x.dtype).detach_view()


def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True,
                  momentum=0.1, eps=1e-5):
    """Normalise every channel of every sample over its spatial axes."""
    n, c = input._shape[:2]
    s = math.prod(input._shape[2:])
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if s == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input._shape}")
    if running_mean is not None or running_var is not None:
        with no_grad(False):
            flat = _reshape(widen(input.detach_copy()), (n, c, s))
            _update(running_mean, flat.mean((0, 2)), momentum)
            _update(running_var, flat.var(2).mean(0), momentum)
    return normalize_rows("instance_norm", input, (n * c, s), s, c, weight, bias, eps)


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """Divide by (k + alpha * mean square of ``size`` neighbouring channels) ** beta."""
    from ._functional_pad import pad

    if input.ndim < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)")
    if input.numel() == 0:
        return input
    c = input._shape[1]
    sq = _reshape(input * input, (input._shape[0], c, -1))
    wide = pad(sq, (0, 0, size // 2, (size - 1) // 2))
    total = None
    for i in range(size):
        part = wide.narrow(1, i, c)
        total = part if total is None else total + part
    return input / _reshape(total * (alpha / size) + k, input._shape) ** beta


def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """x / max(norm of order ``p`` along ``dim``, eps)."""
    r = input / input.norm(p, dim, keepdim=True).clamp(min=eps)
    return r if out is None else out._inplace(r)
