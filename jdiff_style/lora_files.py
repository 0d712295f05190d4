"""Where a LoRA lies. Nothing here loads torch, so that commands which only look at files start at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Mapping, Optional

from jdiff_style import runs
from jdiff_style.errors import UserError

LORA_FILE, DECODER_FILE = "pytorch_lora_weights.safetensors", "decoder_lora.safetensors"
STRENGTHS_FILE = "draft_strengths.json"  # of a run: style's id -> strength, where they differ


def lora_file(path: Path) -> Path:
    """The file of a LoRA that is named by itself or by its folder."""
    return path / LORA_FILE if path.is_dir() else path


def decoder_file(lora: Path) -> Optional[Path]:
    """The decoder's LoRA that belongs to the LoRA file `lora`, None if it has none."""
    beside = lora.with_name(DECODER_FILE)
    return beside if beside.is_file() else None


def write_strengths(run: Path, strengths: Mapping[str, float]) -> None:
    """Keep them in the run folder, if there are any."""
    if strengths:
        runs.write_text(run / STRENGTHS_FILE, json.dumps(strengths, indent=1) + "\n")


def read_strengths(run: Path) -> dict[str, float]:
    """How much noise the drafts of each style get that has a strength of its own; empty for a run without such."""
    file = run / STRENGTHS_FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(style): float(strength) for style, strength in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError):
        raise UserError(f"--run: {file} is damaged; give --draft-strength, or train again") from None
