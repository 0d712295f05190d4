"""A frozen linear map with a low-rank one beside it (LoRA), forward and backward, on the CPU in float32."""

import functools
import math

from . import onednn
from .sources import source

_FORWARD, _BACKWARD = (source(f"{name}.cc") for name in ("lora", "lora_backward"))
_INCLUDES = f"#include <memory>\n{onednn.GEMM}"
_NULL = "((float*)nullptr)"


@functools.cache
def _names(**places):
    """C++ names for pointers that may be missing."""
    return _INCLUDES + "".join(f"#define {name} {place or _NULL}\n" for name, place in places.items())


def lora(x, weight, bias, a, b, scale, keep=None, factor=1.0):
    """(y [..., n], h [m, r]): y = x weight^T + bias + scale h b^T with h = z a^T; m is the number of x's rows.

    x [..., k], weight [n, k], bias [n] or None, a [r, k], b [n, r]; z is x where ``keep`` (uint8, like x) is 1, times
    ``factor``, and 0 elsewhere; None: z is x.
    """
    inputs, at = [x, weight, a, b], {"BIAS": None, "KEEP": None}
    for name, t in (("BIAS", bias), ("KEEP", keep)):
        if t is not None:
            at[name] = f"in{len(inputs)}_p"
            inputs.append(t)
    lead, n = x.shape[:-1], weight.shape[0]
    return onednn.code([(*lead, n), (math.prod(lead), a.shape[0])], ["float32"] * 2, inputs, cpu_header=_names(**at),
                       cpu_src=_FORWARD, data={"scale": scale, "factor": factor})


def lora_backward(grad, weight, a, b, h, x, scale, need_x, keep=None, factor=1.0):
    """Gradients [a, b] of `lora`, then x's where ``need_x``."""
    shapes = [a.shape, b.shape, x.shape] if need_x else [a.shape, b.shape]
    inputs = [grad, weight, a, b, h, x] if keep is None else [grad, weight, a, b, h, x, keep]
    names = _names(DX="out2_p" if need_x else None, KEEP=None if keep is None else "in6_p")
    return onednn.code(shapes, ["float32"] * len(shapes), inputs, cpu_header=names, cpu_src=_BACKWARD,
                       data={"scale": scale, "factor": factor})
