"""The `decoder` stage: the decoder of a finished base learns to make clean pictures of what the base's UNet draws."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from jdiff_style.checkpoint import sha256
from jdiff_style.dataset import derive_seed
from jdiff_style.finished_models import load_part, model_folder
from jdiff_style.hashes import SUMS_FILE
from jdiff_style.kept_array import kept_array
from jdiff_style.losses import pixel_loss
from jdiff_style.pretrain_appearance import Appearance, change, draw_appearance, make_caption
from jdiff_style.pretrain_augment import alter
from jdiff_style.pretrain_base import WORDS_FILE, make_pipeline
from jdiff_style.pretrain_data import evenly, plain_caption, to_pictures, to_pixels
from jdiff_style.pretrain_recipe import DecoderRecipe
from jdiff_style.pretrain_stage import Stage, half_copy
from jdiff_style.pretrain_vae import disturbed, psnr
from jdiff_style.progress import Progress
from jdiff_style.sample_sheet import sample_sheet

DRAWN_FILE = "drawn.npy"
BATCH, DRAW_STREAM, APPEARANCE_STREAM = 32, 202, 204


class DecoderStage(Stage):
    """The pixel loss of the `vae` stage on two kinds of latents: those that the base draws from a training caption, against
    the true picture of that caption, and those of true pictures, so that the decoder stays the inverse of the encoder.

    A UNet leaves fine detail out and errs in ways that are its own. Stability AI's `sd-vae-ft-mse` is a decoder fine-tuned
    apart from its encoder, too, there on true pictures only. Encoder, UNet and
    text tower stay as they are, so the base's latents mean what they meant.
    """

    recipe: DecoderRecipe
    before: Path
    measurement = "psnr_drawn"

    def __init__(self, recipe: DecoderRecipe):
        super().__init__(recipe)
        self.pipe = load_part(recipe.base, "base", StableDiffusionPipeline).to(self.device)
        self.pipe.set_progress_bar_config(disable=True)
        self.vae = self.pipe.vae
        for module in (self.vae, self.pipe.unet, self.pipe.text_encoder):
            module.requires_grad_(False).eval()
        self.before = model_folder(recipe.base, "base")
        self.data.keep(self.before / WORDS_FILE)
        self.parts = {"decoder": self.vae.decoder, "post_quant_conv": self.vae.post_quant_conv}
        for module in self.parts.values():
            module.requires_grad_(True)
        self.drawn = np.empty(0, dtype=np.float32)
        self.place = {int(number): place for place, number in enumerate(self.data.train)}
        self.shown = self.data.counterparts(recipe.appearance_style) if recipe.appearances else {}

    def inputs(self) -> dict[str, str]:
        """Fingerprints of the data and of the base."""
        return {**super().inputs(), "base": sha256(self.before / SUMS_FILE)}

    def prepare(self, run: Path) -> None:
        """Draw every training caption `draws` times, and once more for measuring. float32 draws × N × c × h × w."""
        self.drawn = kept_array(run / DRAWN_FILE, self.draw_all)

    def draw_all(self) -> np.ndarray:
        """The latents that the UNet draws, as the decoder takes them."""
        recipe, items = self.recipe, [self.data.items[number] for number in self.data.train]
        progress = Progress("drawing", (recipe.draws + 1) * len(items))
        drawn = []
        for draw in range(recipe.draws + 1):
            for first in range(0, len(items), BATCH):
                part = items[first : first + BATCH]
                seeds = [derive_seed(recipe.seed, DRAW_STREAM, draw, first + place) for place in range(len(part))]
                captions = [self.caption(draw, int(number)) for number in self.data.train[first : first + BATCH]]
                with torch.no_grad(), self.autocast():
                    latents = self.pipe(
                        captions,
                        num_inference_steps=recipe.draw_steps,
                        guidance_scale=recipe.draw_guidance,
                        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                        output_type="latent",
                    ).images
                drawn.append((latents.to(torch.float32) / self.vae.config.scaling_factor).cpu().numpy())
                progress.update(draw * len(items) + first + len(part))
        progress.close()
        latents = np.concatenate(drawn)
        return latents.reshape(recipe.draws + 1, len(items), *latents.shape[1:])

    def appearance(self, draw: int, number: int) -> tuple[Appearance | None, np.random.Generator]:
        """That of the picture which is drawn; None for a share of them, and for all that are for measuring. And what its
        caption's other choices come from.
        """
        rng = np.random.default_rng(derive_seed(self.recipe.seed, APPEARANCE_STREAM, draw, number))
        plain = draw == self.recipe.draws or rng.random() >= self.recipe.appearances
        return None if plain else draw_appearance(rng), rng

    def caption(self, draw: int, number: int) -> str:
        """What the UNet is asked for."""
        item, (appearance, rng) = self.data.items[number], self.appearance(draw, number)
        if appearance is None:
            return plain_caption(item.style, item.object)
        return make_caption(appearance.words, item.object, rng)

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The scalar to minimise at `step` (from 0), and its terms."""
        recipe = self.recipe
        numbers, draws = self.data.numbers(step, recipe.batch_size)
        chosen = self.data.images[numbers]
        count = round(recipe.drawn * len(numbers))
        drawn = []
        for place, (number, draw) in enumerate(zip(numbers, draws)):
            if place < count:
                copy = int(draw.integers(recipe.draws))
                drawn.append(self.drawn[copy, self.place[int(number)]])
                appearance, _ = self.appearance(copy, int(number))
                if appearance is not None:
                    chosen[place] = change(self.data.images[self.shown[int(number)]], appearance)
            elif recipe.alter and draw.random() < recipe.alter:
                chosen[place] = alter(chosen[place], draw)
        pictures, generator = torch.from_numpy(to_pixels(chosen)).to(self.device), self.generator(step)
        with self.autocast():
            parts = [torch.from_numpy(np.stack(drawn)).to(self.device)] if drawn else []
            if count < len(numbers):
                with torch.no_grad():
                    latents = self.vae.encode(pictures[count:]).latent_dist.mean.to(torch.float32)
                if recipe.latent_noise:
                    latents = disturbed(latents, recipe.latent_noise, generator)
                parts.append(latents)
            decoded = self.vae.decode(torch.cat(parts)).sample
        return pixel_loss(decoded, pictures, recipe.pixel_weights, generator)

    def validate(self) -> dict[str, float]:
        """`psnr_drawn`: training captions, drawn once more than they were learnt from, against their true pictures; `psnr`:
        reconstruction of held-out pictures. Mean dB.
        """
        places = evenly(len(self.data.train), self.recipe.validate_images)
        values = {"psnr_drawn": self.mean_psnr(self.data.train[places], self.drawn[-1, places])}
        numbers = self.data.validation(self.recipe.validate_images, held_out=True)
        if len(numbers):
            encoded = []
            for first in range(0, len(numbers), BATCH):
                pictures = torch.from_numpy(self.data.pixels(numbers[first : first + BATCH])).to(self.device)
                encoded.append(self.vae.encode(pictures).latent_dist.mean.cpu().numpy())
            values["psnr"] = self.mean_psnr(numbers, np.concatenate(encoded))
        return values

    def mean_psnr(self, numbers: np.ndarray, latents: np.ndarray) -> float:
        """The mean `psnr` of the decoded latents to the pictures of these numbers."""
        found = []
        for first in range(0, len(numbers), BATCH):
            decoded = self.vae.decode(torch.from_numpy(latents[first : first + BATCH]).to(self.device)).sample
            made = to_pictures(decoded.cpu().numpy())
            found += [psnr(self.data.images[number], picture) for number, picture in zip(numbers[first:], made)]
        return float(np.mean(found))

    def sample(self) -> Image.Image:
        """The base's sheet with the present decoder."""
        return sample_sheet(self.pipe, self.data, self.recipe)

    def export(self, folder: Path) -> None:
        """The whole Stable Diffusion, float16, with the words that it knows and what its card says of its training."""
        vae, text_encoder, unet = (half_copy(part) for part in (self.vae, self.pipe.text_encoder, self.pipe.unet))
        pipeline = make_pipeline(vae, text_encoder, self.pipe.tokenizer, unet, self.pipe.scheduler.config)
        pipeline.save_pretrained(str(folder))
        shutil.copyfile(self.before / WORDS_FILE, folder / WORDS_FILE)
