"""Import-time patch of peft: the plain LoRA linear layer as one operation.

All else works as released: LoRA on convolutions and ``to_out.0``, DoRA, merging, several adapters at once.
tests/reference and tests/patches/test_golden_models.py compare it with PyTorch.
"""

import functools

VERSIONS = "==0.10.0"
PATCHES = [
    (
        "peft.tuners.lora.layer.Linear.forward",
        "the adapter's product, its scaling and the sum each pass over the whole output; with one active adapter on a "
        "frozen float32 layer without hooks, one kernel adds into the layer's own result, the other cases stay peft's",
    ),
]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _plain(nn, layer):
    """Whether calling ``layer`` does nothing but `torch.nn.Linear.forward`."""
    return (type(layer).forward is nn.Linear.forward and "forward" not in layer.__dict__
            and not any(getattr(layer, name) for name in _HOOKS))


def _parts(layer, nn, module):
    """(base, A, B, dropout, scale) of a peft layer whose forward is the plain sum, else None."""
    active = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(active) != 1 or active[0] not in layer.lora_A:
        return None
    if layer.use_dora[active[0]] or any(getattr(module, f"_global{name}") for name in _HOOKS):
        return None
    base, a, b = layer.base_layer, layer.lora_A[active[0]], layer.lora_B[active[0]]
    if not (_plain(nn, base) and _plain(nn, a) and _plain(nn, b)) or a.bias is not None or b.bias is not None:
        return None
    if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
        return None
    return base, a, b, layer.lora_dropout[active[0]], layer.scaling[active[0]]


def _forward(released):
    from torch import nn
    from torch.nn import _functional_lora as lora
    from torch.nn.modules import module

    @functools.wraps(released)
    def forward(self, x, *args, **kwargs):
        parts = None if args or kwargs else _parts(self, nn, module)
        if parts is not None:
            base, a, b, dropout, scale = parts
            bias = () if base.bias is None else (base.bias,)
            if lora.fits(x, base.weight, a.weight, b.weight, *bias):
                z = dropout(x)
                return lora.lora_linear(x, base.weight, base.bias, a.weight, b.weight, scale, None if z is x else z)
        return released(self, x, *args, **kwargs)

    forward.released = released
    return forward


def apply(module):
    """Patch ``peft``. Patching twice changes nothing."""
    linear = module.tuners.lora.layer.Linear
    if not hasattr(linear.forward, "released"):
        linear.forward = _forward(linear.forward)
