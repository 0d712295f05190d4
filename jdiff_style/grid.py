"""The sample grid: one row per style, its references on the left, generated pictures on the right, each beside its true
picture where the pack has that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import torch
from diffusers import StableDiffusionPipeline

from jdiff_style import lora
from jdiff_style.captions import object_words
from jdiff_style.dataset import derive_seed
from jdiff_style.drafts import Drafter, draft_prompt, recipe_sampling
from jdiff_style.generate import from_drafts, merge_lora
from jdiff_style.packs import Pack, Style
from jdiff_style.pictures import Row, Tile, contact_sheet, save_picture
from jdiff_style.progress import Progress
from jdiff_style.recipe import Recipe
from jdiff_style.style_decoder import StyleDecoder

REFERENCES, BATCH = 3, 4
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


def draw_grid(
    pipeline: StableDiffusionPipeline,
    pack: Pack,
    recipe: Recipe,
    path: Path,
    device: torch.device,
    strengths: Mapping[str, float],
) -> None:
    """Generate the pictures and write the PNG `path` in one step. Each picture's noise has a seed of its own.
    `strengths` are those of drafts that belong to a style.

    Where the pack has true pictures of the words (`Style.targets`), each stands to the right of the generated one. A LoRA
    is merged into the weights of `pipeline`, which therefore cannot be trained further.
    """
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        part.eval()
    # After half-precision training the parts differ in type; a picture is drawn in one.
    pipeline.to(device, torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    chosen = [(style, grid_words(style, recipe.grid_words)) for style in pack.styles[: recipe.grid_styles]]
    sampling = recipe_sampling(recipe, strengths)
    drafter = Drafter(pipeline, sampling)
    if recipe.draft_template is not None:
        with lora.switched_off(pipeline.unet, pipeline.text_encoder):
            drafter.latents([draft_prompt(recipe, style, word) for style, words in chosen for word in words])
    for part in (pipeline.unet, pipeline.text_encoder):
        merge_lora(part, 1.0)
    decoder = None
    if lora.lora_layers(pipeline.vae.decoder):
        decoder = StyleDecoder.taken_from(pipeline.vae, [style.id for style in pack.styles])
    compared = any(style.target(word) for style, words in chosen for word in words)
    progress = Progress("sample grid", sum(len(words) for _, words in chosen))
    rows, done = [], 0
    for number, (style, words) in enumerate(chosen):
        groups = [[Tile(object_words(image.name), image.path) for image in style.images[:REFERENCES]]]
        for first in range(0, len(words), BATCH):
            part = words[first : first + BATCH]
            generate: Any = pipeline
            start: dict[str, Any] = {"height": recipe.resolution, "width": recipe.resolution}
            if recipe.draft_template is not None:
                drafts = drafter.latents([draft_prompt(recipe, style, word) for word in part])
                generate, start = from_drafts(pipeline, drafts, sampling.strength(style.id))
            seeds = [derive_seed(recipe.seed, _STREAM, number, first + column) for column in range(len(part))]
            with torch.no_grad():
                pictures = generate(
                    [grid_prompt(style, word, recipe.caption_template) for word in part],
                    num_inference_steps=recipe.grid_steps,
                    guidance_scale=recipe.grid_guidance,
                    generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                    output_type="pil" if decoder is None else "latent",
                    **start,
                ).images
            if decoder is not None:
                pictures = pipeline.numpy_to_pil(decoder.pictures(pictures, [style.id] * len(part)))
            for word, picture in zip(part, pictures):
                true = [Tile(f"true: {word}", style.target(word))] if compared else []
                groups.append([Tile(word, picture), *true])
            done += len(part)
            progress.update(done)
        rows.append(Row(f"{style.trigger}: {', '.join(style.style_tags)}".strip(": "), groups))
    progress.close()
    heads = [["references"], *[["generated", "true picture"]] * max(len(words) for _, words in chosen)]
    save_picture(contact_sheet(rows, max(min(recipe.resolution, 256), 96), heads), path)
