"""The finished models that a stage of training from scratch builds on or goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jdiff_style import runs
from jdiff_style.errors import UserError
from jdiff_style.hashes import SUMS_FILE, check_sums
from jdiff_style.pretrain_stage import RESULT


def model_folder(place: str | None, field: str) -> Path:
    """The exported model that a recipe names: the folder itself, or the result inside a finished run."""
    if place is None:
        raise UserError(f"{field}: none given; name a finished {field} run or the folder it was exported to with --{field}")
    folder = Path(place)
    if (folder / runs.RECIPE_FILE).is_file():
        folder = folder / RESULT
        if not folder.is_dir():
            raise UserError(
                f"{field}: the run {place} is not finished; go on with `jdiff train --resume`, or take its present state "
                f"with `jdiff export` and name that folder"
            )
    if not (folder / SUMS_FILE).is_file():
        raise UserError(f"{field}: {folder} has no {SUMS_FILE}; name a finished {field} run or an exported folder")
    return folder


def load_part(place: str | None, field: str, kind: Any) -> Any:
    """The model or tokenizer in a finished stage's folder, in float32; UserError if it is missing or damaged."""
    folder = model_folder(place, field)
    check_sums(folder, field)
    try:
        return kind.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{field}: cannot load {folder} as a {kind.__name__}: {reason}") from error
