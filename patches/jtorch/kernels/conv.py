"""Convolution over two axes on oneDNN, on the CPU in float32: forward, and backward to the input and the weights.

Jittor's own operations make the oneDNN primitive anew for each call, copy whole pictures between layouts and know only
the direct algorithm.
"""

import functools

from . import onednn
from .sources import include, read, source

_FORWARD, _DATA, _WEIGHTS = (source(f"conv_{name}.cc") for name in ("forward", "data", "weights"))
# The geometry of tensors named x, w, y among a kernel's inputs and outputs.
_SHAPE = """
#define SHAPE(KIND, X, W, Y) Shape s = {KIND, 0, X##_shape0, X##_shape1, X##_shape2, X##_shape3, Y##_shape1, \\
    Y##_shape2, Y##_shape3, W##_shape2, W##_shape3, (int64_t)data["sh"], (int64_t)data["sw"], (int64_t)data["dh"], \\
    (int64_t)data["dw"], (int64_t)data["ph"], (int64_t)data["ph"], (int64_t)data["pw"], (int64_t)data["pw"], \\
    (int64_t)data["groups"], (int64_t)X##_shape1 * X##_shape2 * X##_shape3, (int64_t)X##_shape2 * X##_shape3, \\
    (int64_t)Y##_shape1 * Y##_shape2 * Y##_shape3, (int64_t)Y##_shape2 * Y##_shape3, 0}; \\
    s.bias = HAS_BIAS; \\
    s.bottom = std::max<int64_t>(0, (s.oh - 1) * s.sh + s.dh * (s.kh - 1) + 1 - s.h - s.top); \\
    s.right = std::max<int64_t>(0, (s.ow - 1) * s.sw + s.dw * (s.kw - 1) + 1 - s.w - s.left);
"""
_HEADER = include(read("conv.h") + _SHAPE, "conv")
_PLAIN, _BIAS = (f"{_HEADER}#define HAS_BIAS {n}\n#define BIAS {bias}\n" for n, bias in ((0, "nullptr"), (1, "in2_p")))
_NAMES = ("sh", "sw", "ph", "pw", "dh", "dw", "groups")


@functools.lru_cache(4096)
def _data(geometry):
    return dict(zip(_NAMES, map(float, geometry)))


def _code(shape, inputs, text, geometry, bias=False):
    return onednn.code(shape, "float32", inputs, cpu_header=_BIAS if bias else _PLAIN, cpu_src=text,
                       data=_data(geometry))


def conv(x, w, bias, size, geometry):
    """y [N, O, *size] of x [N, C, H, W], w [O, C / groups, kh, kw] and bias [O] or None.

    ``geometry`` is stride, padding and dilation (height and width of each) and groups.
    """
    inputs = [x, w] if bias is None else [x, w, bias]
    return _code((x.shape[0], w.shape[0], *size), inputs, _FORWARD, geometry, bias is not None)


def conv_data(w, y, size, geometry):
    """The gradient [N, C, *size] of `conv`'s x from that of its result."""
    return _code((y.shape[0], w.shape[1] * geometry[-1], *size), [w, y], _DATA, geometry)


def conv_weights(x, y, kernel, geometry):
    """The gradient [O, C / groups, *kernel] of `conv`'s w from its x and the gradient of its result."""
    return _code((y.shape[1], x.shape[1] // geometry[-1], *kernel), [x, y], _WEIGHTS, geometry)
