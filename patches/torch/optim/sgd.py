"""Stochastic gradient descent with momentum."""

from .._missing import module_getattr
from ._rule import RuleOptimizer, check_range, flat, store

__all__ = ["SGD"]


class SGD(RuleOptimizer):
    """Gradient descent, optionally with (Nesterov) momentum: PyTorch's ``torch.optim.SGD``.

    With g the gradient plus ``weight_decay``·p, b ← ``momentum``·b + (1 − ``dampening``)·g (b starts as g),
    p ← p − ``lr``·b; Nesterov uses g + ``momentum``·b instead of b. ``maximize`` flips the sign of the gradient.
    """

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False,
                 foreach=None, differentiable=False, fused=None):
        check_range("learning rate", lr, 0.0)
        check_range("momentum value", momentum, 0.0)
        check_range("weight_decay value", weight_decay, 0.0)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused})

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in (("nesterov", False), ("maximize", False), ("foreach", None), ("differentiable", False),
                                ("fused", None)):
                group.setdefault(name, value)

    def _update(self, p, grad, state, group):
        momentum, x = group["momentum"], flat(p)
        if group["weight_decay"] != 0:
            grad = grad + group["weight_decay"] * x
        if momentum != 0:
            buf = state.get("momentum_buffer")
            if buf is None:
                state["momentum_buffer"] = grad.clone().reshape(p.shape)
                buf = grad
            else:
                buf = store(buf, flat(buf) * momentum + (1 - group["dampening"]) * grad)
            grad = grad + momentum * buf if group["nesterov"] else buf
        store(p, x + -float(group["lr"]) * grad)


__getattr__ = module_getattr(__name__)
