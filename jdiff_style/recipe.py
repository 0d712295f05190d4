"""Recipes: the complete, validated description of one training run.

A recipe is a YAML file whose keys are the fields of `Recipe`; the command line overrides single fields. `FIELDS`
carries, for each field, its meaning, unit and range, and is the only place where they are written: the command line's
help, the checks and the comments in a printed recipe all come from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union, get_args, get_origin, get_type_hints

from jdiff_style.errors import UserError


def _field(
    default: Any,
    group: str,
    doc: str,
    unit: str = "",
    low: Any = None,
    high: Any = None,
    choices: tuple = (),
    above: Any = None,
    way_out: str = "",
    path: bool = False,
) -> Any:
    """A dataclass field with its documentation. `low`/`high` are inclusive, `above` is an exclusive lower bound."""
    meta = {
        "group": group,
        "doc": doc,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "above": above,
        "way_out": way_out,
        "path": path,
    }
    return dataclasses.field(default=default, metadata=meta)


MAIN, LORA, HYPER, DATA, SPEED, OUTPUT = "main", "LoRA", "hyperparameters", "data", "performance", "output"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a run. Frozen: use `dataclasses.replace` and validate again."""

    pack: Optional[str] = _field(None, MAIN, "style pack to train on", "FOLDER", path=True)
    base: str = _field(
        "tiny",
        MAIN,
        "base model in diffusers layout; 'tiny' makes a small random-weight one inside `out`",
        "FOLDER",
        path=True,
    )
    out: str = _field("outputs", MAIN, "folder that receives the numbered run folder", "FOLDER")
    seed: int = _field(0, MAIN, "every random draw follows from it", "INT", low=0, high=2**31 - 1)
    strict: bool = _field(False, MAIN, "refuse a pack with an unreadable image instead of skipping the image")

    rank_per_style: int = _field(
        32,
        LORA,
        "rank given to each style; the packed rank is this times the styles",
        "RANK",
        low=1,
        high=4096,
        way_out="use 32 as in the published run: 28 styles at 32 each make a packed rank of 896",
    )
    lora_dropout: float = _field(
        0.1, LORA, "dropout on the LoRA path; 0 for runs compared between backends", "PROBABILITY", low=0.0, high=0.99
    )
    train_text_encoder: bool = _field(True, LORA, "give the text encoder LoRA layers too; off keeps it frozen")
    lora_plus_gamma: float = _field(
        1.0,
        LORA,
        "rate of lora_B is that of lora_A times max(1, gamma*sqrt(in/rank)), `in` "
        "being the layer's input width; 0 turns it off",
        "GAMMA",
        low=0.0,
        high=1e4,
    )
    dora: bool = _field(False, LORA, "weight-decomposed LoRA (DoRA); slower, and only our own loader reads the result")
    init_lora: Optional[str] = _field(
        None, LORA, "start from this LoRA; same base, same packed rank", "FILE", path=True
    )

    steps: int = _field(1000, HYPER, "optimiser steps", "STEPS", low=1, high=10**8)
    batch_size: int = _field(1, HYPER, "images in one forward pass", "IMAGES", low=1, high=1024)
    grad_accumulation: int = _field(1, HYPER, "forward passes per optimiser step", "PASSES", low=1, high=1024)
    learning_rate: float = _field(
        1e-5, HYPER, "rate of lora_A, constant after the warm-up", "RATE", above=0.0, high=1.0
    )
    warmup_steps: int = _field(0, HYPER, "steps over which the rate rises linearly from 0", "STEPS", low=0, high=10**8)
    weight_decay: float = _field(1e-2, HYPER, "AdamW weight decay", "FACTOR", low=0.0, high=10.0)
    max_grad_norm: float = _field(
        1.0, HYPER, "gradient norm is clipped to this; 0 clips nothing", "NORM", low=0.0, high=1e6
    )
    min_snr_gamma: float = _field(
        0.0, HYPER, "min-SNR loss weighting (5 is usual); 0 is the plain loss", "SNR", low=0.0, high=1e4
    )

    resolution: int = _field(512, DATA, "side of the square training images, a multiple of 8", "PX", low=16, high=4096)
    crop: str = _field("center", DATA, "how a resized image is cut to a square", "HOW", choices=("center", "random"))
    resize_factor: float = _field(
        1.0,
        DATA,
        "images are resized to resolution times this before the crop; a random crop "
        "of a square image needs more than 1, for example 1.04",
        "FACTOR",
        low=1.0,
        high=4.0,
    )
    flip: bool = _field(True, DATA, "flip half of the images, marked `horizontal_flip` in the caption")
    caption_template: Optional[str] = _field(
        None,
        DATA,
        "caption from {trigger} {style} {tags} {object} instead of the "
        "shuffled tags, for example 'an image of {object} in {trigger}'",
        "TEXT",
    )

    device: str = _field("auto", SPEED, "where to compute", "DEVICE", choices=("auto", "cpu", "cuda"))
    mixed_precision: str = _field(
        "no",
        SPEED,
        "half precision for the frozen weights and the forward pass",
        "DTYPE",
        choices=("no", "fp16", "bf16"),
    )
    gradient_checkpointing: bool = _field(
        False, SPEED, "recompute activations in the backward pass: less memory, slower"
    )
    cache_latents: bool = _field(False, SPEED, "encode each image (and its flip) once; needs crop: center")

    checkpoint_every: int = _field(
        500, OUTPUT, "steps between checkpoints; 0 keeps only the end", "STEPS", low=0, high=10**8
    )
    keep_checkpoints: int = _field(
        2, OUTPUT, "newest checkpoints kept; 2 lets a damaged one fall back", "COUNT", low=1, high=10**4
    )
    grid_styles: int = _field(4, OUTPUT, "rows of the sample grid; 0 draws none", "STYLES", low=0, high=1000)
    grid_words: int = _field(3, OUTPUT, "generated pictures in a row", "WORDS", low=1, high=100)
    grid_steps: int = _field(20, OUTPUT, "noise scheduler steps of a generated picture", "STEPS", low=1, high=1000)
    grid_guidance: float = _field(7.5, OUTPUT, "guidance scale of the generated pictures", "SCALE", low=0.0, high=100.0)


FIELDS: dict[str, dataclasses.Field] = {f.name: f for f in dataclasses.fields(Recipe)}
TYPES: dict[str, Any] = get_type_hints(Recipe)


def value_type(name: str) -> tuple[type, bool]:
    """(bool, int, float or str, whether None is allowed) for the field `name`."""
    hint = TYPES[name]
    if get_origin(hint) is Union:
        return next(a for a in get_args(hint) if a is not type(None)), True
    return hint, False


def _coerce(name: str, value: Any) -> Any:
    """`value` as the field's type, or UserError. Text such as `1e-5`, which YAML reads as a string, becomes a number.
    """
    kind, optional = value_type(name)
    if value is None:
        if optional:
            return None
        raise UserError(f"{name}: a value is missing; {_expects(name)}")
    bad = UserError(f"{name}: {value!r} is not {_KIND_NAMES[kind]}; {_expects(name)}")
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise bad
    if kind is str:
        if isinstance(value, str) and value.strip():
            return value
        raise bad
    if isinstance(value, bool):
        raise bad
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except ValueError:
        raise bad from None
    if not math.isfinite(number):
        raise bad
    if kind is float:
        return number
    if number != int(number):
        raise bad
    return value if isinstance(value, int) else int(number)


_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def value_range(name: str) -> str:
    """The allowed values of a field in words, e.g. `1 to 4096`; empty where anything of the type will do."""
    meta = FIELDS[name].metadata
    if meta["choices"]:
        return ", ".join(meta["choices"])
    if meta["above"] is not None:
        return f"above {meta['above']:g}, up to {meta['high']:g}"
    if meta["low"] is not None:
        return (
            f"{meta['low']:g} to {meta['high']:g}"
            if isinstance(meta["high"], float)
            else f"{meta['low']} to {meta['high']}"
        )
    return ""


def _expects(name: str) -> str:
    meta = FIELDS[name].metadata
    if meta["way_out"]:
        return meta["way_out"]
    span = value_range(name)
    return f"expected {_KIND_NAMES[value_type(name)[0]]}" + (f" ({span})" if span else "")


def _check_range(name: str, value: Any) -> None:
    meta = FIELDS[name].metadata
    if value is None:
        return
    if meta["choices"] and value not in meta["choices"]:
        near = difflib.get_close_matches(str(value), meta["choices"], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{name}: {value!r} is not one of {', '.join(meta['choices'])}{hint}")
    if meta["low"] is not None and value < meta["low"]:
        problem = "is not positive" if meta["low"] == 1 else f"is below {meta['low']:g}"
        raise UserError(f"{name}: {value} {problem}; {_expects(name)}")
    if meta["above"] is not None and value <= meta["above"]:
        raise UserError(f"{name}: {value} is not positive; {_expects(name)}")
    if meta["high"] is not None and value > meta["high"]:
        raise UserError(f"{name}: {value} is above {meta['high']}; {_expects(name)}")


def make_recipe(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """A validated Recipe from plain values; fields not in `values` keep their defaults.

    Raises UserError for an unknown key (with the nearest known one), a wrong type, a value out of range or fields that
    contradict each other. `where` names the source in the message.
    """
    clean = {}
    for key, value in values.items():
        if key not in FIELDS:
            near = [n for n in FIELDS if n.startswith(str(key))] or difflib.get_close_matches(str(key), FIELDS, 1)
            hint = f"; did you mean '{near[0]}'?" if near else "; `jdiff train --help` lists the fields"
            raise UserError(f"{where}: unknown key '{key}'{hint}")
        clean[key] = _coerce(key, value)
        _check_range(key, clean[key])
    recipe = Recipe(**clean)
    if recipe.resolution % 8:
        raise UserError(
            f"resolution: {recipe.resolution} is not a multiple of 8; "
            f"use {recipe.resolution // 8 * 8} or {recipe.resolution // 8 * 8 + 8}"
        )
    if recipe.cache_latents and recipe.crop == "random":
        raise UserError(
            "cache_latents: true contradicts crop: random, whose pictures differ each time; "
            "use crop: center or cache_latents: false"
        )
    if recipe.caption_template is not None:
        _check_template(recipe.caption_template)
    return recipe


def _check_template(template: str) -> None:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError:
        names = [""]
    if not set(names) <= {"trigger", "style", "tags", "object"}:
        raise UserError(f"caption_template: {template!r} may only use {{trigger}}, {{style}}, {{tags}} and {{object}}")


def read_recipe(path: Path) -> dict[str, Any]:
    """The plain values of a recipe file. Relative `pack`, `base` and `init_lora` are taken from the file's own folder.

    Raises UserError naming file and line for broken YAML or a key given twice, and for a missing file.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe loader that refuses a key given twice; YAML's own rule keeps the last one silently."""

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
        seen: set = set()
        for key_node, _ in node.value:
            key = loader.construct_object(key_node)
            if isinstance(key, (list, dict, set)) or key in seen:
                raise UserError(
                    f"{path}, line {key_node.start_mark.line + 1}: key '{key}' is given twice or is not a text"
                )
            seen.add(key)
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe: cannot read {path}: {_reason(error)}") from None
    try:
        values = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a list of `key: value` lines, not a {type(values).__name__}")
    for name, value in values.items():
        is_path = name in FIELDS and FIELDS[name].metadata["path"] and isinstance(value, str) and value.strip()
        if is_path and (name, value) != ("base", "tiny"):
            values[name] = str((path.parent / Path(value).expanduser()).resolve())
    return values


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def to_yaml(recipe: Recipe, comments: bool = True) -> str:
    """The recipe as YAML that `read_recipe` reads back to the same values; with `comments`, each field explained."""
    import yaml

    lines, group = [], None
    for name, field in FIELDS.items():
        meta = field.metadata
        if comments and meta["group"] != group:
            group = meta["group"]
            lines.append(f"# {group}")
        value = getattr(recipe, name)
        # Quoted, so that a text such as "no" or "1" stays a text.
        style = '"' if isinstance(value, str) else None
        text = yaml.safe_dump(value, default_style=style, allow_unicode=True, width=math.inf).removesuffix("...\n")
        line = f"{name}: {text.strip()}"
        if comments:
            span = value_range(name)
            line += f"  # {meta['doc']}" + (f" [{span}]" if span else "")
        lines.append(line)
    return "\n".join(lines) + "\n"
