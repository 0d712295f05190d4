"""Softmax of rows, on the CPU in float32."""

from .sources import jt, source

_FORWARD, _BACKWARD = (source(f"{name}.cc") for name in ("softmax", "softmax_backward"))
_HEADER = "#include <algorithm>\n#include <cmath>\n#include <limits>\n"


def softmax(x):
    """Softmax over the last axis of x [rows, width]."""
    return jt.code(x.shape, "float32", [x], cpu_header=_HEADER, cpu_src=_FORWARD)


def softmax_backward(y, grad):
    """The gradient of `softmax`'s input from its result and that result's gradient."""
    return jt.code(y.shape, "float32", [y, grad], cpu_header=_HEADER, cpu_src=_BACKWARD)
