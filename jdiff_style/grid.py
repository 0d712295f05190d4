"""The sample grid: one row per style, its references on the left, generated pictures on the right."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

from jdiff_style.captions import object_words
from jdiff_style.dataset import derive_seed
from jdiff_style.packs import Pack, Style, open_image
from jdiff_style.progress import Progress
from jdiff_style.recipe import Recipe

REFERENCES, GAP, LABEL, MARGIN = 3, 6, 16, 8
_STREAM = 100  # apart from the training streams in dataset.py


def grid_words(style: Style, count: int) -> list[str]:
    """The first `count` prompt words of a style, or the names of its own pictures where the pack has no prompts."""
    words = list(style.prompts.values()) or [object_words(image.name) for image in style.images]
    return words[:count]


def grid_prompt(style: Style, word: str, template: str | None) -> str:
    """The prompt for `word` in `style`, built like the training captions."""
    if template is not None:
        return template.format(trigger=style.trigger, style=", ".join(style.style_tags), tags=word, object=word)
    return ", ".join([style.trigger, *style.style_tags, word])


def draw_grid(pipeline: StableDiffusionPipeline, pack: Pack, recipe: Recipe, path: Path, device: torch.device) -> None:
    """Generate the pictures and write the PNG `path` in one step. Each picture's noise has a seed of its own."""
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        part.eval()
    # After half-precision training the parts differ in type; a picture is drawn in one.
    pipeline.to(device, torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    styles = pack.styles[: recipe.grid_styles]
    rows = [(style, grid_words(style, recipe.grid_words)) for style in styles]
    columns = max(len(words) for _, words in rows)
    references = min(REFERENCES, max(len(style.images) for style in styles))
    cell = min(recipe.resolution, 256)
    shown = max(cell, 96)
    split = MARGIN + references * (shown + GAP) + 2 * GAP
    sheet = Image.new(
        "RGB", (split + columns * (shown + GAP) + MARGIN, MARGIN + len(rows) * (shown + LABEL + GAP)), "white"
    )
    pen = ImageDraw.Draw(sheet)
    progress = Progress("sample grid", sum(len(words) for _, words in rows))
    done = 0
    for row, (style, words) in enumerate(rows):
        top = MARGIN + row * (shown + LABEL + GAP)
        for column, image in enumerate(style.images[:references]):
            picture = open_image(image.path)
            side = min(picture.size)
            left, upper = (picture.width - side) // 2, (picture.height - side) // 2
            picture = picture.crop((left, upper, left + side, upper + side))
            _place(
                sheet,
                pen,
                picture,
                MARGIN + column * (shown + GAP),
                top,
                shown,
                f"{style.trigger}: {object_words(image.name)}",
            )
        for column, word in enumerate(words):
            generator = torch.Generator().manual_seed(derive_seed(recipe.seed, _STREAM, row, column))
            with torch.no_grad():
                picture = pipeline(
                    grid_prompt(style, word, recipe.caption_template),
                    height=recipe.resolution,
                    width=recipe.resolution,
                    num_inference_steps=recipe.grid_steps,
                    guidance_scale=recipe.grid_guidance,
                    generator=generator,
                ).images[0]
            _place(sheet, pen, picture, split + column * (shown + GAP), top, shown, word)
            done += 1
            progress.update(done)
    progress.close()
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        sheet.save(temporary, format="PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _place(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Image.Image, left: int, top: int, side: int, text: str
) -> None:
    picture = picture.resize(
        (side, side), Image.Resampling.LANCZOS if picture.width > side else Image.Resampling.NEAREST
    )
    sheet.paste(picture, (left, top))
    while len(text) > 1 and pen.textlength(_latin(text)) > side:
        text = text[:-1]
    pen.text((left, top + side + 2), _latin(text), fill="black")


def _latin(text: str) -> str:
    # Pillow's built-in font stops with an error outside Latin-1 when it is the bitmap one.
    return text.encode("latin-1", "replace").decode("latin-1")
