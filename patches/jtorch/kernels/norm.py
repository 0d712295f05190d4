"""Normalisation of rows with weights by channel (layer, group, instance and batch norm), on the CPU in float32.

Data may have any shape that holds rows * width numbers in this order; results have the shape of x.
"""

import functools

from . import activation
from .sources import include, jt, source

_FORWARD, _INPUT, _SILU_INPUT, _WEIGHTS = (source(f"{name}.cc") for name in (
    "norm", "norm_backward", "norm_silu_backward", "norm_weights"))
_SILU = activation.header("silu") + include(
    "static inline float silu_value(float x) { float slope; return silu(x, &slope); }\n"
    "static inline float silu_slope(float x) { float slope; silu(x, &slope); return slope; }\n", "norm_silu")
_THREE = ["float32"] * 3


@functools.cache
def _header(weight, bias=None, silu=False):
    """``weight`` and ``bias`` are numbers of inputs or None."""
    w = "1.f" if weight is None else f"in{weight}_p[(i)]"
    b = "0.f" if bias is None else f"in{bias}_p[(i)]"
    end = _SILU + "#define FINISH(v) silu_value(v)\n" if silu else "#define FINISH(v) (v)\n"
    return f"#include <algorithm>\n#include <cmath>\n#define WEIGHT(i) {w}\n#define BIAS(i) {b}\n{end}"


def _inputs(inputs, *more):
    """``inputs`` and those of ``more`` that are there, with the numbers of the latter (None for the others)."""
    at = []
    for t in more:
        at.append(None if t is None else len(inputs))
        inputs = inputs if t is None else [*inputs, t]
    return inputs, at


def _data(rows, inner, groups, eps=0.0):
    return {"rows": float(rows[0]), "width": float(rows[1]), "inner": float(inner), "groups": float(groups), "eps": eps}


def norm(x, weight, bias, rows, inner, groups, eps, silu=False):
    """(y, mean [rows], 1 / deviation [rows]) of x, read as ``rows`` = (rows, width); ``weight`` and ``bias`` [channels]
    or None.

    A row holds width / inner channels of ``inner`` values, beginning with channel (row % groups) * width / inner.
    With ``silu`` y is SiLU of the result.
    """
    inputs, at = _inputs([x], weight, bias)
    return jt.code([x.shape, (rows[0],), (rows[0],)], _THREE, inputs, cpu_header=_header(*at, silu), cpu_src=_FORWARD,
                   data=_data(rows, inner, groups, eps))


def norm_backward(x, grad, mean, rstd, weight, rows, inner, groups):
    """The gradient of x."""
    inputs = [x, grad, mean, rstd, *([] if weight is None else [weight])]
    return jt.code(x.shape, "float32", inputs, cpu_header=_header(None if weight is None else 4), cpu_src=_INPUT,
                   data=_data(rows, inner, groups))


def norm_silu_backward(x, grad, mean, rstd, weight, bias, rows, inner, groups, both=False):
    """The gradient of x (inner > 1) from that of SiLU of the result; with ``both`` the gradient of the result too."""
    inputs, at = _inputs([x, grad, mean, rstd], weight, bias)
    n = 1 + both
    r = jt.code([x.shape] * n, ["float32"] * n, inputs, cpu_header=f"{_header(*at, True)}#define DN out{n - 1}_p\n",
                cpu_src=_SILU_INPUT, data=_data(rows, inner, groups))
    return r if both else r[0]


def norm_weights(x, grad, mean, rstd, rows, inner, groups):
    """The gradients of weight and bias, [channels] each."""
    channels = rows[1] // inner * groups
    return jt.code([(channels,), (channels,)], ["float32"] * 2, [x, grad, mean, rstd], cpu_header=_header(None),
                   cpu_src=_WEIGHTS, data=_data(rows, inner, groups))
