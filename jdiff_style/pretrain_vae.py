"""The `vae` stage: an AutoencoderKL that turns a picture into a small grid of latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch.nn.functional import avg_pool2d

from jdiff_style.checkpoint import sha256
from jdiff_style.errors import UserError
from jdiff_style.finished_models import load_part, model_folder
from jdiff_style.hashes import SUMS_FILE
from jdiff_style.losses import pixel_loss
from jdiff_style.pretrain_augment import alter
from jdiff_style.pretrain_data import OTHER_STYLES, evenly, read_pictures, to_pictures, to_pixels
from jdiff_style.pretrain_paintings import Paintings
from jdiff_style.pretrain_recipe import VaeRecipe
from jdiff_style.pretrain_stage import Stage, half_copy
from jdiff_style.widen import take_over

SHEET, BATCH, SCALING_IMAGES = 12, 32, 1024


class VaeStage(Stage):
    """Weighted mean absolute and squared error, plus a little Kullback-Leibler divergence (Rombach et al. 2022, 3.1).

    With `latent_noise`, half of a batch is decoded from latents with noise, whose size differs from picture to picture (as
    in Yang et al. 2025, "Latent denoising makes good visual tokenizers"): what a UNet gets slightly wrong must still be a
    clean picture. Unlike theirs, this teaches the decoder alone; the latents stay as they are.

    With `coarse_latents`, a share of the steps decodes latents of half the side, each the mean of four, to pictures of half
    the side (Kouzelis et al. 2025, "EQ-VAE", eq. 5): the latents become as smooth as pictures are.

    Both wait for `settle_steps`: with them from the beginning, pictures are without colours for more than a thousand steps.
    """

    recipe: VaeRecipe
    measurement = "latent_std"

    def __init__(self, recipe: VaeRecipe):
        super().__init__(recipe)
        levels = len(recipe.channels)
        factor = 2 ** (levels - 1)
        if self.data.side % factor:
            raise UserError(f"channels: {levels} levels need a side that {factor} divides, not {self.data.side}")
        if recipe.coarse_latents and self.data.side // factor % 2:
            raise UserError(f"coarse_latents: the side of the latents, {self.data.side // factor}, is odd; set it to 0")
        self.vae = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=recipe.latent_channels,
            sample_size=self.data.side,
            block_out_channels=recipe.channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=recipe.layers,
            norm_num_groups=recipe.norm_groups,
        ).to(self.device)
        self.parts = {"vae": self.vae}
        self.paintings = Paintings(self.data) if recipe.paintings else None
        if recipe.base:
            self.before = model_folder(recipe.base, "base")
            self.start = load_part(recipe.base, "base", AutoencoderKL).to(self.device).requires_grad_(False).eval()
            take_over(self.vae, self.start.state_dict(), "base: it")
        self.others = read_pictures(Path(recipe.measure), *OTHER_STYLES, "measure") if recipe.measure else None
        if self.others is not None and self.others[0].shape[1] != self.data.side:
            raise UserError(f"measure: its pictures are {self.others[0].shape[1]} px wide, those of data {self.data.side}")

    def inputs(self) -> dict[str, str]:
        """Fingerprints of the data, of the paintings and of the autoencoder that it goes on from."""
        base = {"base": sha256(self.before / SUMS_FILE)} if self.before is not None else {}
        paintings = {"paintings": self.paintings.fingerprint()} if self.paintings is not None else {}
        return {**super().inputs(), **base, **paintings}

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The scalar to minimise at `step` (from 0), and its terms."""
        recipe = self.recipe
        numbers, draws = self.data.numbers(step, recipe.batch_size)
        chosen = self.data.images[numbers]
        if self.paintings is not None:
            for place, draw in enumerate(draws):
                if draw.random() < recipe.paintings:
                    chosen[place] = self.paintings.images[int(draw.integers(len(self.paintings.images)))]
        if recipe.flip:
            turned = np.array([draw.random() < 0.5 for draw in draws])
            chosen[turned] = chosen[turned, :, ::-1]
        if recipe.alter:
            for place, draw in enumerate(draws):
                if draw.random() < recipe.alter:
                    chosen[place] = alter(chosen[place], draw)
        pictures = torch.from_numpy(to_pixels(chosen)).to(self.device)
        seen = pictures  # noisy and coarse latents are decoded in another order, or to half the side
        with self.autocast():
            mean, log_variance = self.vae.encode(pictures).latent_dist.parameters.chunk(2, dim=1)
            mean, log_variance = mean.to(torch.float32), log_variance.to(torch.float32).clamp(-30.0, 20.0)
            generator = self.generator(step)
            noise = torch.randn(mean.shape, generator=generator).to(self.device)
            latents = mean + torch.exp(0.5 * log_variance) * noise
            settled = step >= recipe.settle_steps
            if recipe.latent_noise and settled:
                noisy = disturbed(latents[0::2].detach(), recipe.latent_noise, generator)
                latents = torch.cat([noisy, latents[1::2]])
                pictures = torch.cat([pictures[0::2], pictures[1::2]])
            if recipe.coarse_latents and settled and float(torch.rand((), generator=generator)) < recipe.coarse_latents:
                latents, pictures = avg_pool2d(latents, 2), avg_pool2d(pictures, 2)
            decoded = self.vae.decode(latents).sample
        loss, terms = pixel_loss(decoded, pictures, recipe.pixel_weights, generator)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).mean()
        terms["kl"] = divergence
        if recipe.keep_latents:
            terms["kept"] = self.moved(seen, mean)
            loss = loss + recipe.keep_latents * terms["kept"]
        return loss + recipe.kl_weight * divergence, terms

    def moved(self, pictures: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """How far the first latents are from those that the autoencoder before had for these pictures: mean square."""
        with torch.no_grad(), self.autocast():
            before = self.start.encode(pictures).latent_dist.mean.to(torch.float32)
        return ((mean[:, : before.shape[1]] - before) ** 2).mean()

    def validate(self) -> dict[str, float]:
        """`psnr` of held-out and `psnr_train` of training pictures: see `psnr`; plus the spread of the latents.

        With `measure`, also `psnr_STYLE` of each style there, of `validate_images` pictures in all.
        """
        values = {}
        for name, held_out in (("psnr", True), ("psnr_train", False)):
            numbers = self.data.validation(self.recipe.validate_images, held_out)
            if len(numbers):
                values[name] = self.mean_psnr(self.data.images[n] for n in numbers)
        if self.others is not None:
            images, items = self.others
            styles = list(dict.fromkeys(item.style for item in items))
            count = max(1, self.recipe.validate_images // len(styles))
            for style in styles:
                numbers = np.flatnonzero([item.style == style for item in items])
                chosen = numbers[evenly(len(numbers), count)]
                values[f"psnr_{style}"] = self.mean_psnr(images[n] for n in chosen)
        values["latent_std"] = self.latent_std(min(SCALING_IMAGES, self.recipe.validate_images))
        return values

    def mean_psnr(self, pictures: Iterable[np.ndarray]) -> float:
        """The mean `psnr` of the reconstructions of uint8 pictures."""
        return float(np.mean([psnr(picture, self.reconstruct(picture)) for picture in pictures]))

    def reconstruct(self, picture: np.ndarray) -> np.ndarray:
        """A picture encoded to its mean latent and decoded, both uint8 side × side × 3."""
        pictures = torch.from_numpy(to_pixels(picture[None])).to(self.device)
        decoded = self.vae.decode(self.vae.encode(pictures).latent_dist.mean).sample
        made: np.ndarray = to_pictures(decoded.to(torch.float32).cpu().numpy())[0]
        return made

    def latent_std(self, count: int) -> float:
        """Standard deviation of all latents of `count` training pictures; its inverse is the scaling factor."""
        total, squares, elements = 0.0, 0.0, 0
        numbers = self.data.validation(count, held_out=False)
        for first in range(0, len(numbers), BATCH):
            pictures = torch.from_numpy(self.data.pixels(numbers[first : first + BATCH])).to(self.device)
            latents = self.vae.encode(pictures).latent_dist.mean.cpu().numpy().astype(np.float64)
            total, squares, elements = total + latents.sum(), squares + (latents**2).sum(), elements + latents.size
        return float(np.sqrt(max(squares / elements - (total / elements) ** 2, 1e-12)))

    def sample(self) -> Image.Image:
        """Held-out pictures (training ones if there are none) above their reconstructions."""
        numbers = self.data.validation(SHEET, held_out=bool(len(self.data.held_out)))
        true = [self.data.images[n] for n in numbers]
        if self.others is not None:  # one of each style besides
            images, items = self.others
            first = {item.style: number for number, item in reversed(list(enumerate(items)))}
            true += [images[number] for _, number in sorted(first.items())]
        rows = [true, [self.reconstruct(picture) for picture in true]]
        return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0))

    def export(self, folder: Path) -> None:
        """AutoencoderKL in diffusers layout, float16, with the scaling factor that gives latents unit variance; if it went
        on from another, with that one's, as the first latents are the same.
        """
        if self.before is None:
            factor = round(1.0 / self.latent_std(SCALING_IMAGES), 5)
        else:
            factor = self.start.config.scaling_factor
        self.vae.register_to_config(scaling_factor=factor)
        half_copy(self.vae).save_pretrained(str(folder))


def disturbed(latents: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    """The latents, batch × c × h × w, each with noise of 0 to `most` times the standard deviation of them all."""
    amounts = most * torch.rand((len(latents), 1, 1, 1), generator=generator)
    noise = amounts * torch.randn(latents.shape, generator=generator)
    return latents + latents.std() * noise.to(latents.device)


def psnr(true: np.ndarray, found: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 pictures, peak 255; an equal picture counts as an error of 1/4 level.
    """
    error = np.mean((true.astype(np.float64) - found.astype(np.float64)) ** 2)
    return float(10.0 * np.log10(255.0**2 / max(error, 0.25**2)))
