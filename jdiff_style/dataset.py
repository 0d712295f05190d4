"""Training samples as a pure function of (seed, sample number): resuming needs no state and no skipping ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from jdiff_style.captions import make_caption, make_style_caption
from jdiff_style.packs import ImageRecord, Pack, Style, open_image
from jdiff_style.recipe import Recipe

# Separate random streams, so that changing one draw (say, flips off) leaves the others as they are.
ORDER, PICTURE, NOISE, DROPOUT = range(4)


def derive_seed(seed: int, stream: int, *numbers: int) -> int:
    """A 32-bit seed for one stream and place; the same on every machine (numpy's SeedSequence is specified)."""
    return int(np.random.SeedSequence([seed, stream, *numbers]).generate_state(1)[0])


@dataclass
class Batch:
    """`pixels`: float32 batch × 3 × side × side in [-1, 1]; `captions`, `keys` (picture number, flipped) for each of
    them.
    """

    pixels: torch.Tensor
    captions: list[str]
    keys: list[tuple[int, bool]]


class TrainingData:
    """The pack's pictures in a fresh shuffled order each epoch, all styles in one list."""

    def __init__(self, pack: Pack, recipe: Recipe):
        self.recipe = recipe
        self.records: list[tuple[Style, ImageRecord]] = [
            (style, image) for style in pack.styles for image in style.images
        ]
        self.epoch_list = [i for i, (style, _) in enumerate(self.records) for _ in range(style.repeats)]

    def index(self, sample: int) -> int:
        """Which picture the `sample`-th draw of the run takes."""
        epoch, place = divmod(sample, len(self.epoch_list))
        order = np.random.default_rng(derive_seed(self.recipe.seed, ORDER, epoch)).permutation(len(self.epoch_list))
        return self.epoch_list[int(order[place])]

    def batch(self, step: int, micro: int, share: slice = slice(None)) -> Batch:
        """The batch of one forward pass, or a `share` of it: `step` counts optimiser steps, `micro` the passes within one,
        both from 0.
        """
        recipe = self.recipe
        first = (step * recipe.grad_accumulation + micro) * recipe.batch_size
        pixels, captions, keys = [], [], []
        for sample in range(first, first + recipe.batch_size)[share]:
            index = self.index(sample)
            style, image = self.records[index]
            rng = np.random.default_rng(derive_seed(recipe.seed, PICTURE, sample))
            flipped = bool(rng.random() < 0.5) and recipe.flip
            offsets = rng.random(2)
            caption = make_caption(style, image, flipped, rng, recipe.caption_template)
            if recipe.style_captions and rng.random() < recipe.style_captions:
                caption = make_style_caption(style, flipped, recipe.style_template)
            captions.append(caption)
            pixels.append(self.pixels(index, flipped, offsets if recipe.crop == "random" else None))
            keys.append((index, flipped))
        return Batch(torch.from_numpy(np.stack(pixels)), captions, keys)

    def pixels(self, index: int, flipped: bool, offsets: np.ndarray | None = None) -> np.ndarray:
        """Picture `index` as float32 3 × side × side in [-1, 1]: resized, cut at `offsets` (0 to 1, None: middle),
        flipped.
        """
        side = self.recipe.resolution
        image = open_image(self.records[index][1].path)
        scale = side * self.recipe.resize_factor / min(image.size)
        size = [max(side, round(length * scale)) for length in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
        share = (0.5, 0.5) if offsets is None else offsets
        left, top = (int(share[i] * (size[i] - side + (0 if offsets is None else 1))) for i in (0, 1))
        image = image.crop((left, top, left + side, top + side))
        if flipped:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        values = np.asarray(image, dtype=np.float32) / np.float32(127.5) - np.float32(1.0)
        return np.ascontiguousarray(values.transpose(2, 0, 1))
