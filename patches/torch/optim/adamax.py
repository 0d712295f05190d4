"""Adamax, the infinity-norm variant of Adam (Kingma and Ba, 2015, section 7.1)."""

import torch

from .._missing import module_getattr
from ._rule import RuleOptimizer, check_betas, check_range, flat, lerp, next_step, store

__all__ = ["Adamax"]


class Adamax(RuleOptimizer):
    """With g the gradient plus ``weight_decay``·p: m ← β₁m + (1 − β₁)g, u ← max(β₂u, |g| + ``eps``),
    p ← p − lr/(1 − β₁ᵗ) · m/u. State: ``step``, ``exp_avg``, ``exp_inf``.
    """

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=None, *, maximize=False,
                 differentiable=False, capturable=False):
        check_range("learning rate", lr, 0.0)
        check_range("epsilon value", eps, 0.0)
        check_betas(betas)
        check_range("weight_decay value", weight_decay, 0.0)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def _init_state(self, p, group):
        return {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(p), "exp_inf": torch.zeros_like(p)}

    def _update(self, p, grad, state, group):
        beta1, beta2 = group["betas"]
        x = flat(p)
        t = next_step(state)
        if group["weight_decay"] != 0:
            grad = grad + group["weight_decay"] * x
        m = store(state["exp_avg"], lerp(flat(state["exp_avg"]), grad, 1 - beta1))
        u = store(state["exp_inf"], torch.maximum(flat(state["exp_inf"]) * beta2, grad.abs() + group["eps"]))
        store(p, x + -(float(group["lr"]) / (1 - beta1**t)) * m / u)


__getattr__ = module_getattr(__name__)
