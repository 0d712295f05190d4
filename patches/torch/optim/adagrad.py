"""Adagrad (Duchi, Hazan and Singer, 2011)."""

import torch

from .._missing import module_getattr
from ._rule import RuleOptimizer, check_range, flat, next_step, store

__all__ = ["Adagrad"]


class Adagrad(RuleOptimizer):
    """With g the gradient plus ``weight_decay``·p: s ← s + g², p ← p − lr/(1 + (t − 1)·``lr_decay``) · g/(√s + eps).

    State, present from the start: ``step`` and ``sum`` (starts at ``initial_accumulator_value``).
    """

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10,
                 foreach=None, *, maximize=False, differentiable=False, fused=None):
        check_range("learning rate", lr, 0.0)
        check_range("lr_decay value", lr_decay, 0.0)
        check_range("weight_decay value", weight_decay, 0.0)
        check_range("initial_accumulator_value value", initial_accumulator_value, 0.0)
        check_range("epsilon value", eps, 0.0)
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused})
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].update(self._init_state(p, group))

    def _init_state(self, p, group):
        return {"step": torch.tensor(0.0), "sum": torch.full_like(p, group["initial_accumulator_value"])}

    def _update(self, p, grad, state, group):
        x = flat(p)
        t = next_step(state)
        if group["weight_decay"] != 0:
            grad = grad + group["weight_decay"] * x
        s = store(state["sum"], flat(state["sum"]) + grad * grad)
        lr = float(group["lr"]) / (1 + (t - 1) * group["lr_decay"])
        store(p, x + -lr * grad / (s.sqrt() + group["eps"]))


__getattr__ = module_getattr(__name__)
