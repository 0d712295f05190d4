"""A frozen linear map with a low-rank one beside it (LoRA), forward and backward, on the CPU in float32."""

import math
from pathlib import Path

from ..startup import import_jittor
from . import onednn

_FOLDER = Path(__file__).parent
_FORWARD, _BACKWARD = ((_FOLDER / f"{name}.cc").read_text() for name in ("lora", "lora_backward"))
_INCLUDES = f"#include <vector>\n{onednn.GEMM}"
_NULL = "((float*)nullptr)"


def lora(x, weight, bias, a, b, scale, z=None):
    """(y [..., n], h [m, r]): y = x weight^T + bias + scale h b^T with h = z a^T; m is the number of x's rows.

    x [..., k], weight [n, k], bias [n] or None, a [r, k], b [n, r]; z like x is x after dropout, None for x itself.
    """
    jt = import_jittor()
    inputs, at = [x, weight, a, b], {}
    for name, t in (("BIAS", bias), ("Z", z)):
        if t is not None:
            at[name] = f"in{len(inputs)}_p"
            inputs.append(t)
    names = f"#define BIAS {at.get('BIAS', _NULL)}\n#define Z {at.get('Z', 'in0_p')}\n"
    with jt.flag_scope(compile_options=onednn.flags()):
        lead, n = list(x.shape[:-1]), weight.shape[0]
        return jt.code([(*lead, n), (math.prod(lead), a.shape[0])], ["float32"] * 2, inputs,
                       cpu_header=_INCLUDES + names, cpu_src=_FORWARD, data={"scale": scale})


def lora_backward(grad, weight, a, b, h, z, scale, need_x, own_z):
    """Gradients [a, b] of `lora`, then x's where ``need_x``, then z's where ``own_z`` (z is not x)."""
    jt = import_jittor()
    shapes = [a.shape, b.shape] + [z.shape] * (need_x + own_z)
    dx, dz = "out2_p" if need_x else _NULL, f"out{2 + need_x}_p" if own_z else _NULL
    with jt.flag_scope(compile_options=onednn.flags()):
        return jt.code(shapes, ["float32"] * len(shapes), [grad, weight, a, b, h, z],
                       cpu_header=f"{_INCLUDES}#define DX {dx}\n#define DZ {dz}\n", cpu_src=_BACKWARD,
                       data={"scale": scale})
