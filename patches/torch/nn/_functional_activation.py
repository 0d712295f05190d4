"""Activations."""

import math

import numpy as np
from jtorch.kernels import active

from .. import _engine, _raw
from .._dtype import Size
from .._elementwise import compute_dtype, finish, raw_scalar
from .._ops_pointwise import where
from .._ops_reduce import _softmax
from .._ops_reduce import log_softmax as _log_softmax
from .._ops_shape import _reshape, wrap_dim
from .._tensor import mk
from ._functional_common import autocast1, elementwise, in_place, native, needs, no_grad, record, widen
from ._functional_norm import silu_of_norm

_SQRT1_2 = math.sqrt(0.5)
_TANH_A = math.sqrt(2 / math.pi)


def _c(value, v):
    """A number as data that does not change the dtype of ``v``."""
    name = _raw.dtype_name(v)
    return np.asarray(value, np.float64 if name == "float64" else np.float32)


def _activate(kind, raw, bw, x):
    """One recorded activation: a kernel each way where that applies, else the tensor operations ``raw`` and ``bw``.

    The operations also serve second derivatives, and are the reference the kernels are tested against.
    """
    if not native(x):
        return elementwise(kind, raw, x, bw)
    r = mk(active.activate(kind, x._data()), x._shape, x.dtype, x._device)
    if needs(x):
        s = x._snap()

        def backward(g):
            if _engine.state.grad or g.dtype is not s.dtype:
                return (bw(g, s),)
            return (mk(active.activate_backward(kind, s._data(), g._var()), s._shape, s.dtype, g._device),)

        record((r,), (x,), backward, kind)
    return r


def relu(input, inplace=False):
    """max(x, 0)."""
    return in_place(input, lambda x: x.relu(), inplace)


def _raw_silu(v):
    return _raw.mul(v, _raw.sigmoid(v))


def _silu_grad(g, x):
    s = x.sigmoid()
    return g * (s * (1 + x * (1 - s)))


def silu(input, inplace=False):
    """x * sigmoid(x)."""
    fused = None if inplace else silu_of_norm(input, _silu_grad)
    if fused is not None:
        return fused
    return in_place(input, lambda x: _activate("silu", _raw_silu, _silu_grad, x), inplace)


def _raw_gelu(v):
    return _raw.mul(_raw.mul(v, _c(0.5, v)), _raw.add(_raw.erf(_raw.mul(v, _c(_SQRT1_2, v))), _c(1, v)))


def _gelu_grad(g, x):
    cdf = ((x * _SQRT1_2).erf() + 1) * 0.5
    return g * (cdf + x * ((x * x * -0.5).exp() * (1 / math.sqrt(2 * math.pi))))


def _raw_gelu_tanh(v):
    inner = _raw.mul(_raw.mul(v, _c(_TANH_A, v)), _raw.add(_raw.mul(_raw.mul(v, v), _c(0.044715, v)), _c(1, v)))
    return _raw.mul(_raw.mul(v, _c(0.5, v)), _raw.add(_raw.tanh(inner), _c(1, v)))


def _gelu_tanh_grad(g, x):
    t = (x * (x * x * 0.044715 + 1) * _TANH_A).tanh()
    slope = (x * x * (3 * 0.044715) + 1) * _TANH_A
    return g * ((t + 1) * 0.5 + x * (1 - t * t) * slope * 0.5)


def gelu(input, approximate="none"):
    """x * Phi(x), exactly ('none') or by the 'tanh' approximation. Raises RuntimeError for other names."""
    if approximate == "none":
        return _activate("gelu", _raw_gelu, _gelu_grad, input)
    if approximate == "tanh":
        return _activate("gelu_tanh", _raw_gelu_tanh, _gelu_tanh_grad, input)
    raise RuntimeError(f"approximate argument must be either none or tanh, but got {approximate!r}")


def _raw_softplus(v):
    # log(1 + e) as 2 atanh(e / (2 + e)): exact for small e, where 1 + e rounds
    e = _raw.exp(_raw.neg(_raw.abs_(v)))
    tail = _raw.mul(_raw.atanh(_raw.div(e, _raw.add(e, _c(2, v)))), _c(2, v))
    return _raw.add(_raw.maximum(v, _c(0, v)), tail)


def _softplus1(x):
    return elementwise("softplus", _raw_softplus, x, lambda g, s: g * s.sigmoid())


def softplus(input, beta=1, threshold=20):
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""
    z = input if beta == 1 else input * beta
    r = _softplus1(z)
    r = r if beta == 1 else r / beta
    return where(z > threshold, input, r)


def logsigmoid(input):
    """log(sigmoid(x))."""
    return -_softplus1(-input)


def mish(input, inplace=False):
    """x * tanh(softplus(x))."""
    return in_place(input, lambda x: (widen(x) * _softplus1(widen(x)).tanh()).to(x.dtype), inplace)


def _raw_expm1(v):
    # by tanh of the half: exact near zero, where exp(v) - 1 cancels
    t = _raw.tanh(_raw.mul(v, _c(0.5, v)))
    return _raw.div(_raw.mul(t, _c(2, v)), _raw.sub(_c(1, v), t))


def _expm1(x):
    return elementwise("expm1", _raw_expm1, x, lambda g, s: g * s.exp())


def elu(input, alpha=1.0, inplace=False):
    """x for x > 0, else alpha (exp(x) - 1)."""
    return in_place(input, lambda x: where(x > 0, x, _expm1(x.clamp(max=0)) * alpha), inplace)


def selu(input, inplace=False):
    """ELU with the constants that keep mean 0 and variance 1."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return in_place(input, lambda x: elu(x, alpha) * scale, inplace)


def celu(input, alpha=1.0, inplace=False):
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    return in_place(input, lambda x: where(x > 0, x, _expm1(x.clamp(max=0) / alpha) * alpha), inplace)


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """x for x > 0, else negative_slope x."""
    return in_place(input, lambda x: where(x > 0, x, x * negative_slope), inplace)


def prelu(input, weight):
    """Leaky ReLU with a learnt slope: one number, or one per channel (axis 1)."""
    if weight.numel() != 1:
        channels = input._shape[1] if input.ndim > 1 else 1
        if weight.numel() != channels:
            raise RuntimeError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                               f"{weight.numel()} and channel size = {channels}.")
    shape = [1] * input.ndim
    if input.ndim > 1:
        shape[1] = weight.numel()
    return where(input > 0, input, input * _reshape(weight, shape))


def rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False):
    """Leaky ReLU with a random slope in training, the mean slope otherwise."""
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    from .. import empty

    slope = empty(input._shape, dtype=input.dtype, device=input._device).uniform_(lower, upper)
    return in_place(input, lambda x: where(x > 0, x, x * slope), inplace)


def relu6(input, inplace=False):
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def _clip_open(x, lo, hi):
    """clamp whose gradient is zero at the bounds too (that of PyTorch's hardtanh)."""
    dt = x.dtype

    def raw(v):
        return _raw.minimum(_raw.maximum(v, raw_scalar(lo, compute_dtype(dt))), raw_scalar(hi, compute_dtype(dt)))

    from .._elementwise import unary

    return unary("hardtanh", raw, x, lambda g, s, r: where((s > lo) & (s < hi), g, 0), "x", False)


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """x between ``min_val`` and ``max_val``."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return in_place(input, lambda x: _clip_open(x, min_val, max_val), inplace)


def hardsigmoid(input, inplace=False):
    """min(max(x + 3, 0), 6) / 6."""
    return in_place(input, lambda x: _clip_open(x + 3, 0.0, 6.0) / 6, inplace)


def hardswish(input, inplace=False):
    """x hardsigmoid(x)."""
    return in_place(input, lambda x: x * (x + 3).clamp(0, 6) / 6, inplace)


def hardshrink(input, lambd=0.5):
    """x where |x| > lambd, else 0."""
    return where(input.abs() > lambd, input, input * 0)


def softshrink(input, lambd=0.5):
    """x moved towards 0 by ``lambd``."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return where(input > lambd, input - lambd, where(input < -lambd, input + lambd, input * 0))


def threshold(input, threshold, value, inplace=False):
    """x where x > threshold, else ``value``."""
    def f(x):
        return where(x > threshold, x, value).to(x.dtype)

    return in_place(input, f, inplace)


def softsign(input):
    """x / (1 + |x|)."""
    return input / (input.abs() + 1)


def tanhshrink(input):
    """x - tanh(x)."""
    return input - input.tanh()


def tanh(input):
    """Hyperbolic tangent."""
    return input.tanh()


def sigmoid(input):
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


def gated(kind, input):
    """First half times an activation of the second half: [..., 2 n] -> [..., n].

    ``kind``: "gelu", "gelu_tanh" or "silu". As diffusers' GEGLU and the gated feed-forwards of language models, but
    without copies of the halves.
    """
    n = input._shape[-1] // 2
    if not native(input) or not input.numel() or input._shape[-1] % 2:
        return _gated_operations(kind, input)
    rows = (input.numel() // (2 * n), 2 * n)
    shape = Size((*input._shape[:-1], n))
    r = finish(_raw.reshape(active.gated(kind, _raw.reshape(input._data(), rows)), shape), shape, input.dtype,
               input._device)
    if needs(input):
        s = input._snap()

        def backward(g):
            if _engine.state.grad or g.dtype is not s.dtype:
                return _gated_gradient(kind, g, s)
            v = active.gated_backward(kind, _raw.reshape(s._data(), rows), _raw.reshape(g._var(), (rows[0], n)))
            return (finish(_raw.reshape(v, s._shape), s._shape, s.dtype, g._device),)

        record((r,), (input,), backward, f"gated_{kind}")
    return r


def _gated_operations(kind, x):
    value, gate = x.chunk(2, -1)
    raw, bw = _GATES[kind]
    return value * elementwise(kind, raw, gate, bw)


def _gated_gradient(kind, g, x):
    from .. import cat

    value, gate = x.chunk(2, -1)
    raw, bw = _GATES[kind]
    return (cat([g * elementwise(kind, raw, gate, bw), bw(g * value, gate)], -1),)


_GATES = {"gelu": (_raw_gelu, _gelu_grad), "gelu_tanh": (_raw_gelu_tanh, _gelu_tanh_grad), "silu": (_raw_silu, _silu_grad)}


def glu(input, dim=-1):
    """First half times sigmoid of the second half along ``dim``. Raises RuntimeError for an odd size."""
    d = wrap_dim(dim, input.ndim)
    n = input._shape[d] if input.ndim else 0
    if n % 2 or not input.ndim:
        raise RuntimeError(f"Halving dimension must be even, but dimension {d} is size {n}")
    a, b = input.split(n // 2, d)
    return a * b.sigmoid()


# --- along an axis -----------------------------------------------------------------------------------------------------
def _axis(dim, n):
    return dim if dim is not None else (0 if n in (0, 1, 3) else 1)


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """exp(x) normalised to sum 1 along ``dim``; computed in ``dtype`` where given."""
    x = autocast1("fp32_cuda", input) if dtype is None else input.to(dtype)
    return _softmax(x, _axis(dim, x.ndim))


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """softmax of -x."""
    return softmax(-input, dim, _stacklevel, dtype)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """log of softmax, without underflow."""
    x = autocast1("fp32_cuda", input) if dtype is None else input.to(dtype)
    return _log_softmax(widen(x), _axis(dim, x.ndim)).to(x.dtype)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """Sample a softmax with Gumbel noise; ``hard`` gives one-hot values with the soft gradient."""
    from .. import empty, zeros_like

    noise = -empty(logits._shape, dtype=logits.dtype, device=logits._device).exponential_().log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    with no_grad(False):
        index = soft.argmax(dim, keepdim=True)
        one = zeros_like(soft).scatter(dim, index, 1.0)
    return one - soft.detach() + soft


def _in_place_of(f):
    def op(input, *args, **kw):
        return in_place(input, lambda x: f(x, *args, **kw))

    op.__name__ = f.__name__ + "_"
    op.__doc__ = f"`{f.__name__}`, written back into its input."
    return op


relu_, elu_, selu_, celu_, leaky_relu_, rrelu_, hardtanh_, threshold_ = (
    _in_place_of(f) for f in (relu, elu, selu, celu, leaky_relu, rrelu, hardtanh, threshold))
