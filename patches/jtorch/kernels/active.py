"""The kernels that this process computes with: those for the CPU, or, from `use_card` on, those for an NVIDIA card.

Jittor has one place for the whole process, so this is one table for all. Callers write ``active.softmax(x)`` and never ask
where they are; what they may have to ask is whether the kernels take their data:

TYPES: names of the types of data that the fused kernels read and write; others are converted or go through plain operations.
CONVOLUTION_TYPES: likewise for convolutions. WIDEST: the widest head of attention on a card.
CARD: whether this is the table for a card.
"""

import functools
import math

from . import activation, adamw, attention, bfloat16, bmm, conv, gradnorm, linear, lora, norm, pool, rows, softmax, sum
from .sources import jt

_FUNCTIONS = {
    activation: ("activate", "activate_backward", "gated", "gated_backward"),
    adamw: ("adam_step",),
    attention: ("attention", "attention_backward"),
    bfloat16: ("to_bfloat16",),
    bmm: ("bmm",),
    conv: ("conv", "conv_data", "conv_weights"),
    gradnorm: ("total_norm", "scale_all"),
    linear: ("linear", "linear_data"),
    lora: ("lora", "lora_backward"),
    norm: ("norm", "norm_backward", "norm_silu_backward", "norm_weights"),
    pool: ("max_pool",),
    rows: ("take_rows", "give_rows"),
    softmax: ("softmax", "softmax_backward"),
    sum: ("sum_middle",),
}


@functools.cache
def _cpu():
    table = {name: getattr(module, name) for module, names in _FUNCTIONS.items() for name in names}
    return table | {"TYPES": frozenset(["float32"]), "CONVOLUTION_TYPES": frozenset(["float32"]), "WIDEST": math.inf,
                    "CARD": False}


@functools.cache
def _card():
    from . import on_cuda

    return {name: getattr(on_cuda, name) for name in _cpu() if name != "CARD"} | {"CARD": True}


def use_cpu():
    """Compute on the CPU from now on."""
    jt.flags.use_cuda = 0
    globals().update(_cpu())


def use_card():
    """Compute on the card from now on. Raises RuntimeError where Jittor was started without CUDA."""
    table = _card()
    jt.flags.use_cuda = 1
    globals().update(table)


globals().update(_card() if jt.flags.use_cuda else _cpu())  # Jittor's own variable "use_cuda" may have switched it already
