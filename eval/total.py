"""The challenge's total score from its six parts.

total = (0.2·DINO + 0.4·Hist + 0.4·(1 − LPIPS)) · (0.5·CLIP-R + 0.4·(20 − min(FID, 20))/20 + 0.1·CLIP-IQA)

The first factor measures the style, the second the content and quality. Source: the checker of track 2 of the 4th
Jittor AI challenge; the published rows in ``tests/eval/test_total.py`` come out to four decimals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jdiff_style.errors import UserError

# part -> (smallest, largest) value it can take
RANGES = {
    "dino": (-1.0, 1.0),
    "hist": (-1.0, 1.0),
    "lpips": (0.0, math.inf),
    "fid": (0.0, math.inf),
    "clip_iqa": (0.0, 1.0),
    "clip_r": (0.0, 1.0),
}
PARTS = tuple(RANGES)


def total_score(*, dino: float, hist: float, lpips: float, fid: float, clip_iqa: float, clip_r: float) -> float:
    """The total of the six parts, each a plain number in the checker's own scale.

    Args:
        dino: mean DINOv2 cosine similarity, -1..1, more is better.
        hist: mean histogram correlation, -1..1, more is better.
        lpips: mean LPIPS distance, 0 or more, less is better.
        fid: FID of 64 features, 0 or more, less is better; 20 and above count alike.
        clip_iqa: mean CLIP-IQA quality, 0..1.
        clip_r: share of pictures recognised among the top 5, 0..1.

    Returns:
        The total; 1 for a perfect score.

    Raises:
        UserError: a part is not a finite number or is outside its range.
    """
    given = {"dino": dino, "hist": hist, "lpips": lpips, "fid": fid, "clip_iqa": clip_iqa, "clip_r": clip_r}
    for part, value in given.items():
        low, high = RANGES[part]
        if not math.isfinite(value) or not low <= value <= high:
            limits = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            raise UserError(f"{part}: {value} cannot be; it is a number from {limits}")
    return float(combine(**given))


def combine(*, dino: Any, hist: Any, lpips: Any, fid: Any, clip_iqa: Any, clip_r: Any) -> Any:
    """The formula of the total alone, for numbers or arrays of one shape (resampled parts)."""
    style = 0.2 * dino + 0.4 * hist + 0.4 * (1 - lpips)
    content = 0.5 * clip_r + 0.4 * (20 - np.minimum(fid, 20)) / 20 + 0.1 * clip_iqa
    return style * content


def parse_parts(words: list[str]) -> dict[str, float]:
    """Read ``part=number`` words of a command line, e.g. ``["dino=.2125", "hist=.747"]``.

    Raises:
        UserError: a word is not of that form, its part is unknown or comes twice, or its number cannot be read.
    """
    parts: dict[str, float] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"--total: {word!r} is not of the form part=number, for example hist=0.747")
        if name not in PARTS:
            raise UserError(f"--total: {name!r} is no part of the total; the parts are {', '.join(PARTS)}")
        if name in parts:
            raise UserError(f"--total: {name} is given twice; give each part once")
        try:
            parts[name] = float(text)
        except ValueError:
            raise UserError(f"--total: {name}={text!r} is not a number; write for example {name}=0.5") from None
    return parts


def missing_parts(parts: Mapping[str, float | None]) -> list[str]:
    """The parts that the total still needs, in the order of :data:`PARTS`."""
    return [name for name in PARTS if parts.get(name) is None]
