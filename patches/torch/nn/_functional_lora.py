"""A frozen linear layer with a low-rank adapter: one recorded node. peft's layer comes here through jtorch.patch_peft."""

import numpy as np
from jtorch.kernels import active

from .. import _engine
from .._dtype import Size, float32
from .._ops_random import kept
from .._tensor import mk
from ..amp import autocast_mode
from ._functional_common import native, record


def fits(x, *weights):
    """Whether `lora_linear` takes these: x [..., in] not empty and in Jittor, all of one type that there are kernels for;
    under autocast on a card, of types that it turns into one."""
    shape = tuple(x._shape)
    if not (native(x) and shape and 0 not in shape and shape[-1] == weights[0]._shape[-1]):
        return False
    if autocast_mode.ACTIVE:
        return active.CARD and _lowered(x) is not None and all([t.dtype.is_floating_point for t in weights])
    return all([t.dtype is x.dtype for t in weights])


def _lowered(x):
    """The type that autocast gives to products of x; None where it is off."""
    kind = x._device.type
    return autocast_mode.get_autocast_dtype(kind) if autocast_mode.is_autocast_enabled(kind) else None


def lora_linear(x, weight, bias, a, b, scale, p=0.0):
    """``x @ weight.T + bias + (z @ a.T) @ b.T * scale``, where z is `dropout` of x with probability ``p``, with
    gradients for x, a and b.

    Args:
        x: [..., in]. weight: [out, in], bias: [out] or None; both frozen.
        a: [r, in]. b: [out, r]. p: below 1.

    Returns:
        [..., out], of x's type or of autocast's.
    """
    if autocast_mode.ACTIVE and _lowered(x) is not None:
        x, weight, bias, a, b = autocast_mode.cast_args("low", x, weight, bias, a, b)
    dt = x.dtype
    shape, keep, factor = x._shape, None, 1.0
    if p:
        keep = kept(tuple(shape), p)
        factor = float(np.float32(1) / np.float32(1 - p))
    y, h = active.lora(x._var(), weight._var(), None if bias is None else bias._var(), a._var(), b._var(), float(scale),
                       keep, factor)
    r = mk(y, Size((*shape[:-1], weight._shape[0])), dt, x._device)
    need = (a.requires_grad, b.requires_grad, x.requires_grad)
    if _engine.state.grad and True in need:
        xs, a_, b_, w = x._snap(), a._snap(), b._snap(), weight._var()

        def backward(g):
            if _engine.state.grad or g.dtype is not dt:
                return _operations(g, mk(w, weight._shape, dt, g._device), a_, b_, xs, scale, need, keep, factor)
            d = active.lora_backward(g._var(), w, a_._var(), b_._var(), h, xs._var(), float(scale), need[2], keep, factor)
            return (mk(d[0], a_._shape, dt, g._device) if need[0] else None,
                    mk(d[1], b_._shape, dt, g._device) if need[1] else None,
                    mk(d[2], shape, dt, g._device) if need[2] else None)

        record((r,), (a if need[0] else None, b if need[1] else None, x if need[2] else None), backward, "lora_linear")
    return r


def _operations(g, w, a, b, x, scale, need, keep, factor):
    """The gradients as tensor operations, which can be differentiated again."""
    n, k = w._shape
    g2, thin = g.reshape(-1, n), g.reshape(-1, n).matmul(b) * scale
    low = thin.matmul(a).reshape(x._shape)
    z = x
    if keep is not None:
        mask = keep.numpy() * np.float32(factor)
        mask = mk(mask, mask.shape, float32, x._device).to(x.dtype)
        z, low = x * mask, low * mask
    z2 = z.reshape(-1, k)
    grads = (thin.transpose(0, 1).matmul(z2), g2.transpose(0, 1).matmul(z2.matmul(a.transpose(0, 1))) * scale,
             g2.matmul(w).reshape(x._shape) + low)
    return tuple(d if needed else None for d, needed in zip(grads, need))
