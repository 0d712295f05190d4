"""diffusers' image-to-image pipeline, begun at latents of any number of channels."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionImg2ImgPipeline
from diffusers.utils.torch_utils import randn_tensor


class DraftPipeline(StableDiffusionImg2ImgPipeline):
    """Begins at `drafts`, latents as the UNet takes them, batch × c × h × w. Its call wants a picture, too, and does not
    look at it: diffusers 0.27 takes an `image` for latents only if it has four channels.
    """

    drafts: torch.Tensor

    def prepare_latents(
        self, image: Any, timestep: Any, batch_size: int, num_images_per_prompt: int, dtype: Any, device: Any,
        generator: Any = None,
    ) -> torch.Tensor:  # fmt: skip
        """The drafts, made noisy to `timestep`; the generators draw what they would draw in diffusers' own pipeline."""
        drafts = self.drafts.to(device=device, dtype=dtype)
        if len(drafts) != batch_size * num_images_per_prompt:
            raise ValueError(f"{len(drafts)} drafts for {batch_size * num_images_per_prompt} pictures")
        noise = randn_tensor(drafts.shape, generator=generator, device=device, dtype=dtype)
        noisy: torch.Tensor = self.scheduler.add_noise(drafts, noise, timestep)
        return noisy
