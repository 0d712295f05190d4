"""LoRA and DoRA through peft: training, merging, and what the layers compute."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from transformers import CLIPTextModel

from . import Arrays, case
from .common import SD15, array, digest, normal, text_config, token_ids, unet

UNET_TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj"]


def small_text_encoder() -> CLIPTextModel:
    """The text encoder that belongs to the SD 1.5 UNet."""
    torch.manual_seed(2)
    return CLIPTextModel(text_config()).eval()


def fill_adapter(model: torch.nn.Module, seed: int, scale: float = 0.2) -> None:
    """Give all LoRA matrices values from NumPy, so that B is not zero."""
    random = np.random.RandomState(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                values = random.standard_normal(tuple(parameter.shape)).astype(np.float32)
                parameter.copy_(torch.from_numpy(values) * scale)


def _train(steps: int, rate: float, dora: bool) -> Arrays:
    """The usual loop: noise-prediction loss on latents, UNet and text encoder trained together."""
    net, text = unet(15, **SD15), small_text_encoder()
    net.requires_grad_(False)
    text.requires_grad_(False)
    torch.manual_seed(31)
    options = dict(r=4, lora_alpha=4, init_lora_weights="gaussian", use_dora=dora)
    net.add_adapter(LoraConfig(target_modules=UNET_TARGETS, **options))
    text.add_adapter(LoraConfig(target_modules=TEXT_TARGETS, **options))
    net.train()
    text.train()
    start = np.concatenate([digest(net), digest(text)])
    weights = [p for p in [*net.parameters(), *text.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))
    noiser = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    latents, ids = normal(1, 4, 4, 8, 8), token_ids(4, batch=4)
    torch.manual_seed(32)
    losses, norms = [], []
    for step in range(steps):
        rows = slice(0, 2) if step % 2 else slice(2, 4)
        noise = torch.randn(2, 4, 8, 8)
        time = torch.randint(0, noiser.config.num_train_timesteps, (2,)).long()
        noisy = noiser.add_noise(latents[rows], noise, time)
        states = text(ids[rows])[0]
        predicted = net(noisy, time, encoder_hidden_states=states).sample
        loss = F.mse_loss(predicted.float(), noise.float(), reduction="mean")
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(weights, 1.0)))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    out = {"init/weights": start, "loss/each step": np.array(losses), "loss/gradient norms": np.array(norms)}
    for prefix, model in (("unet", net), ("text", text)):
        state = get_peft_model_state_dict(model)
        out[f"exact/{prefix} keys"] = np.array(sorted(state))
        flat = np.concatenate([array(state[key]).ravel() for key in sorted(state)])
        out[f"weights/{prefix}"] = flat
    return out


@case
def lora_training() -> Arrays:
    """20 steps, UNet (``to_out.0`` included) and text encoder, AdamW."""
    out = _train(20, 1e-3, dora=False)
    if not any("to_out.0" in key for key in out["exact/unet keys"]):
        raise AssertionError("to_out.0 has no adapter")
    return out


@case
def dora_training() -> Arrays:
    """5 steps with magnitude vectors."""
    return _train(5, 1e-3, dora=True)


def _states(net, sample, states) -> np.ndarray:
    with torch.no_grad():
        return array(net(sample, torch.tensor([40]), encoder_hidden_states=states).sample)


def _merging(dora: bool) -> Arrays:
    net = unet(15, **SD15)
    sample, states = normal(1, 1, 4, 8, 8), normal(2, 1, 77, 24)
    before = _states(net, sample, states)
    net.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=UNET_TARGETS, use_dora=dora))
    fill_adapter(net, 5)
    out = {"out/unmerged": _states(net, sample, states)}
    size = np.abs(out["out/unmerged"]).max()
    net.fuse_lora()
    out["out/merged"] = _states(net, sample, states)
    out["same/merged"] = (out["out/merged"] - out["out/unmerged"]) / size
    net.unfuse_lora()
    out["same/unfused"] = (_states(net, sample, states) - out["out/unmerged"]) / size
    net.disable_adapters()
    out["same/disabled"] = (_states(net, sample, states) - before) / size
    net.enable_adapters()
    out["same/enabled"] = (_states(net, sample, states) - out["out/unmerged"]) / size
    return out


@case
def lora_merging() -> Arrays:
    """Merged, unmerged and switched off."""
    return _merging(dora=False)


@case
def dora_merging() -> Arrays:
    """The same with DoRA."""
    return _merging(dora=True)


@case
def lora_two_adapters() -> Arrays:
    """Two adapters of different rank, weighted; then one deleted."""
    net = unet(15, **SD15)
    sample, states = normal(1, 1, 4, 8, 8), normal(2, 1, 77, 24)
    net.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=UNET_TARGETS), "first")
    net.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=["to_k", "conv1", "proj_in"]), "second")
    fill_adapter(net, 6)
    net.set_adapters(["first", "second"], [0.7, 0.4])
    both = _states(net, sample, states)
    net.delete_adapters("second")
    return {"out/both": both, "out/first": _states(net, sample, states)}


@case
def lora_get_peft_model() -> Arrays:
    """peft's own wrapper on the text encoder: merge_and_unload, rank-stabilised scaling, modules saved whole."""
    whole = ["final_layer_norm"]
    config = LoraConfig(r=3, lora_alpha=6, use_rslora=True, target_modules=TEXT_TARGETS, modules_to_save=whole)
    model = get_peft_model(small_text_encoder(), config)
    fill_adapter(model, 7)
    ids = token_ids(5)
    with torch.no_grad():
        adapted = array(model(ids).last_hidden_state)
        merged = array(model.merge_and_unload()(ids).last_hidden_state)
    return {"out/adapted": adapted, "same/merged": (merged - adapted) / np.abs(adapted).max()}
