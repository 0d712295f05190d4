"""Normalisations. One recorded node each; the variance is computed in two passes, in float32 at least."""

import math

from .. import _engine
from .._ops_shape import _reshape
from ._functional_common import autocast, no_grad, record, widen


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


def normalize_rows(name, x, rows, view, wshape, weight, bias, eps):
    """Normalise ``x`` read as ``rows`` = (rows, width); scale and shift it read as ``view`` by weights ``wshape``.

    Returns a tensor of x's shape and dtype.
    """
    dt, shape = x.dtype, x._shape
    with no_grad(False):
        xf = widen(x.detach_copy())
        c, rstd = _statistics(_reshape(xf, rows), eps)
        y = c * rstd
        if weight is not None or bias is not None:
            y = _reshape(y, view)
            if weight is not None:
                y = y * _reshape(widen(weight.detach_copy()), wshape)
            if bias is not None:
                y = y + _reshape(widen(bias.detach_copy()), wshape)
        r = _reshape(y, shape).to(dt).detach_copy()
    inputs = (x, weight, bias)
    if _engine.state.grad and any(t is not None and t.requires_grad for t in inputs):
        need = [t is not None and t.requires_grad for t in inputs]
        xs, ws = x._snap(), None if weight is None else weight._snap()
        saved = (c.detach_copy(), rstd.detach_copy())
        bdt = None if bias is None else bias.dtype

        def backward(g):
            cc, rs = _statistics(_reshape(widen(xs), rows), eps) if _engine.state.grad else saved
            return _gradients(widen(g), cc, rs, rows, view, wshape, ws, need, shape, dt, bdt)

        record((r,), tuple(t if n else None for t, n in zip(inputs, need)), backward, name)
    return r


def _gradients(g, c, rstd, rows, view, wshape, w, need, shape, dt, bdt):
    dims = [i for i, s in enumerate(wshape) if s == 1]
    gv, xhat = _reshape(g, view), c * rstd
    dx = dw = db = None
    if need[1]:
        dw = _reshape((gv * _reshape(xhat, view)).sum(dims), w._shape).to(w.dtype)
    if need[2]:
        db = gv.sum(dims).reshape(-1 if w is None else w._shape).to(bdt)
    if need[0]:
        gh = _reshape(gv if w is None else gv * _reshape(widen(w), wshape), rows)
        n = rows[1]
        dx = _reshape(rstd * (gh - _mean(gh, n) - xhat * _mean(gh * xhat, n)), shape).to(dt).detach_view()
    return dx, dw, db


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise over the last axes.

    Args:
        input: [..., *normalized_shape]. weight, bias: of ``normalized_shape``.

    Raises:
        RuntimeError: the input does not end in ``normalized_shape``.
    """
    x, w, b = autocast("fp32", input, weight, bias)
    ns = tuple(int(s) for s in normalized_shape)
    if x.ndim < len(ns) or tuple(x._shape[x.ndim - len(ns):]) != ns:
        raise RuntimeError(f"Given normalized_shape={list(ns)}, expected input with shape [*, "
                           f"{', '.join(map(str, ns))}], but got input of size{list(x._shape)}")
    width = math.prod(ns)
    rows = (x.numel() // width if width else 0, width)
    return normalize_rows("layer_norm", x, rows, rows, (1, width), w, b, eps)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalise groups of channels.

    Args:
        input: [N, C, ...]. num_groups: divides C. weight, bias: [C].

    Raises:
        RuntimeError: the groups do not divide the channels.
    """
    x, w, b = autocast("fp32", input, weight, bias)
    if x.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {x.ndim}")
    n, c = x._shape[:2]
    if num_groups <= 0 or c % num_groups:
        raise RuntimeError(f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
                           f"{list(x._shape)} and num_groups={num_groups}")
    s = math.prod(x._shape[2:])
    if n * num_groups * s == 0:
        return x.clone()
    return normalize_rows("group_norm", x, (n * num_groups, c // num_groups * s), (n, c, s), (1, c, 1), w, b, eps)


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
    y = normalize_rows("batch_norm", rows, (c, n * s), (c, n * s), (c, 1), weight, bias, eps)
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
    return normalize_rows("instance_norm", input, (n * c, s), (n, c, s), (1, c, 1), weight, bias, eps)


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
