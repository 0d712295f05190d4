"""Where a LoRA lies. Nothing here loads torch, so that commands which only look at files start at once."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

LORA_FILE, DECODER_FILE = "pytorch_lora_weights.safetensors", "decoder_lora.safetensors"


def lora_file(path: Path) -> Path:
    """The file of a LoRA that is named by itself or by its folder."""
    return path / LORA_FILE if path.is_dir() else path


def decoder_file(lora: Path) -> Optional[Path]:
    """The decoder's LoRA that belongs to the LoRA file `lora`, None if it has none."""
    beside = lora.with_name(DECODER_FILE)
    return beside if beside.is_file() else None
