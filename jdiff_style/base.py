"""Loading a base model: any Stable Diffusion in diffusers layout from a local folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from jdiff_style.errors import UserError
from jdiff_style.hashes import check_sums
from jdiff_style.model_folder import check_model_folder

TINY_FOLDER = "tiny-base"


@dataclass
class Base:
    """The parts of a base model. `noise_scheduler` defines the training noise, `alphas_cumprod` float32 of shape (T,).
    """

    path: Path
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    noise_scheduler: DDPMScheduler

    def pipeline(self) -> StableDiffusionPipeline:
        """A generation pipeline over the same modules, with the base's own noise scheduler."""
        return StableDiffusionPipeline.from_pretrained(
            str(self.path),
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            local_files_only=True,
        )


def pixels_per_latent(vae: AutoencoderKL) -> int:
    """How many pixels of a picture's side one of its latents stands for: 8 in Stable Diffusion."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def resolve_base(base: str, out: Path) -> Path:
    """The folder of the base model a recipe names; `tiny` makes the random-weight one in `out/tiny-base` once."""
    if base != "tiny":
        return Path(base).expanduser()
    folder = out / TINY_FOLDER
    if not folder.is_dir():
        from jdiff_style.tiny_base import make_tiny_base

        out.mkdir(parents=True, exist_ok=True)
        make_tiny_base(folder)
    return folder


def load_base(path: Path, dtype: torch.dtype, device: torch.device) -> Base:
    """Load all parts, UNet and text encoder in `dtype`, the VAE in float32 (float16 overflows in it), on `device`.

    A folder that holds only half-precision files (`….fp16.safetensors`) is read as such. Raises UserError for a missing
    or damaged part; where the folder has a `SHA256SUMS`, any changed file counts as damaged.
    """
    variants = check_model_folder(path, "base")
    check_sums(path, "base")
    loaded: dict[str, Any] = {}
    for name, kind in (
        ("tokenizer", CLIPTokenizer),
        ("text_encoder", CLIPTextModel),
        ("vae", AutoencoderKL),
        ("unet", UNet2DConditionModel),
        ("scheduler", DDPMScheduler),
    ):
        options: dict[str, Any] = {"local_files_only": True}
        if name in ("text_encoder", "vae", "unet"):
            options["torch_dtype"] = torch.float32 if name == "vae" else dtype
            options["variant"] = variants[name]
        try:
            loaded[name] = kind.from_pretrained(str(path / name), **options)
        except Exception as error:  # the libraries raise many types here; the folder is what the user can change
            if isinstance(error, (MemoryError, NotImplementedError)):
                raise
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"base: cannot load {path / name}: {reason}") from error
        if hasattr(loaded[name], "requires_grad_"):
            loaded[name].requires_grad_(False).to(device)
    return Base(path, loaded["tokenizer"], loaded["text_encoder"], loaded["vae"], loaded["unet"], loaded["scheduler"])
