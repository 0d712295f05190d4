"""UNet2DConditionModel with the settings of Stable Diffusion 1.5, 2.1 and XL."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler

from . import Arrays, case
from .common import SD15, SD21, SDXL, array, digest, gradient_norms, gradients, integers, normal, unet


def _backward(model, loss: torch.Tensor, names: tuple[str, ...]) -> Arrays:
    loss.backward()
    return {
        "loss/mse": array(loss),
        "grad/norm of each parameter": gradient_norms(model),
        **gradients(model, names),
    }


@case
def unet_sd15() -> Arrays:
    """Forward at two time steps, then the gradient of the noise-prediction loss."""
    model = unet(15, **SD15)
    sample, states, time = normal(1, 2, 4, 8, 8), normal(2, 2, 77, 24), torch.tensor([7, 901])
    with torch.no_grad():
        one_time = model(sample, 500, states).sample
    out = model(sample, time, encoder_hidden_states=states).sample
    loss = F.mse_loss(out, normal(3, 2, 4, 8, 8))
    names = (
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "mid_block.resnets.0.norm1.weight",
        "up_blocks.3.attentions.1.transformer_blocks.0.ff.net.0.proj.weight",
        "conv_out.bias",
    )
    return {
        "init/weights": digest(model),
        "out/at 500": array(one_time),
        "out/at 7 and 901": array(out),
        **_backward(model, loss, names),
    }


@case
def unet_sd21() -> Arrays:
    """The v-prediction loss, linear projections, a head count for each level; gradients of weights and of the input."""
    model = unet(21, **SD21)
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction"
    )
    latents, noise, time = normal(1, 2, 4, 8, 8), normal(2, 2, 4, 8, 8), integers(3, 0, 1000, 2)
    noisy = scheduler.add_noise(latents, noise, time).requires_grad_(True)
    states = normal(4, 2, 77, 40).requires_grad_(True)
    out = model(noisy, time, encoder_hidden_states=states, return_dict=False)[0]
    loss = F.mse_loss(out, scheduler.get_velocity(latents, noise, time))
    names = ("down_blocks.1.attentions.0.proj_in.weight", "up_blocks.1.upsamplers.0.conv.weight", "conv_out.weight")
    return {
        "init/weights": digest(model),
        "out/velocity": array(out),
        **_backward(model, loss, names),
        "grad/noisy latents": array(noisy.grad),
        "grad/text states": array(states.grad),
    }


@case
def unet_sdxl() -> Arrays:
    """Pooled text embedding and size numbers as added condition, two transformer layers in the last level."""
    model = unet(10, **SDXL)
    added = {
        "text_embeds": normal(5, 2, 32),
        "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64], [32, 48, 4, 8, 64, 64]], dtype=torch.float32),
    }
    out = model(
        normal(1, 2, 4, 8, 8), torch.tensor([20, 600]), encoder_hidden_states=normal(2, 2, 77, 56),
        added_cond_kwargs=added,
    ).sample  # fmt: skip
    names = ("add_embedding.linear_1.weight", "mid_block.attentions.0.transformer_blocks.1.attn1.to_out.0.weight")
    return {
        "init/weights": digest(model),
        "out/noise": array(out),
        **_backward(model, F.mse_loss(out, normal(3, 2, 4, 8, 8)), names),
    }


@case
def unet_checkpointing() -> Arrays:
    """Gradients with activation checkpointing; `same/...` is the difference from those without, at most rounding."""
    sample, states = normal(1, 1, 4, 8, 8), normal(2, 1, 77, 24)
    runs = []
    for on in (False, True):
        model = unet(15, **SD15).train()
        if on:
            model.enable_gradient_checkpointing()
        out = model(sample, torch.tensor([300]), encoder_hidden_states=states).sample
        (out * normal(3, 1, 4, 8, 8)).sum().backward()
        runs.append((array(out), gradient_norms(model)))
    (plain, plain_norms), (saved, saved_norms) = runs
    return {
        "out/checkpointed": saved,
        "grad/norm of each parameter": saved_norms,
        "same/out": saved - plain,
        "same/norms": (saved_norms - plain_norms) / plain_norms.max(),
    }
