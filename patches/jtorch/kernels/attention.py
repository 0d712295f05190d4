"""Attention without its score matrix in memory, forward and backward, on the CPU in float32."""

from pathlib import Path

from ..startup import import_jittor
from .bmm import _onednn_flags

_FOLDER = Path(__file__).parent
_FORWARD = (_FOLDER / "attention.cc").read_text()
_BACKWARD = (_FOLDER / "attention_backward.cc").read_text()
_INCLUDES = "".join(f"#include <{name}>\n" for name in ("dnnl.h", "omp.h", "vector", "cmath", "limits", "algorithm"))


def _header(mask, number):
    if mask is None:
        return _INCLUDES + "#define MASK ((const float*)nullptr)\n#define MASK_BATCH 1\n#define MASK_ROWS 1\n"
    return (f"{_INCLUDES}#define MASK in{number}_p\n#define MASK_BATCH in{number}_shape0\n"
            f"#define MASK_ROWS in{number}_shape1\n")


def attention(q, k, v, scale, causal=False, mask=None):
    """(output [B, L, V], log of the summed exponentials [B, L]) of q [B, L, E], k [B, S, E], v [B, S, V].

    ``mask`` [MB, L or 1, S] is added to the scores; MB divides B, and B / MB matrices in a row share one mask.
    """
    jt = import_jittor()
    b, rows, _ = q.shape
    with jt.flag_scope(compile_options=_onednn_flags(jt)):
        return jt.code([(b, rows, v.shape[2]), (b, rows)], ["float32"] * 2, [q, k, v, *([] if mask is None else [mask])],
                       cpu_header=_header(mask, 3), cpu_src=_FORWARD, data={"scale": scale, "causal": float(causal)})


def attention_backward(q, k, v, out, lse, grad, scale, causal=False, mask=None):
    """Gradients of q, k and v from the two results of `attention` and the output's gradient."""
    jt = import_jittor()
    inputs = [q, k, v, out, lse, grad, *([] if mask is None else [mask])]
    with jt.flag_scope(compile_options=_onednn_flags(jt)):
        return jt.code([q.shape, k.shape, v.shape], ["float32"] * 3, inputs, cpu_header=_header(mask, 6),
                       cpu_src=_BACKWARD, data={"scale": scale, "causal": float(causal)})
