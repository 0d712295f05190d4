"""An array that a run computes once and keeps in its folder, with its hash: a damaged one is computed again."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Callable

import numpy as np

from jdiff_style import runs
from jdiff_style.checkpoint import sha256

log = logging.getLogger(__name__)


def kept_array(file: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in `file` if it agrees with the SHA-256 beside it (`NAME.sha256`), else that of `compute`, which is written
    in one step.
    """
    sums = file.with_suffix(".sha256")
    if file.is_file() and sums.is_file():
        if sums.read_text(encoding="utf-8").strip() == sha256(file):
            kept: np.ndarray = np.load(file, allow_pickle=False)
            return kept
        log.warning("%s is damaged; it is computed again", runs.show_path(file))
    made = compute()
    temporary = file.with_name(f".{file.name}.tmp-{os.getpid()}")
    with open(temporary, "wb") as stream:
        np.save(stream, made, allow_pickle=False)
    os.replace(temporary, file)
    runs.write_text(sums, sha256(file) + "\n")
    return made
