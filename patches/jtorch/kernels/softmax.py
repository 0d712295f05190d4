"""Softmax of rows, on the CPU in float32."""

from pathlib import Path

from ..startup import import_jittor

_FOLDER = Path(__file__).parent
_FORWARD, _BACKWARD = ((_FOLDER / f"{name}.cc").read_text() for name in ("softmax", "softmax_backward"))
_HEADER = "#include <algorithm>\n#include <cmath>\n#include <limits>\n"


def softmax(x):
    """Softmax over the last axis of x [rows, width]."""
    return import_jittor().code(x.shape, "float32", [x], cpu_header=_HEADER, cpu_src=_FORWARD)


def softmax_backward(y, grad):
    """The gradient of `softmax`'s input from its result and that result's gradient."""
    return import_jittor().code(y.shape, "float32", [y, grad], cpu_header=_HEADER, cpu_src=_BACKWARD)
