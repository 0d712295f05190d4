"""Adam (Kingma and Ba, 2015) and, through ``decoupled_weight_decay``, AdamW."""

import numpy as np
from jtorch.kernels import active

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

    def _update_all(self, work):
        """All float32 parameters in one launch of our kernel; the others with `_update`, one by one."""
        rows, others = [], []
        if len({id(p) for p, _ in work}) == len(work):
            for p, group in work:
                state = self.state.get(p) or self._init_state(p, group)
                moments = [state["exp_avg"], state["exp_avg_sq"]]
                if group["amsgrad"]:
                    moments.append(state["max_exp_avg_sq"])
                if _plain(p, p.grad, *moments) and p.numel():
                    rows.append((p, moments, state, group))
                else:
                    others.append((p, group))
        else:  # the same parameter twice: the second update starts from the first one's result
            others = work
        if rows and not self._update_together(rows):
            others = work
        if others:
            super()._update_all(others)

    def _update_together(self, rows):
        """One launch for ``rows``: (parameter, moments, state, group). False, and nothing done, where it cannot be."""
        options, steps, cache = [], [], {}
        for _, _, state, group in rows:
            count = state["step"]
            t = (float(count._v) if count._base is None and type(count._v) is np.ndarray else count.item()) + 1
            key = (id(group), t)
            if key not in cache:
                cache[key] = _row_options(group, t)
            options.append(cache[key])
            steps.append(t)
        counts = np.array([row[0].numel() for row in rows], np.int64)
        amsgrad = np.array([len(row[1]) == 3 for row in rows])
        targets = [row[0] for row in rows]
        for k in range(3):
            targets += [row[1][k] for row in rows if k < len(row[1])]
        gradients = [row[0].grad._data() for row in rows]
        found = active.adam_step(gradients, [t._v for t in targets], counts, np.array(options), amsgrad)
        if found is None:
            return False
        for target, value in zip(targets, found):
            target._rebind(target._v if value is None else value)
        for (p, _, state, _), t in zip(rows, steps):
            count = state["step"]
            if _plain(count) and type(count._v) is np.ndarray:
                count._rebind(np.array(t, np.float32))
            else:
                count.fill_(t)
            self.state[p] = state
        return True

    def _update(self, p, grad, state, group):
        """The same rule in tensor operations: any dtype, and what the kernel is tested against."""
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


def _plain(first, *others):
    """Whether all are float32 with data, of one shape, and no views of another tensor (a view writes to its base)."""
    shape = first._shape
    for t in (first, *others):
        if t.dtype is not torch.float32 or t._base is not None or t._shape != shape or t._device.type == "meta":
            return False
    return True


def _row_options(group, t):
    """What adamw.cc needs to know about update number ``t`` of a parameter of ``group``."""
    (beta1, beta2), lr, decay = group["betas"], float(group["lr"]), group["weight_decay"]
    decoupled = group["decoupled_weight_decay"]
    return (1 - beta1, beta2, group["eps"], lr / (1 - beta1**t), (1 - beta2**t) ** 0.5,
            1 - lr * decay if decoupled else 1.0, 0.0 if decoupled else decay, -1.0 if group["maximize"] else 1.0)


__getattr__ = module_getattr(__name__)
