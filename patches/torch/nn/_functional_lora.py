"""A frozen linear layer with a low-rank adapter: one recorded node. peft's layer comes here through jtorch.patch_peft."""

from jtorch.kernels import lora as kernel

from .. import _engine
from .._dtype import Size, float32
from .._tensor import mk
from ..amp import autocast_mode
from ._functional_common import native, needs, record


def fits(x, *weights):
    """Whether `lora_linear` takes these: on the CPU, in float32, x [..., in] not empty and in Jittor, no autocast."""
    return (native(x) and not autocast_mode.ACTIVE and x.ndim > 0 and x.numel() > 0
            and x._shape[-1] == weights[0]._shape[-1] and all(t.dtype is float32 for t in weights))


def lora_linear(x, weight, bias, a, b, scale, z=None):
    """``x @ weight.T + bias + (z @ a.T) @ b.T * scale`` with gradients for x, z, a and b.

    Args:
        x: float32 [..., in]. weight: [out, in], bias: [out] or None; both frozen.
        a: [r, in]. b: [out, r]. z: x after dropout, like x; None for x itself.

    Returns:
        float32 [..., out].
    """
    n = weight._shape[0]
    own = z is not None
    y, h = kernel.lora(x._var(), weight._var(), None if bias is None else bias._var(), a._var(), b._var(), float(scale),
                       z._var() if own else None)
    r = mk(y, Size((*tuple(x._shape)[:-1], n)), float32, x._device)
    inputs = (a, b, x, z if own else None)
    if needs(*(t for t in inputs if t is not None)):
        need = [t is not None and t.requires_grad for t in inputs]
        zs, ws, a_, b_ = (z if own else x)._snap(), weight._snap(), a._snap(), b._snap()

        def backward(g):
            if _engine.state.grad or g.dtype is not float32:
                return _operations(g, ws, a_, b_, zs, scale, need, own)
            d = kernel.lora_backward(g._var(), ws._var(), a_._var(), b_._var(), h, zs._var(), float(scale), need[2], own)
            d = iter(d)
            found = [next(d) if made else None for made in (True, True, need[2], own)]
            return tuple([mk(v, s._shape, float32, g._device) if needed else None
                          for v, s, needed in zip(found, (a_, b_, zs, zs), need)])

        record((r,), tuple(t if needed else None for t, needed in zip(inputs, need)), backward, "lora_linear")
    return r


def _operations(g, w, a, b, z, scale, need, own):
    """The gradients as tensor operations, which can be differentiated again."""
    n, k = w._shape
    g2, z2 = g.reshape(-1, n), z.reshape(-1, k)
    thin = g2.matmul(b) * scale
    low = thin.matmul(a).reshape(z._shape)
    dx = g2.matmul(w).reshape(z._shape)
    if not own:
        dx = dx + low
    grads = thin.transpose(0, 1).matmul(z2), g2.transpose(0, 1).matmul(z2.matmul(a.transpose(0, 1))) * scale, dx, low
    return tuple(d if needed else None for d, needed in zip(grads, need))
