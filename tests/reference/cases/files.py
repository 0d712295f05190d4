"""Models through files in this environment: safetensors, .bin, half-precision variants, whole pipelines."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from . import Arrays, case
from .common import SD15, array, autoencoder, digest, normal, unet
from .lora import small_text_encoder
from .pipelines import seeded, stable_diffusion


def _round_trip(model, kind) -> Arrays:
    """The model's digest after each way of writing and reading it; names of the files."""
    out: Arrays = {"init/weights": digest(model)}
    with tempfile.TemporaryDirectory() as place:
        for safe in (True, False):
            name = f"{place}/{'safetensors' if safe else 'bin'}"
            model.save_pretrained(name, safe_serialization=safe)
            out[f"exact/files {safe}"] = np.array(sorted(os.listdir(name)))
            for low in (True, False):
                again = kind.from_pretrained(name, low_cpu_mem_usage=low)
                if again.training or any(p.device.type == "meta" for p in again.parameters()):
                    raise AssertionError("the loaded model is not ready for use")
                out[f"zero/{safe} {low}"] = digest(again) - out["init/weights"]
        name = f"{place}/half"
        model.half().save_pretrained(name, variant="fp16")
        out["exact/files half"] = np.array(sorted(os.listdir(name)))
        for low in (True, False):
            half = kind.from_pretrained(name, variant="fp16", torch_dtype=torch.float16, low_cpu_mem_usage=low)
            out[f"exact/dtype {low}"] = np.array(sorted({str(p.dtype) for p in half.parameters()}))
            out[f"init/half {low}"] = digest(half)
            full = kind.from_pretrained(name, variant="fp16", low_cpu_mem_usage=low)
            out[f"exact/dtype read full {low}"] = np.array(sorted({str(p.dtype) for p in full.parameters()}))
    return out


@case
def files_unet() -> Arrays:
    """UNet2DConditionModel."""
    return _round_trip(unet(15, **SD15), UNet2DConditionModel)


@case
def files_autoencoder() -> Arrays:
    """AutoencoderKL."""
    return _round_trip(autoencoder(3), AutoencoderKL)


@case
def files_text_encoder() -> Arrays:
    """CLIPTextModel, which transformers writes and reads in its own way."""
    return _round_trip(small_text_encoder(), CLIPTextModel)


@case
def files_pipeline() -> Arrays:
    """StableDiffusionPipeline.save_pretrained and from_pretrained, and the picture of the loaded one."""
    with tempfile.TemporaryDirectory() as place:
        stable_diffusion().save_pretrained(place)
        pipeline = StableDiffusionPipeline.from_pretrained(place, safety_checker=None, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    out = pipeline("a cat", num_inference_steps=2, height=64, width=64, generator=seeded(5), output_type="np")
    return {"picture/loaded": out.images}


@case
def bfloat16_forward() -> Arrays:
    """A bfloat16 UNet gives finite numbers near those of float32."""
    sample, states = normal(1, 1, 4, 8, 8), normal(2, 1, 77, 24)
    with torch.no_grad():
        full = unet(15, **SD15)(sample, 10, states).sample
        half = unet(15, **SD15).to(torch.bfloat16)(sample.bfloat16(), 10, states.bfloat16()).sample
    if half.dtype != torch.bfloat16:
        raise AssertionError(f"a bfloat16 model gave {half.dtype}")
    error = np.abs(array(half) - array(full)).max() / np.abs(array(full)).max()
    if not 1e-4 < error < 0.05:
        raise AssertionError(f"bfloat16 differs from float32 by {error:.1e} of the largest value")
    return {"half/out": array(half)}
