"""A linear map with its bias in one pass, on the CPU in float32."""

from . import onednn
from .sources import source

_SOURCE, _DATA = source("linear.cc"), source("linear_data.cc")
_PLAIN, _BIAS = (f"{onednn.GEMM}#define BIAS {bias}\n" for bias in ("((float*)nullptr)", "in2_p"))


def linear(x, weight, bias=None):
    """x [..., k] @ weight [n, k]^T + bias [n] -> [..., n]; x is not empty."""
    inputs = [x, weight] if bias is None else [x, weight, bias]
    return onednn.code((*x.shape[:-1], weight.shape[0]), "float32", inputs,
                       cpu_header=_PLAIN if bias is None else _BIAS, cpu_src=_SOURCE)


def linear_data(grad, weight):
    """The gradient [..., k] of `linear`'s x from that of its result [..., n]; not empty."""
    return onednn.code((*grad.shape[:-1], weight.shape[1]), "float32", [grad, weight], cpu_header=onednn.GEMM,
                       cpu_src=_DATA)
