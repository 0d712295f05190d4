"""Activations, plain and as gates of a second half, with their gradients, on the CPU in float32."""

from .sources import jt, source

_MATH = source("activation_math.cc")
_FORWARD, _BACKWARD, _GATED, _GATED_BACKWARD = (source(f"activation{part}.cc") for part in (
    "", "_backward", "_gated", "_gated_backward"))


def header(kind):
    """C++ that makes ``ACTIVATE(x, &slope)`` the activation ``kind``: "gelu", "gelu_tanh" or "silu"."""
    return f"{_MATH}#define ACTIVATE {kind}\n"


def activate(kind, x):
    """The activation of a float32 variable of any shape."""
    return jt.code(x.shape, "float32", [x], cpu_header=header(kind), cpu_src=_FORWARD)


def activate_backward(kind, x, grad):
    """The gradient of x from that of `activate`'s result."""
    return jt.code(x.shape, "float32", [x, grad], cpu_header=header(kind), cpu_src=_BACKWARD)


def gated(kind, x):
    """x[:, :width] * activation(x[:, width:]) of x [rows, 2 width]."""
    rows, double = x.shape
    return jt.code((rows, double // 2), "float32", [x], cpu_header=header(kind), cpu_src=_GATED)


def gated_backward(kind, x, grad):
    """The gradient of x [rows, 2 width] from that of `gated`'s result."""
    return jt.code(x.shape, "float32", [x, grad], cpu_header=header(kind), cpu_src=_GATED_BACKWARD)
