"""Adam (Kingma and Ba, 2015) and, through ``decoupled_weight_decay``, AdamW."""

import torch

from .._missing import module_getattr
from ._rule import RuleOptimizer, check_betas, check_range, flat, lerp, next_step, store

__all__ = ["Adam"]


class Adam(RuleOptimizer):
    """Adam: PyTorch's ``torch.optim.Adam``.

    With g the gradient plus ``weight_decay``·p: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g²,
    p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ``eps``). ``amsgrad`` uses the running maximum of v.
    ``decoupled_weight_decay`` shrinks p by 1 − lr·``weight_decay`` instead of adding to the gradient.

    State per parameter: ``step`` (0-dim float32), ``exp_avg``, ``exp_avg_sq`` and, with ``amsgrad``,
    ``max_exp_avg_sq`` (shape and dtype of the parameter).
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, foreach=None,
                 maximize=False, capturable=False, differentiable=False, fused=None, decoupled_weight_decay=False):
        check_range("learning rate", lr, 0.0)
        check_range("epsilon value", eps, 0.0)
        check_betas(betas)
        check_range("weight_decay value", weight_decay, 0.0)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable,
            "fused": fused, "decoupled_weight_decay": decoupled_weight_decay})

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in (("amsgrad", False), ("maximize", False), ("foreach", None), ("capturable", False),
                                ("differentiable", False), ("fused", None), ("decoupled_weight_decay", False)):
                group.setdefault(name, value)
        for values in self.state.values():
            if values and not isinstance(values["step"], torch.Tensor):  # checkpoints of old PyTorch hold a number
                values["step"] = torch.tensor(float(values["step"]))

    def _init_state(self, p, group):
        state = {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = torch.zeros_like(p)
        return state

    def _update(self, p, grad, state, group):
        beta1, beta2 = group["betas"]
        lr, decay, x = float(group["lr"]), group["weight_decay"], flat(p)
        t = next_step(state)
        if decay != 0:
            if group["decoupled_weight_decay"]:
                x = x * (1 - lr * decay)
            else:
                grad = grad + decay * x
        m = store(state["exp_avg"], lerp(flat(state["exp_avg"]), grad, 1 - beta1))
        v = store(state["exp_avg_sq"], flat(state["exp_avg_sq"]) * beta2 + (1 - beta2) * grad * grad)
        if group["amsgrad"]:
            v = store(state["max_exp_avg_sq"], torch.maximum(flat(state["max_exp_avg_sq"]), v))
        denom = v.sqrt() / (1 - beta2**t) ** 0.5 + group["eps"]
        store(p, x + -(lr / (1 - beta1**t)) * m / denom)


__getattr__ = module_getattr(__name__)
