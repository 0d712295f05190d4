"""Whole pipelines from a seed: text to image, image to image, SDXL; a real CLIP tokenizer on a made-up vocabulary."""

from __future__ import annotations

import json
import pathlib
import tempfile

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.models.clip.tokenization_clip import bytes_to_unicode

from . import Arrays, case
from .common import SD15, SD21, SDXL, array, autoencoder, text_config, unet

MERGES = [("c", "a"), ("ca", "t</w>"), ("s", "t"), ("st", "y"), ("l", "e</w>"), ("sty", "le</w>")]
SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer with 520 entries: bytes, bytes at a word's end, six merges, begin and end."""
    symbols = list(bytes_to_unicode().values())
    words = symbols + [s + "</w>" for s in symbols] + ["".join(pair) for pair in MERGES]
    words += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as place:
        root = pathlib.Path(place)
        (root / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
        (root / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in MERGES) + "\n")
        return CLIPTokenizer(str(root / "vocab.json"), str(root / "merges.txt"), model_max_length=77)


def text_encoder(seed: int, kind=CLIPTextModel, **settings):
    """A small text encoder of class `kind`."""
    torch.manual_seed(seed)
    return kind(text_config(**settings)).eval()


def stable_diffusion(kind=StableDiffusionPipeline, scheduler=None, settings=SD15):
    """Stable Diffusion of random small models."""
    pipeline = kind(
        vae=autoencoder(3),
        text_encoder=text_encoder(2, hidden_size=settings["cross_attention_dim"]),
        tokenizer=tokenizer(),
        unet=unet(15, **settings),
        scheduler=scheduler or PNDMScheduler(skip_prk_steps=True, **SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded(number: int) -> torch.Generator:
    """A CPU generator."""
    return torch.Generator("cpu").manual_seed(number)


@case
def pipeline_sd() -> Arrays:
    """SD 1.5 with PNDM and guidance, two prompts; latents of a second run with one generator a picture."""
    pipeline = stable_diffusion()
    prompts = ["a cat in style_07", "An old boat, 2 sails"]
    common = dict(height=64, width=64, guidance_scale=7.5)
    images = pipeline(prompts, num_inference_steps=4, generator=seeded(5), output_type="np", **common).images
    latents = pipeline(
        prompts, num_inference_steps=2, negative_prompt=["", "blurry"], generator=[seeded(1), seeded(2)],
        output_type="latent", **common,
    ).images  # fmt: skip
    return {"picture/two prompts": images, "latents/two generators": array(latents)}


@case
def pipeline_sd_pil() -> Arrays:
    """The PIL image a user gets, drawn from the global generator."""
    pipeline = stable_diffusion(scheduler=EulerDiscreteScheduler(**SCHEDULE))
    torch.manual_seed(9)
    image = pipeline("a cat", num_inference_steps=5, height=64, width=64).images[0]
    return {"picture/pil": np.asarray(image)[None] / 255.0}


@case
def pipeline_sd21() -> Arrays:
    """SD 2.1: v-prediction with DDIM, zero terminal SNR and guidance rescaling."""
    scheduler = DDIMScheduler(
        **SCHEDULE, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        clip_sample=False, set_alpha_to_one=False,
    )  # fmt: skip
    pipeline = stable_diffusion(scheduler=scheduler, settings=SD21)
    out = pipeline("a cat", num_inference_steps=4, height=64, width=64, guidance_rescale=0.7, generator=seeded(3),
                   eta=0.5, output_type="np")  # fmt: skip
    return {"picture/v": out.images}


@case
def pipeline_img2img() -> Arrays:
    """From a picture, at strength 0.75."""
    pipeline = stable_diffusion(StableDiffusionImg2ImgPipeline, DPMSolverMultistepScheduler(**SCHEDULE))
    pixels = np.random.RandomState(8).randint(0, 256, (64, 64, 3), dtype=np.uint8)
    out = pipeline("a cat", image=Image.fromarray(pixels), strength=0.75, num_inference_steps=5, generator=seeded(6),
                   output_type="np")  # fmt: skip
    return {"picture/from picture": out.images}


@case
def pipeline_sdxl() -> Arrays:
    """SDXL with its two text encoders."""
    large = dict(hidden_size=32, projection_dim=32, hidden_act="gelu")
    pipeline = StableDiffusionXLPipeline(
        vae=autoencoder(3),
        text_encoder=text_encoder(4),
        text_encoder_2=text_encoder(5, CLIPTextModelWithProjection, **large),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(10, **SDXL),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", **SCHEDULE),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    out = pipeline("a cat in style_07", negative_prompt="boat", num_inference_steps=4, height=64, width=64,
                   generator=seeded(7), output_type="np")  # fmt: skip
    return {"picture/xl": out.images}
