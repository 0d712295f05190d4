"""RMSprop (Hinton's lecture notes; the centred form is Graves, 2013)."""

import torch

from .._missing import module_getattr
from ._rule import RuleOptimizer, check_range, flat, lerp, next_step, store

__all__ = ["RMSprop"]


class RMSprop(RuleOptimizer):
    """With g the gradient plus ``weight_decay``·p: v ← αv + (1 − α)g², p ← p − lr · g/(√v + ``eps``).

    ``centered`` subtracts the square of the mean gradient from v; ``momentum`` > 0 accumulates
    b ← momentum·b + g/(√v + eps) and steps along b.
    State: ``step``, ``square_avg``, ``momentum_buffer`` and ``grad_avg`` where used.
    """

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False,
                 capturable=False, foreach=None, maximize=False, differentiable=False):
        check_range("learning rate", lr, 0.0)
        check_range("epsilon value", eps, 0.0)
        check_range("momentum value", momentum, 0.0)
        check_range("weight_decay value", weight_decay, 0.0)
        check_range("alpha value", alpha, 0.0)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable})

    def _init_state(self, p, group):
        state = {"step": torch.tensor(0.0), "square_avg": torch.zeros_like(p)}
        if group["momentum"] > 0:
            state["momentum_buffer"] = torch.zeros_like(p)
        if group["centered"]:
            state["grad_avg"] = torch.zeros_like(p)
        return state

    def _update(self, p, grad, state, group):
        alpha, lr, x = group["alpha"], float(group["lr"]), flat(p)
        next_step(state)
        if group["weight_decay"] != 0:
            grad = grad + group["weight_decay"] * x
        v = store(state["square_avg"], flat(state["square_avg"]) * alpha + (1 - alpha) * grad * grad)
        if group["centered"]:
            mean = store(state["grad_avg"], lerp(flat(state["grad_avg"]), grad, 1 - alpha))
            v = v - mean * mean
        denom = v.sqrt() + group["eps"]
        if group["momentum"] > 0:
            buf = store(state["momentum_buffer"], flat(state["momentum_buffer"]) * group["momentum"] + grad / denom)
            store(p, x + -lr * buf)
        else:
            store(p, x + -lr * grad / denom)


__getattr__ = module_getattr(__name__)
