"""Keeping gradients small."""

import warnings

import numpy as np
from jtorch.kernels import active

import torch
from torch._missing import module_getattr

__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _gradients(parameters):
    if isinstance(parameters, torch.Tensor):
        parameters = [parameters]
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _plain(tensors):
    """Those of ``tensors`` that hold values, or None unless all are float32 with data, which our kernels take."""
    for t in tensors:
        if t.dtype is not torch.float32 or t._device.type == "meta":
            return None
    return [t for t in tensors if t.numel()]


@torch.no_grad()
def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The norm of all values of some tensors taken together, as if they were one vector.

    Args:
        tensors: one tensor or an iterable of them.
        norm_type: which p-norm; ``inf`` for the largest absolute value.
        error_if_nonfinite: raise RuntimeError where the norm is infinite or not a number.
        foreach: accepted and without effect.

    Returns:
        A 0-dimensional tensor. The 2-norm of float32 tensors is summed in float64.
    """
    tensors = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return torch.tensor(0.0)
    total = None
    values = _plain(tensors) if norm_type == 2 else None
    if values:
        norm = active.total_norm([t._data() for t in values], [t.numel() for t in values])
        if norm is not None:
            with np.errstate(over="ignore"):
                total = torch.tensor(float(np.float32(norm)))
    if total is None:
        norms = torch.stack([torch.linalg.vector_norm(t, norm_type) for t in tensors])
        total = torch.linalg.vector_norm(norms, norm_type)
    if error_if_nonfinite and not bool(torch.isfinite(total)):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return total


@torch.no_grad()
def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None):
    """Scale all gradients in place as `clip_grad_norm_` does, given their joint norm (a tensor of one value)."""
    gradients = _gradients(parameters)
    if type(total_norm._data()) is np.ndarray and total_norm.dtype is torch.float32:  # the norm is known
        with np.errstate(all="ignore"):
            number = float(np.minimum(np.float32(max_norm) / (total_norm._data().reshape(()) + np.float32(1e-6)), 1))
        if number == 1:
            return
        values = _plain(gradients)
        if values and all(t._base is None for t in values) and len({id(t) for t in values}) == len(values):
            scaled = active.scale_all([t._v for t in values], [t.numel() for t in values], number)
            if scaled is not None:
                for t, new in zip(values, scaled):
                    t._rebind(t._v if new is None else new)
                return
    # Multiplied also where it is 1: no comparison, so nothing has to wait for the norm to be computed.
    factor = torch.clamp(float(max_norm) / (total_norm + 1e-6), max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device))


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scale all gradients in place so that their joint norm is at most `max_norm`.

    Args:
        parameters: one tensor or an iterable of them; those without gradient are left out.
        max_norm: the largest norm allowed.
        norm_type: which p-norm; ``inf`` for the largest absolute value.
        error_if_nonfinite: raise RuntimeError where the norm is infinite or not a number.
        foreach: accepted and without effect.

    Returns:
        The norm before scaling, a 0-dimensional tensor.
    """
    parameters = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    total = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total)
    return total


def clip_grad_norm(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Deprecated: use `clip_grad_norm_`."""
    warnings.warn(
        "torch.nn.utils.clip_grad_norm is now deprecated in favor of torch.nn.utils.clip_grad_norm_.", stacklevel=2
    )
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@torch.no_grad()
def clip_grad_value_(parameters, clip_value, foreach=None):
    """Cut every gradient element in place to [-clip_value, clip_value]."""
    clip_value = float(clip_value)
    for gradient in _gradients(parameters):
        gradient.clamp_(min=-clip_value, max=clip_value)


__getattr__ = module_getattr(__name__)
