"""generation.json: how the pictures of a folder were made, so that different settings never mix in it unnoticed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jdiff_style import runs
from jdiff_style.errors import UserError
from jdiff_style.generate import SamplingOptions
from jdiff_style.lora_files import decoder_file
from jdiff_style.prompts import Prompt, PromptOptions

RECORD_FILE = "generation.json"


def make_record(
    *,
    base: Path,
    lora: Path | None,
    pack: Path,
    dtype: str,
    sampling: SamplingOptions,
    prompting: PromptOptions,
    prompts: Sequence[Prompt],
) -> dict[str, Any]:
    """What decides the pictures, ready for JSON.

    Returns:
        ``settings`` (a fingerprint of the base, the SHA-256 of the LoRA and of its decoder's, dtype and sampling options),
        ``prompting``, ``paths``, and ``prompts``: ``style/word`` -> [positive, negative], and the draft's if there is one.

    Raises:
        UserError: the LoRA cannot be read.
    """
    beside = decoder_file(lora) if lora is not None else None
    return {
        "settings": {
            "base": runs.base_fingerprint(base),
            "lora": _digest(lora),
            "decoder_lora": _digest(beside),
            "dtype": dtype,
            **dataclasses.asdict(sampling),
        },
        "prompting": dataclasses.asdict(prompting),
        "paths": {"base": str(base), "lora": str(lora) if lora else None, "pack": str(pack)},
        "prompts": {_name(prompt): _texts(prompt) for prompt in prompts},
    }


def refuse_mixture(out: Path, record: dict[str, Any], kept: Sequence[Prompt]) -> None:
    """Compare ``record`` with that of the pictures in ``out`` that are kept; adds to it the prompts recorded there.

    Pictures without a generation.json beside them are somebody else's and are taken as they are.

    Raises:
        UserError: they were made with other settings or another prompt, or their record is damaged.
    """
    way_out = "use another folder or --overwrite"
    try:
        old = json.loads((out / RECORD_FILE).read_text(encoding="utf-8"))
        settings, prompts = dict(old["settings"]), dict(old["prompts"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(
            f"--out: {out / RECORD_FILE} is damaged, so how the pictures there were made is unknown; {way_out}"
        ) from None
    for name, value in record["settings"].items():
        if settings.get(name, value) != value:
            how = f"another {name}" if name in ("base", "lora", "decoder_lora") else f"{name} {settings[name]}, not {value}"
            raise UserError(f"--out: the pictures in {out} were made with {how}; {way_out}")
    for prompt in kept:
        before = prompts.get(_name(prompt))
        if before is not None and before != _texts(prompt):
            now = " and negative ".join(repr(text) for text in (prompt.positive, prompt.negative) if text)
            now += f" from {prompt.draft!r}" if prompt.draft else ""
            raise UserError(f"--out: {_name(prompt)} in {out} was made with the prompt {before}, not {now}; {way_out}")
    record["prompts"] = {**prompts, **record["prompts"]}


def write_record(out: Path, record: dict[str, Any]) -> None:
    """Write generation.json into ``out``, with the versions of everything involved, in one step.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps({**record, "versions": runs.versions({})}, indent=1)
    runs.write_text(out / RECORD_FILE, text + "\n")


def _texts(prompt: Prompt) -> list[str]:
    return [prompt.positive, prompt.negative, *([prompt.draft] if prompt.draft else [])]


def _digest(lora: Path | None) -> str | None:
    if lora is None:
        return None
    try:
        with open(lora, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"--lora: {lora} cannot be read ({error.strerror}); give a readable file") from error


def _name(prompt: Prompt) -> str:
    return f"{prompt.style}/{prompt.word}"
