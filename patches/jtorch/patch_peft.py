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


def _plain(kind, layer):
    """Whether calling ``layer`` does nothing but the ``forward`` of the class ``kind``."""
    own = layer.__dict__  # attributes of modules, found by name, take a quarter of this check
    return (type(layer).forward is kind.forward and "forward" not in own and not own["_forward_hooks"]
            and not own["_forward_pre_hooks"] and not own["_backward_hooks"] and not own["_backward_pre_hooks"])


def _parts(layer, nn, everywhere):
    """(weight, bias, A, B, scale, probability of dropout) of a peft layer whose forward is the plain sum, else None.

    ``everywhere``: the hooks of all modules, which must be empty.
    """
    active = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(active) != 1 or any(everywhere):
        return None
    name, modules = active[0], layer._modules
    a, b = modules["lora_A"]._modules.get(name), modules["lora_B"]._modules.get(name)
    if a is None or layer.use_dora[name]:
        return None
    base, dropout = modules["base_layer"], modules["lora_dropout"]._modules[name]
    if not (_plain(nn.Linear, base) and _plain(nn.Linear, a) and _plain(nn.Linear, b)):
        return None
    if _plain(nn.Identity, dropout):
        p = 0.0
    elif _plain(nn.Dropout, dropout) and not dropout.inplace:
        p = dropout.p if dropout.training else 0.0
    else:
        return None
    own = base._parameters
    weight, bias = own["weight"], own["bias"]
    a, b, odd = a._parameters["weight"], b._parameters["weight"], (a._parameters["bias"], b._parameters["bias"])
    if p == 1 or odd != (None, None) or weight.requires_grad or (bias is not None and bias.requires_grad):
        return None
    return weight, bias, a, b, layer.scaling[name], p


def _forward(released):
    from torch import nn
    from torch.nn import _functional_lora as lora
    from torch.nn.modules import module

    everywhere = [getattr(module, f"_global{name}") for name in _HOOKS]

    @functools.wraps(released)
    def forward(self, x, *args, **kwargs):
        parts = None if args or kwargs else _parts(self, nn, everywhere)
        if parts is not None:
            weight, bias, a, b, scale, p = parts
            if lora.fits(x, weight, a, b, *(() if bias is None else (bias,))):
                return lora.lora_linear(x, weight, bias, a, b, scale, p)
        return released(self, x, *args, **kwargs)

    forward.released = released
    return forward


def apply(module):
    """Patch ``peft``. Patching twice changes nothing."""
    linear = module.tuners.lora.layer.Linear
    if not hasattr(linear.forward, "released"):
        linear.forward = _forward(linear.forward)
