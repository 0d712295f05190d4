"""The sample sheet of a model that draws: a row for each style, columns of words."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image, ImageDraw

from jdiff_style.dataset import derive_seed
from jdiff_style.pretrain_data import PretrainData, plain_caption
from jdiff_style.pretrain_recipe import SheetRecipe

SAMPLE_STREAM = 200
LABEL = 12


def sample_sheet(pipeline: Any, data: PretrainData, recipe: SheetRecipe) -> Image.Image:
    """A row for each style; columns: words of the training split, then held-out ones (if there are any)."""
    words: list[str] = []
    for held_out in (False, True):
        count = recipe.sample_words // 2 if held_out else recipe.sample_words - recipe.sample_words // 2
        names = list(dict.fromkeys(data.items[n].object for n in data.validation(len(data.items), held_out)))
        words += [names[place * len(names) // count] for place in range(count)] if names else []
    pipeline.set_progress_bar_config(disable=True)
    sheet = Image.new("RGB", (len(words) * data.side, len(data.styles) * (data.side + LABEL)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, style in enumerate(data.styles):
        seeds = [derive_seed(recipe.seed, SAMPLE_STREAM, row, column) for column in range(len(words))]
        pictures = pipeline(
            [plain_caption(style, word) for word in words],
            num_inference_steps=recipe.sample_steps,
            guidance_scale=recipe.sample_guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images
        for column, picture in enumerate(pictures):
            place = (column * data.side, row * (data.side + LABEL))
            sheet.paste(picture, place)
            label = f"{style}: {words[column]}".encode("latin-1", "replace").decode("latin-1")
            pen.text((place[0], place[1] + data.side), label, fill="black")
    return sheet
