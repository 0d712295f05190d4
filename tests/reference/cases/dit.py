"""DiT: Transformer2DModel on patches with adaLN-Zero conditioning on time and class."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, DiTPipeline, Transformer2DModel

from . import Arrays, case
from .common import array, autoencoder, digest, gradient_norms, integers, normal


def _dit() -> Transformer2DModel:
    torch.manual_seed(8)
    return Transformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero", norm_elementwise_affine=False,
    ).eval()  # fmt: skip


@case
def dit() -> Arrays:
    """Forward and backward."""
    model = _dit()
    out = model(normal(1, 2, 4, 8, 8), timestep=torch.tensor([3, 800]), class_labels=integers(2, 0, 1000, 2)).sample
    (out * normal(3, 2, 8, 8, 8)).sum().backward()
    return {
        "init/weights": digest(model),
        "out/sample": array(out),
        "grad/norm of each parameter": gradient_norms(model),
    }


@case
def dit_pipeline() -> Arrays:
    """DiTPipeline with guidance, three steps from a seed."""
    pipeline = DiTPipeline(_dit(), autoencoder(3), DDIMScheduler(clip_sample=False))
    pipeline.set_progress_bar_config(disable=True)
    out = pipeline([7, 300], guidance_scale=3.0, num_inference_steps=3, generator=torch.Generator().manual_seed(1),
                   output_type="np")  # fmt: skip
    return {"picture/two classes": out.images}
