"""Files written in one environment and read in the other: LoRA of UNet and text encoder, whole models, a checkpoint."""

from __future__ import annotations

import pathlib

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from . import READERS, WRITERS, Arrays, folder
from .common import SD15, array, normal, unet
from .lora import TEXT_TARGETS, UNET_TARGETS, fill_adapter
from .pipelines import seeded, stable_diffusion

LORA_FILE = "pytorch_lora_weights.safetensors"


def _draw(pipeline) -> np.ndarray:
    options = dict(num_inference_steps=3, height=64, width=64, generator=seeded(5), output_type="np")
    return pipeline("a cat in style_07", **options).images


def adapted_pipeline() -> StableDiffusionPipeline:
    """A pipeline with LoRA of rank 2 on UNet and text encoder, values from NumPy."""
    pipeline = stable_diffusion()
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=UNET_TARGETS))
    pipeline.text_encoder.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=TEXT_TARGETS + ["out_proj"]))
    fill_adapter(pipeline.unet, 8, 0.4)
    fill_adapter(pipeline.text_encoder, 9, 0.4)
    return pipeline


def save_lora(place: str) -> None:
    """Write the LoRA of :func:`adapted_pipeline` in diffusers' format to folder `place`."""
    pipeline = adapted_pipeline()
    StableDiffusionPipeline.save_lora_weights(
        place,
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet)),
        text_encoder_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.text_encoder)),
    )


def load_lora(place: str) -> Arrays:
    """Load the LoRA in folder `place` into a fresh pipeline: its picture, the adapters' weights, fused and scaled."""
    pipeline = stable_diffusion()
    plain = _draw(pipeline)
    pipeline.load_lora_weights(place, weight_name=LORA_FILE)
    out = {"picture/loaded": _draw(pipeline)}
    if np.abs(plain - out["picture/loaded"]).max() < 16 / 255:
        raise AssertionError("the LoRA does not change the picture")
    for name, model in (("unet", pipeline.unet), ("text", pipeline.text_encoder)):
        state = get_peft_model_state_dict(model, adapter_name=next(iter(model.peft_config)))
        out[f"exact/{name} keys"] = np.array(sorted(state))
        out[f"init/{name}"] = np.concatenate([array(state[key]).ravel() for key in sorted(state)])
    pipeline.fuse_lora(lora_scale=0.5)
    out["picture/fused by half"] = _draw(pipeline)
    pipeline.unfuse_lora()
    out["picture/unfused"] = _draw(pipeline)
    pipeline.unload_lora_weights()
    out["same/unloaded"] = (_draw(pipeline) - plain) / 255
    return out


def write_lora() -> Arrays:
    """Write the LoRA; its picture, drawn here."""
    save_lora(folder())
    return {"picture/loaded": _draw(adapted_pipeline())}


def read_lora() -> Arrays:
    """Read it."""
    return load_lora(folder())


def write_models() -> Arrays:
    """A UNet in three file formats and a training checkpoint with an optimizer's state."""
    root = pathlib.Path(folder())
    model = unet(15, **SD15)
    model.save_pretrained(root / "safe")
    model.save_pretrained(root / "bin", safe_serialization=False)
    parameter = torch.nn.Parameter(normal(1, 3, 4))
    optimizer = torch.optim.AdamW([parameter], lr=0.01)
    (parameter**2).sum().backward()
    optimizer.step()
    torch.save({"weight": parameter, "optimizer": optimizer.state_dict(), "step": 1, "half": normal(2, 5).half()},
               root / "state.pt")  # fmt: skip
    model.half().save_pretrained(root / "half", variant="fp16")
    return {}


def read_models() -> Arrays:
    """What the UNet from each format computes, and the checkpoint's tensors."""
    root = pathlib.Path(folder())
    sample, states = normal(1, 1, 4, 8, 8), normal(2, 1, 77, 24)
    out: Arrays = {}
    with torch.no_grad():
        for name, options in (("safe", {}), ("bin", {"low_cpu_mem_usage": False}), ("half", {"variant": "fp16"})):
            model = UNet2DConditionModel.from_pretrained(root / name, **options).float()
            out[f"out/{name}"] = array(model(sample, 10, states).sample)
    state = torch.load(root / "state.pt", weights_only=True)
    out["init/weight"], out["init/half"] = array(state["weight"]), array(state["half"])
    moments = state["optimizer"]["state"][0]
    out["init/moments"] = np.stack([array(moments["exp_avg"]), array(moments["exp_avg_sq"])])
    out["exact/step"] = np.array([float(moments["step"]), state["step"]])
    return out


WRITERS.update(lora=write_lora, models=write_models)
READERS.update(lora=read_lora, models=read_models)
