"""Recipes: the complete, validated description of one training run.

A recipe is a YAML file whose keys are the fields of a settings class; the command line overrides single fields. Its key
`stage` says which class: `lora` (the default) is `Recipe` here, the stages that train a model from scratch are in
`pretrain_recipe.py`. `schema.py` does the checking, reading and writing.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional

from jdiff_style import schema
from jdiff_style.errors import UserError
from jdiff_style.pretrain_recipe import KINDS
from jdiff_style.prompts import check_template
from jdiff_style.schema import MAIN, field, to_yaml

LORA, HYPER, DATA, SPEED, OUTPUT = "LoRA", "hyperparameters", "data", "performance", "output"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a run. Frozen: use `dataclasses.replace` and validate again."""

    stage: str = field("lora", MAIN, "what is trained; other stages train a model from scratch", "STAGE", choices=("lora",))
    pack: Optional[str] = field(None, MAIN, "style pack to train on", "FOLDER", path=True)
    base: str = field(
        "tiny",
        MAIN,
        "base model in diffusers layout; 'tiny' makes a small random-weight one inside `out`",
        "FOLDER",
        path=True,
        path_words=("tiny",),
    )
    out: str = field("outputs", MAIN, "folder that receives the numbered run folder", "FOLDER")
    seed: int = field(0, MAIN, "every random draw follows from it", "INT", low=0, high=2**31 - 1)
    strict: bool = field(False, MAIN, "refuse a pack with an unreadable image instead of skipping the image")

    rank_per_style: int = field(
        32,
        LORA,
        "rank given to each style; the packed rank is this times the styles",
        "RANK",
        low=1,
        high=4096,
        way_out="use 32 as in the published run: 28 styles at 32 each make a packed rank of 896",
    )
    lora_targets: str = field(
        "attention",
        LORA,
        "layers of the UNet with a LoRA: those of its attention, or its convolutions too, where levels without attention "
        "have to learn",
        "LAYERS",
        choices=("attention", "attention+convolutions"),
    )
    lora_dropout: float = field(
        0.1, LORA, "dropout on the LoRA path; 0 for runs compared between backends", "PROBABILITY", low=0.0, high=0.99
    )
    train_text_encoder: bool = field(True, LORA, "give the text encoder LoRA layers too; off keeps it frozen")
    lora_plus_gamma: float = field(
        1.0,
        LORA,
        "rate of lora_B is that of lora_A times max(1, gamma*sqrt(in/rank)), `in` "
        "being the layer's input width; 0 turns it off",
        "GAMMA",
        low=0.0,
        high=1e4,
    )
    decoder_rank_per_style: int = field(
        0, LORA, "rank of each style's own LoRA of the VAE's decoder, which learns surfaces that it never met, such as "
        "brush strokes; 0 leaves it as it is", "RANK", low=0, high=1024,
    )  # fmt: skip
    decoder_rate: float = field(
        1.0, LORA, "rate of the decoder's LoRA, as a share of learning_rate", "FACTOR", low=0.0, high=1e3
    )
    decoder_noise: float = field(
        0.4, LORA, "noise on the latents that this decoder learns from, of 0 to so many of their standard deviations: what "
        "is generated is never quite a true latent", "DEVIATIONS", low=0.0, high=10.0,
    )  # fmt: skip
    decoder_softness: float = field(
        0.0, LORA, "the latents that this decoder learns from are mixed with the mean of their neighbours, 0 to this share "
        "of it: what is generated is softer than a true latent, and the picture is not to be", "SHARE", low=0.0, high=1.0,
    )  # fmt: skip
    decoder_batch: int = field(
        0, LORA, "images of each batch that this decoder learns from, as its steps take longer than the UNet's; 0 is all",
        "IMAGES", low=0, high=1024,
    )  # fmt: skip
    texture_weight: float = field(
        1.0, LORA, "weight of the distance between all patches of a picture and of the true one, wherever they lie, in the "
        "decoder's loss", "FACTOR", low=0.0, high=1e3,
    )  # fmt: skip
    dora: bool = field(False, LORA, "weight-decomposed LoRA (DoRA); slower, and only our own loader reads the result")
    init_lora: Optional[str] = field(
        None, LORA, "start from this LoRA; same base, same packed rank", "FILE", path=True
    )

    steps: int = field(1000, HYPER, "optimiser steps", "STEPS", low=1, high=10**8)
    batch_size: int = field(1, HYPER, "images in one forward pass", "IMAGES", low=1, high=1024)
    grad_accumulation: int = field(1, HYPER, "forward passes per optimiser step", "PASSES", low=1, high=1024)
    learning_rate: float = field(
        1e-5, HYPER, "rate of lora_A, constant after the warm-up", "RATE", above=0.0, high=1.0
    )
    warmup_steps: int = field(0, HYPER, "steps over which the rate rises linearly from 0", "STEPS", low=0, high=10**8)
    weight_decay: float = field(1e-2, HYPER, "AdamW weight decay", "FACTOR", low=0.0, high=10.0)
    max_grad_norm: float = field(
        1.0, HYPER, "gradient norm is clipped to this; 0 clips nothing", "NORM", low=0.0, high=1e6
    )
    min_snr_gamma: float = field(
        0.0, HYPER, "min-SNR loss weighting (5 is usual); 0 is the plain loss", "SNR", low=0.0, high=1e4
    )

    resolution: int = field(512, DATA, "side of the square training images, a multiple of 8", "PX", low=16, high=4096)
    crop: str = field("center", DATA, "how a resized image is cut to a square", "HOW", choices=("center", "random"))
    resize_factor: float = field(
        1.0,
        DATA,
        "images are resized to resolution times this before the crop; a random crop "
        "of a square image needs more than 1, for example 1.04",
        "FACTOR",
        low=1.0,
        high=4.0,
    )
    flip: bool = field(True, DATA, "flip half of the images, marked `horizontal_flip` in the caption")
    caption_template: Optional[str] = field(
        None,
        DATA,
        "caption from {trigger} {style} {tags} {object} instead of the "
        "shuffled tags, for example 'an image of {object} in {trigger}'",
        "TEXT",
    )
    style_captions: float = field(
        0.0, DATA, "share of captions that name the style alone; where each object occurs in one style only, its name would "
        "do for the style, and the trigger would mean nothing", "PROBABILITY", low=0.0, high=1.0,
    )  # fmt: skip
    style_template: Optional[str] = field(
        None, DATA, "the text of these from {trigger} {style}, without it trigger and style tags; for example "
        "'an image in {trigger}'", "TEXT",
    )  # fmt: skip

    draft_template: Optional[str] = field(
        None, DATA, "prompt of a draft: the base alone draws {object} in a style that it knows, and pictures are generated "
        "from that; for example 'a photo of {object}'", "TEXT",
    )  # fmt: skip
    draft_templates: Optional[Mapping[str, str]] = field(
        None, DATA, "draft prompts of styles with a certain tag instead of draft_template, where the base knows a style "
        "that is nearer to them; for example flat=a flat icon of {object}; the first tag that fits counts", "TEXTS",
    )  # fmt: skip
    drafts: float = field(
        0.0, DATA, "share of pictures learnt from noise on their object's draft instead of on themselves, where the base is "
        "too small to know the object in a new style", "PROBABILITY", low=0.0, high=1.0,
    )  # fmt: skip
    draft_timesteps: int = field(
        1000, DATA, "drafts are learnt from at timesteps below this one of 1000; more noise than they are drawn from later, "
        "draft_strength × 1000 and a little, teaches nothing about them", "TIMESTEPS", low=1, high=1000,
    )  # fmt: skip
    draft_guidance: Optional[float] = field(
        None, DATA, "guidance scale of drafts, which decide the object; without it grid_guidance", "SCALE", low=0.0,
        high=100.0,
    )  # fmt: skip
    draft_strength: float = field(
        0.5, DATA, "noise on a draft when a picture is generated: at 1 nothing is left of it, near 0 it stays", "FACTOR",
        above=0.0, high=1.0,
    )  # fmt: skip
    draft_strength_by_style: bool = field(
        False, DATA, "a style whose colours are nearer to those of its drafts than draft_strength gets only as much noise "
        "as they are away, and keeps more of the drafts' shapes",
    )  # fmt: skip

    device: str = field("auto", SPEED, "where to compute", "DEVICE", choices=("auto", "cpu", "cuda"))
    processes: int = field(
        1, SPEED, "processes that share every batch: one for each GPU of this machine, or of a CPU's cores", "COUNT",
        low=1, high=1024,
    )  # fmt: skip
    mixed_precision: str = field(
        "no",
        SPEED,
        "half precision for the frozen weights and the forward pass",
        "DTYPE",
        choices=("no", "fp16", "bf16"),
    )
    gradient_checkpointing: bool = field(
        False, SPEED, "recompute activations in the backward pass: less memory, slower"
    )
    cache_latents: bool = field(False, SPEED, "encode each image (and its flip) once; needs crop: center")

    checkpoint_every: int = field(
        500, OUTPUT, "steps between checkpoints; 0 keeps only the end", "STEPS", low=0, high=10**8
    )
    keep_checkpoints: int = field(
        2, OUTPUT, "newest checkpoints kept; 2 lets a damaged one fall back", "COUNT", low=1, high=10**4
    )
    grid_styles: int = field(4, OUTPUT, "rows of the sample grid; 0 draws none", "STYLES", low=0, high=1000)
    grid_words: int = field(3, OUTPUT, "generated pictures in a row", "WORDS", low=1, high=100)
    grid_steps: int = field(20, OUTPUT, "noise scheduler steps of a generated picture", "STEPS", low=1, high=1000)
    grid_guidance: float = field(7.5, OUTPUT, "guidance scale of the generated pictures", "SCALE", low=0.0, high=100.0)

    def check(self) -> None:
        """Raise UserError for fields that contradict each other."""
        if self.resolution % 8:
            raise UserError(
                f"resolution: {self.resolution} is not a multiple of 8; "
                f"use {self.resolution // 8 * 8} or {self.resolution // 8 * 8 + 8}"
            )
        if self.cache_latents and self.crop == "random":
            raise UserError(
                "cache_latents: true contradicts crop: random, whose pictures differ each time; "
                "use crop: center or cache_latents: false"
            )
        if self.decoder_batch and self.batch_size % self.decoder_batch:
            raise UserError(f"decoder_batch: {self.decoder_batch} does not divide batch_size {self.batch_size}")
        if self.decoder_rank_per_style and self.processes > (self.decoder_batch or self.batch_size):
            raise UserError(f"decoder_batch: {self.processes} processes need one image each; raise it or set it to 0")
        if self.caption_template is not None:
            _check_template("caption_template", self.caption_template, ("trigger", "style", "tags", "object"))
        if self.draft_template is not None:
            check_template(self.draft_template, "draft_template", ("object",))
            for tag, template in (self.draft_templates or {}).items():
                check_template(template, f"draft_templates, {tag}", ("object",))
            if int(self.grid_steps * self.draft_strength) < 1:
                raise UserError(f"draft_strength: {self.draft_strength} leaves none of {self.grid_steps} steps; raise it")
        elif self.drafts:
            raise UserError("drafts: there are none without a draft_template; give one, or set drafts to 0")
        elif self.draft_templates:
            raise UserError("draft_templates: the other styles have none; give a draft_template, too")
        elif self.draft_strength_by_style:
            raise UserError("draft_strength_by_style: there are no drafts without a draft_template; give one")
        if self.style_template is not None:
            _check_template("style_template", self.style_template, ("trigger", "style"))
            if not self.style_captions:
                raise UserError("style_template: no caption is made from it; set style_captions, the share of them, above 0")


FIELDS = schema.fields_of(Recipe)
STAGES = ("lora", *KINDS)
__all__ = ["FIELDS", "STAGES", "Recipe", "kind_of", "make_recipe", "read_recipe", "to_yaml"]


def kind_of(stage: Any) -> type:
    """The settings class of a stage; UserError for an unknown one."""
    if stage == "lora":
        return Recipe
    if stage not in STAGES:
        raise UserError(f"stage: {stage!r} is not one of {', '.join(STAGES)}")
    return KINDS[stage]


def make_recipe(values: dict[str, Any], where: str = "recipe") -> Any:
    """A validated recipe from plain values, of the class that their `stage` names; see `schema.build`."""
    return schema.build(kind_of(values.get("stage", "lora")), values, where)


def read_recipe(path: Path) -> dict[str, Any]:
    """The plain values of a recipe file; its relative paths are taken from the file's own folder.

    Raises UserError naming file and line for broken YAML or a key given twice, and for a missing file.
    """
    values = schema.read_yaml(path)
    schema.resolve_paths(kind_of(values.get("stage", "lora")), values, path.parent)
    return values


def _check_template(name: str, template: str, known: tuple[str, ...]) -> None:
    try:
        names = [field_name for _, field_name, _, _ in string.Formatter().parse(template) if field_name is not None]
    except ValueError:
        names = [""]
    if not set(names) <= set(known):
        *most, last = (f"{{{word}}}" for word in known)
        raise UserError(f"{name}: {template!r} may only use {', '.join(most)} and {last}")
