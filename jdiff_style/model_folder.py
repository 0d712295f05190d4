"""Whether a folder holds a Stable Diffusion in diffusers layout: files and index only, no weights are read.

No torch here: the process that only hands out work, and `--dry-run`, ask before anything slow is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path

from jdiff_style.errors import UserError

COMPONENTS = ("tokenizer", "text_encoder", "vae", "unet", "scheduler")
_WEIGHTS = {  # how diffusers and transformers name the files
    "text_encoder": ("model", "pytorch_model"),
    "vae": ("diffusion_pytorch_model",),
    "unet": ("diffusion_pytorch_model",),
}


def check_model_folder(folder: Path, option: str) -> dict[str, str | None]:
    """Check that `folder` holds every part of a Stable Diffusion 1.x or 2.x.

    Args:
        folder: what the user gave as the base model.
        option: where it was given, for messages: `--base`, or `base` for a recipe's field.

    Returns:
        For each of :data:`COMPONENTS` the variant of its weight files: `fp16` if only that is there, otherwise None.

    Raises:
        UserError: no such folder, no readable model_index.json, another kind of pipeline, or a component that is missing
            or lacks a file; the first such thing is named.
    """
    if not folder.is_dir():
        reason = "it is a file; convert single-file checkpoints first" if folder.is_file() else "there is no such folder"
        raise UserError(f"{option}: {folder}: {reason}; give a local folder in diffusers layout, nothing is downloaded")
    index_file = folder / "model_index.json"
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
        kind = index["_class_name"]
    except FileNotFoundError:
        raise UserError(f"{option}: {folder} lacks model_index.json; give a folder in diffusers layout") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{option}: {index_file} cannot be read ({error!r}); restore it from the model's source") from None
    if kind != "StableDiffusionPipeline":
        raise UserError(f"{option}: {folder} is a {kind}; give a StableDiffusionPipeline (SD 1.x or 2.x)")
    for name in COMPONENTS:
        entry = index.get(name)
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] is None:
            raise UserError(f"{option}: {index_file} names no {name}; a Stable Diffusion has one")
    return {name: _check_component(folder / name, option) for name in COMPONENTS}


def _check_component(folder: Path, option: str) -> str | None:
    """The variant of the component's weights; UserError naming the first file that is missing."""
    advice = "from the model's source"
    if not folder.is_dir():
        raise UserError(f"{option}: {folder.parent} lacks {folder.name}; copy that folder {advice}")
    if folder.name == "tokenizer":
        vocabulary = ["tokenizer.json"] if (folder / "tokenizer.json").is_file() else ["vocab.json", "merges.txt"]
        needed = ["tokenizer_config.json", *vocabulary]
    else:
        needed = ["scheduler_config.json" if folder.name == "scheduler" else "config.json"]
    for file in needed:
        if not (folder / file).is_file():
            raise UserError(f"{option}: {folder} lacks {file}; copy it {advice}")
    if folder.name not in _WEIGHTS:
        return None
    for variant in (None, "fp16"):
        dotted = f".{variant}" if variant else ""
        endings = (
            f"{dotted}.safetensors",
            f"{dotted}.bin",
            f".safetensors.index{dotted}.json",
            f".bin.index{dotted}.json",
        )
        if any((folder / f"{stem}{ending}").is_file() for stem in _WEIGHTS[folder.name] for ending in endings):
            return variant
    raise UserError(f"{option}: {folder} holds no weights (*.safetensors or *.bin); copy them {advice}")
