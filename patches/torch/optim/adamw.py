"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

from .._missing import module_getattr
from .adam import Adam

__all__ = ["AdamW"]


class AdamW(Adam):
    """`Adam` whose weight decay multiplies the parameter by 1 − ``lr``·``weight_decay`` before the update."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *,
                 maximize=False, foreach=None, capturable=False, differentiable=False, fused=None):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused, decoupled_weight_decay=True)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:  # checkpoints written before PyTorch 2.6 do not say it
            group["decoupled_weight_decay"] = True


__getattr__ = module_getattr(__name__)
