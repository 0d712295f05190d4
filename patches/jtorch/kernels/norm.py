"""Normalisation of rows with weights by channel (layer, group, instance and batch norm), on the CPU in float32."""

from pathlib import Path

from ..startup import import_jittor

_FOLDER = Path(__file__).parent
_FORWARD, _INPUT, _WEIGHTS = ((_FOLDER / f"{name}.cc").read_text() for name in ("norm", "norm_backward", "norm_weights"))


def _header(weight, bias=None):
    """``weight`` and ``bias`` are numbers of inputs or None."""
    w = "1.f" if weight is None else f"in{weight}_p[(i)]"
    b = "0.f" if bias is None else f"in{bias}_p[(i)]"
    return f"#include <algorithm>\n#include <cmath>\n#define WEIGHT(i) {w}\n#define BIAS(i) {b}\n"


def norm(x, weight, bias, inner, groups, eps):
    """(y, mean [rows], 1 / deviation [rows]) of x [rows, width]; ``weight`` and ``bias`` [channels] or None.

    A row holds width / inner channels of ``inner`` values, beginning with channel (row % groups) * width / inner.
    """
    jt = import_jittor()
    inputs, at = [x], {}
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None:
            at[name] = len(inputs)
            inputs.append(t)
    rows = x.shape[0]
    return jt.code([x.shape, (rows,), (rows,)], ["float32"] * 3, inputs,
                   cpu_header=_header(at.get("weight"), at.get("bias")), cpu_src=_FORWARD,
                   data={"inner": float(inner), "groups": float(groups), "eps": eps})


def norm_backward(x, grad, mean, rstd, weight, inner, groups):
    """The gradient of x."""
    jt = import_jittor()
    inputs = [x, grad, mean, rstd, *([] if weight is None else [weight])]
    return jt.code(x.shape, "float32", inputs, cpu_header=_header(None if weight is None else 4), cpu_src=_INPUT,
                   data={"inner": float(inner), "groups": float(groups)})


def norm_weights(x, grad, mean, rstd, inner, groups):
    """The gradients of weight and bias, [channels] each."""
    jt = import_jittor()
    channels = x.shape[1] // inner * groups
    return jt.code([(channels,), (channels,)], ["float32"] * 2, [x, grad, mean, rstd], cpu_header=_header(None),
                   cpu_src=_WEIGHTS, data={"inner": float(inner), "groups": float(groups)})
