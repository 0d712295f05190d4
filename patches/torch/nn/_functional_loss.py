"""Losses. ``reduction`` is 'none', 'mean' or 'sum' throughout; half precision is computed in float32."""

import math
import warnings

import numpy as np

from .._dtype import float32
from .._ops_pointwise import where
from .._ops_shape import _reshape, unsqueeze
from .._tensor import mk
from ._functional_activation import _softplus1, log_softmax
from ._functional_common import autocast, autocast1, widen
from ._functional_distance import cosine_similarity, pairwise_distance


def _legacy(size_average, reduce, reduction):
    if size_average is None and reduce is None:
        return reduction
    warnings.warn("size_average and reduce args will be deprecated, please use reduction instead.", stacklevel=3)
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def _reduce(r, reduction):
    if reduction == "mean":
        return r.mean()
    if reduction == "sum":
        return r.sum()
    if reduction == "none":
        return r
    raise ValueError(f"{reduction} is not a valid value for reduction; use 'none', 'mean' or 'sum'")


def _difference(input, target):
    if target._shape != input._shape:
        warnings.warn(f"Using a target size ({target.size()}) that is different to the input size ({input.size()}). "
                      "This will likely lead to incorrect results due to broadcasting. Please ensure they have the same "
                      "size.", stacklevel=3)
    a, b = autocast("fp32", input, target)
    d = widen(a) - widen(b)
    from .._dtype import promote_types

    return d, promote_types(a.dtype, b.dtype)


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """(input - target)^2."""
    d, dt = _difference(input, target)
    return _reduce(d * d, _legacy(size_average, reduce, reduction)).to(dt)


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """|input - target|."""
    d, dt = _difference(input, target)
    return _reduce(d.abs(), _legacy(size_average, reduce, reduction)).to(dt)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """d^2 / (2 beta) for d < beta, else d - beta / 2, with d = |input - target|."""
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    d, dt = _difference(input, target)
    a = d.abs()
    r = a if beta == 0 else where(a < beta, d * d * (0.5 / beta), a - 0.5 * beta)
    return _reduce(r, _legacy(size_average, reduce, reduction)).to(dt)


def huber_loss(input, target, reduction="mean", delta=1.0):
    """d^2 / 2 for d <= delta, else delta (d - delta / 2), with d = |input - target|."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    d, dt = _difference(input, target)
    a = d.abs()
    return _reduce(where(a <= delta, d * d * 0.5, (a - 0.5 * delta) * delta), reduction).to(dt)


# --- classes -----------------------------------------------------------------------------------------------------------
def _picked(logp, target, weight, ignore_index):
    """(-logp at the target, weight of each position), both zero where ignored; flat class axis 1."""
    if target.dtype._kind != 1:
        raise RuntimeError(f"expected scalar type Long but found {target.dtype!r}")
    classes = logp._shape[1]
    keep = target != ignore_index
    safe = where(keep, target, 0).long()
    a = safe._data()
    if type(a) is np.ndarray and a.size and (a.min() < 0 or a.max() >= classes):
        raise IndexError(f"Target {a.min() if a.min() < 0 else a.max()} is out of bounds.")
    value = -logp.gather(1, unsqueeze(safe, 1)).squeeze(1)
    w = keep.to(logp.dtype)
    if weight is not None:
        w = w * _reshape(weight[_reshape(safe, (-1,))], safe._shape).to(logp.dtype)
    return where(keep, value, 0.0), w


def _class_axis(input, target):
    """Bring [C] to [1, C]; returns (input, target, restore)."""
    if input.ndim == 1:
        return unsqueeze(input, 0), unsqueeze(target, 0), lambda r: r.squeeze(0)
    expected = (input._shape[0], *input._shape[2:])
    if tuple(target._shape) != expected:
        raise ValueError(f"Expected target size {list(expected)}, got {list(target._shape)}")
    return input, target, lambda r: r


def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """-input[target], weighted by class.

    Args:
        input: log-probabilities [N, C, ...] or [C]. target: class numbers [N, ...].
        weight: [C]; the mean divides by the weights used. ignore_index: a target that counts nothing.
    """
    reduction = _legacy(size_average, reduce, reduction)
    x = autocast1("fp32", input)
    logp, target, restore = _class_axis(x, target)
    value, w = _picked(widen(logp), target, weight, ignore_index)
    r = value * w
    if reduction == "mean":
        return (r.sum() / w.sum()).to(x.dtype)
    return restore(_reduce(r, reduction)).to(x.dtype) if reduction == "none" else _reduce(r, reduction).to(x.dtype)


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                  label_smoothing=0.0):
    """Negative log-likelihood of softmax(input).

    Args:
        input: [N, C, ...] or [C]. target: class numbers [N, ...], or probabilities of input's shape.
        weight: [C]. ignore_index: for class numbers. label_smoothing: 0 .. 1 moved evenly onto all classes.

    Raises:
        RuntimeError: label_smoothing out of range. IndexError: a class number out of range.
    """
    reduction = _legacy(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    x = autocast1("fp32", input)
    dt = x.dtype
    x = widen(x)
    soft = target._shape == x._shape and target.dtype._kind == 2
    single = x.ndim == 1
    x = unsqueeze(x, 0) if single else x
    classes = x._shape[1]
    logp = log_softmax(x, 1)
    wshape = (1, classes, *(1,) * (x.ndim - 2))
    weighted = logp if weight is None else logp * _reshape(weight, wshape)
    if soft:
        t = unsqueeze(target, 0) if single else target
        t = t if not label_smoothing else t * (1 - label_smoothing) + label_smoothing / classes
        r = -(weighted * t).sum(1)
        count = r.numel()
    else:
        t = unsqueeze(target, 0) if single else target
        if not single and tuple(t._shape) != (x._shape[0], *x._shape[2:]):
            raise ValueError(f"Expected target size {[x._shape[0], *x._shape[2:]]}, got {list(t._shape)}")
        value, w = _picked(logp, t, weight, ignore_index)
        r = value * w
        if label_smoothing:
            even = where(t != ignore_index, -weighted.sum(1), 0.0)
            r = r * (1 - label_smoothing) + even * (label_smoothing / classes)
        count = w.sum()
    if reduction == "mean":
        return (r.sum() / count).to(dt)
    r = _reduce(r, reduction)
    return (r.squeeze(0) if single and reduction == "none" else r).to(dt)


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """target (log target - input); input holds log-probabilities. 'batchmean' divides the sum by the first size."""
    reduction = _legacy(size_average, reduce, reduction)
    a, b = autocast("fp32", input, target)
    if log_target:
        r = b.exp() * (b - a)
    else:
        r = where(b > 0, b * where(b > 0, b, 1.0).log(), 0.0) - b * a
    if reduction == "batchmean":
        return r.sum() / input._shape[0] if input.ndim else r.sum()
    return _reduce(r, reduction)


# --- binary ------------------------------------------------------------------------------------------------------------
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """-(t log p + (1 - t) log(1 - p)); the logarithms are cut at -100. Raises RuntimeError for p outside 0 .. 1."""
    if target._shape != input._shape:
        raise ValueError(f"Using a target size ({target.size()}) that is different to the input size ({input.size()}) is "
                         "deprecated. Please ensure they have the same size.")
    dt = input.dtype
    p, t = widen(input), widen(target)
    r = -(t * p.log().clamp(min=-100.0) + (1 - t) * (1 - p).log().clamp(min=-100.0))
    r = r if weight is None else r * weight
    return _reduce(r, _legacy(size_average, reduce, reduction)).to(dt)


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                     pos_weight=None):
    """`binary_cross_entropy` of sigmoid(input), without overflow; ``pos_weight`` multiplies the positive part."""
    if target._shape != input._shape:
        raise ValueError(f"Target size ({target.size()}) must be the same as input size ({input.size()})")
    x, t, w, pw = autocast("fp32", input, target, weight, pos_weight)
    dt = x.dtype
    x, t = widen(x), widen(t)
    tail = _softplus1(-x)
    r = (1 - t) * x + (tail if pw is None else ((pw - 1) * t + 1) * tail)
    r = r if w is None else r * w
    return _reduce(r, _legacy(size_average, reduce, reduction)).to(dt)


def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-target input)), targets 1 and -1."""
    return _reduce(_softplus1(-target * input), _legacy(size_average, reduce, reduction))


def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Mean over the classes of the binary cross-entropy with logits."""
    r = target * _softplus1(-input) + (1 - target) * _softplus1(input)
    r = r if weight is None else r * weight
    return _reduce(r.sum(-1) / input._shape[-1], _legacy(size_average, reduce, reduction))


def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None,
                     reduction="mean"):
    """exp(x) - t x (or x - t log(x + eps)), with Stirling's term for t > 1 if ``full``."""
    r = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        t = where(target > 1, target, 2.0)
        r = r + where(target > 1, t * t.log() - t + 0.5 * (t * (2 * math.pi)).log(), 0.0)
    return _reduce(r, _legacy(size_average, reduce, reduction))


def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """(log v + (input - target)^2 / v) / 2 with v = max(var, eps), which passes no gradient at the bound."""
    if var._shape != input._shape and var._shape == input._shape[:-1]:
        var = unsqueeze(var, -1)
    if bool((var < 0).any()):
        raise ValueError("var has negative entry/entries")
    v = var + (var.detach().clamp(min=eps) - var.detach())
    r = (v.log() + (input - target) ** 2 / v) * 0.5
    return _reduce(r + 0.5 * math.log(2 * math.pi) if full else r, reduction)


# --- margins and embeddings ----------------------------------------------------------------------------------------------
def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """input where target is 1, max(0, margin - input) where it is -1."""
    r = where(target != 1, (margin - input).clamp(min=0), 0.0) + where(target != -1, input, 0.0)
    return _reduce(r, _legacy(size_average, reduce, reduction))


def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """max(0, -target (input1 - input2) + margin)."""
    return _reduce((-target * (input1 - input2) + margin).clamp(min=0), _legacy(size_average, reduce, reduction))


def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cos where target is 1, max(0, cos - margin) where it is -1."""
    cos = cosine_similarity(input1, input2, -1)
    r = where(target == 1, 1 - cos, 0.0) + where(target == -1, (cos - margin).clamp(min=0), 0.0)
    return _reduce(r, _legacy(size_average, reduce, reduction))


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None,
                        reduce=None, reduction="mean"):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin)."""
    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=lambda a, b: pairwise_distance(a, b, p, eps), margin=margin,
        swap=swap, reduction=_legacy(size_average, reduce, reduction))


def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False,
                                      reduction="mean"):
    """`triplet_margin_loss` with another distance; ``swap`` also looks at d(positive, negative)."""
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return _reduce((near - far + margin).clamp(min=0), reduction)


def _mask_of(host, like):
    return mk(np.ascontiguousarray(host, dtype=np.float32), host.shape, float32, like._device).to(like.dtype)


def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Mean over the other classes of max(0, margin - x[target] + x)^p."""
    reduction = _legacy(size_average, reduce, reduction)
    single = input.ndim == 1
    x, t = (unsqueeze(input, 0), _reshape(target, (1,))) if single else (input, target)
    classes = x._shape[1]
    others = _mask_of(t._host()[:, None] != np.arange(classes), x)
    r = (x - x.gather(1, unsqueeze(t, 1)) + margin).clamp(min=0)
    r = (r if p == 1 else r * r) * others
    r = r if weight is None else r * unsqueeze(weight[t], 1)
    return _reduce(r.sum(1).squeeze(0) if single else r.sum(1), reduction if not single else (
        "none" if reduction == "none" else "sum")) / classes


def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """Hinge of every listed class (up to the first -1) against every other one, over the number of classes."""
    reduction = _legacy(size_average, reduce, reduction)
    single = input.ndim == 1
    x, t = (unsqueeze(input, 0), unsqueeze(target, 0)) if single else (input, target)
    n, classes = x._shape
    listed = np.zeros((n, classes), np.float32)
    for row, labels in zip(listed, t._host()):
        for label in labels:
            if label < 0:
                break
            row[label] = 1
    pairs = _mask_of(listed[:, :, None] * (1 - listed[:, None, :]), x)  # [n, listed, other]
    r = ((1 - unsqueeze(x, 2) + unsqueeze(x, 1)).clamp(min=0) * pairs).sum((1, 2)) / classes
    return _reduce(r.squeeze(0) if single else r, reduction)


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """Not in this backend. Raises NotImplementedError."""
    raise NotImplementedError("torch.nn.functional.ctc_loss is not implemented in torch on Jittor")
