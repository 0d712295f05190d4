"""What the decoder's LoRA learns from, beside the packed LoRA of UNet and text encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import avg_pool2d

from jdiff_style.dataset import Batch
from jdiff_style.losses import pixel_loss
from jdiff_style.packs import Pack
from jdiff_style.recipe import Recipe
from jdiff_style.style_decoder import StyleMask


class DecoderLoss:
    """The decoder's part of a step's loss: the pictures of a batch, or of some of them, from their latents.

    Latents hold where brush strokes or pixel blocks are, but a decoder that never met any makes something smooth of them,
    and nothing that the UNet learns can bring them back. So the decoder learns them; the latents stay as they are.
    Stability AI's `sd-vae-ft-mse` is a decoder trained alone, too. Each picture sees its own style's LoRA. What a UNet draws
    is no true latent: it errs, and where it is not sure it draws a mean, which is soft. Hence noise and softness.
    """

    def __init__(self, recipe: Recipe, pack: Pack, vae: Any, device: torch.device):
        """`vae` is an AutoencoderKL whose decoder has a packed LoRA of the pack's styles."""
        self.recipe, self.vae, self.device = recipe, vae, device
        self.mask = StyleMask(vae.decoder, len(pack.styles))
        self.style_numbers = [number for number, style in enumerate(pack.styles) for _ in style.images]

    def __call__(self, batch: Batch, latents: torch.Tensor, generator: torch.Generator, share: slice) -> torch.Tensor:
        """The part of this `share` of a batch; a scalar. `latents` are as the UNet takes them, batch × c × h × w."""
        recipe, vae = self.recipe, self.vae
        count = recipe.decoder_batch or recipe.batch_size
        # Evenly from the whole batch, so that each process has its share of them.
        chosen = [place for place in range(recipe.batch_size)[share] if place % (recipe.batch_size // count) == 0]
        rows = torch.tensor(chosen) - (share.start or 0)
        if recipe.decoder_softness:
            soft = avg_pool2d(latents, 3, stride=1, padding=1, count_include_pad=False)
            latents = latents + self._amounts(recipe.decoder_softness, generator, share) * (soft - latents)
        noise = torch.randn((recipe.batch_size, *latents.shape[1:]), generator=generator)
        # Scaled latents have a deviation of about 1.
        noisy = latents + self._amounts(recipe.decoder_noise, generator, share) * noise[share].to(self.device)
        self.mask.styles = [self.style_numbers[batch.keys[int(row)][0]] for row in rows]
        decoded = vae.decode(noisy[rows.to(self.device)] / vae.config.scaling_factor).sample
        weights = {"l1": 1.0, "l2": 1.0, "texture": recipe.texture_weight}
        loss = pixel_loss(decoded, batch.pixels[rows].to(self.device), weights, generator)[0]
        return loss * (len(chosen) / (count * recipe.grad_accumulation))

    def _amounts(self, most: float, generator: torch.Generator, share: slice) -> torch.Tensor:
        """0 to `most` for each picture of a share of the batch, batch × 1 × 1 × 1."""
        return most * torch.rand((self.recipe.batch_size, 1, 1, 1), generator=generator)[share].to(self.device)
