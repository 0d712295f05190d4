"""Single operations of the workloads, forward alone and with backward, in the shapes of Stable Diffusion's networks.

``python benchmarks/run.py --kernels`` times them. An operation is computed whole in both environments; read back are every
4099th value of its result and of each gradient, so that copying out does not hide the operation.
"""

from __future__ import annotations

from typing import Callable

import torch
from torch.nn import functional as F
from workloads import Arrays, Prepared, Workload, normal

STEP = 4099


def some(values: torch.Tensor):
    """Every 4099th value, read back: all of them have to be computed for it."""
    return values.detach().reshape(-1)[::STEP].numpy()


def operation(function: Callable[..., torch.Tensor], *shapes: tuple[int, ...], trained: int | None = None) -> Callable:
    """Two makers of `Prepared`: ``function`` of normal inputs of these shapes, alone and with backward.

    The first ``trained`` inputs (all, if None) get gradients.
    """

    def forward() -> Prepared:
        inputs = [normal(20 + i, *shape) for i, shape in enumerate(shapes)]

        def step() -> Arrays:
            with torch.inference_mode():
                return {"out": some(function(*inputs))}

        return Prepared(step)

    def backward() -> Prepared:
        inputs = [normal(20 + i, *shape) for i, shape in enumerate(shapes)]
        leaves = inputs[:trained]
        for leaf in leaves:
            leaf.requires_grad_()
        with torch.no_grad():
            direction = normal(19, *function(*inputs).shape)

        def step() -> Arrays:
            result = function(*inputs)
            result.backward(direction)
            found = {"out": some(result)} | {f"grad/{i}": some(leaf.grad) for i, leaf in enumerate(leaves)}
            for leaf in leaves:
                leaf.grad = None
            return found

        return Prepared(step)

    return forward, backward


def heads(x: torch.Tensor, count: int) -> torch.Tensor:
    """[batch, rows, width] as [batch, heads, rows, width / heads], as diffusers does it."""
    return x.view(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    result = F.scaled_dot_product_attention(heads(query, 8), heads(key, 8), heads(value, 8))
    return result.transpose(1, 2).reshape(query.shape)


def geglu(x: torch.Tensor) -> torch.Tensor:
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)


def lora(x, weight, bias, down, up):
    return F.linear(x, weight, bias) + F.linear(F.linear(x, down), up) * 0.5


def conv(x, weight, bias):
    return F.conv2d(x, weight, bias, padding=1)


OPERATIONS = {
    "attention-4096-w16": ("attention, 4096 tokens, 8 heads of 16", operation(attention, *[(2, 4096, 128)] * 3)),
    "attention-4096-w40": ("attention, 4096 tokens, 8 heads of 40", operation(attention, *[(2, 4096, 320)] * 3)),
    "attention-cross": ("attention, 4096 queries, 77 keys, 8 heads of 40",
                        operation(attention, (2, 4096, 320), (2, 77, 320), (2, 77, 320))),
    "linear": ("linear 768→3072, 616 rows", operation(F.linear, (8, 77, 768), (3072, 768), (3072,))),
    "linear-long": ("linear 3072→768, 616 rows", operation(F.linear, (8, 77, 3072), (768, 3072), (768,))),
    "lora-linear": ("plain LoRA linear, 320, rank 16, 8192 rows",
                    operation(lora, (2, 4096, 320), (320, 320), (320,), (16, 320), (320, 16), trained=1)),
    "conv-320": ("convolution 320→320, 3×3, 64×64, batch 2", operation(conv, (2, 320, 64, 64), (320, 320, 3, 3), (320,),
                                                                        trained=1)),
    "conv-320-weights": ("the same, weights trained", operation(conv, (2, 320, 64, 64), (320, 320, 3, 3), (320,))),
    "conv-1280": ("convolution 1280→1280, 3×3, 16×16, batch 2",
                  operation(conv, (2, 1280, 16, 16), (1280, 1280, 3, 3), (1280,), trained=1)),
    "conv-4": ("convolution 4→320, 3×3, 64×64, batch 2", operation(conv, (2, 4, 64, 64), (320, 4, 3, 3), (320,), trained=1)),
    "group-norm-silu": ("group_norm and SiLU, 320 channels, 64×64, batch 2",
                        operation(lambda x, w, b: F.silu(F.group_norm(x, 32, w, b)), (2, 320, 64, 64), (320,), (320,),
                                  trained=1)),
    "layer-norm": ("layer_norm, 8192 rows of 320, weights trained",
                   operation(lambda x, w, b: F.layer_norm(x, (320,), w, b), (2, 4096, 320), (320,), (320,))),
    "gelu": ("GELU, 8192 × 1280", operation(F.gelu, (2, 4096, 1280))),
    "geglu": ("GEGLU, 8192 × 2·1280", operation(geglu, (2, 4096, 2560))),
    "softmax": ("softmax, 96 × 77 rows of 77", operation(lambda x: F.softmax(x, -1), (96, 77, 77))),
    "upsample": ("nearest upsample ×2, 320 channels, 32×32, batch 2",
                 operation(lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"), (2, 320, 32, 32))),
}

KERNELS = {}
for _name, (_title, (_forward, _backward)) in OPERATIONS.items():
    KERNELS[_name] = Workload(_title, _forward, images=False)
    KERNELS[f"{_name}-backward"] = Workload(f"{_title}, with backward", _backward, images=False)
