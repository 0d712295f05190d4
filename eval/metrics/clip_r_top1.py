"""CLIP-R with one place instead of five."""

from __future__ import annotations

from eval.metrics.clip_r import ClipR


class ClipRTop1(ClipR):
    """Share of all pictures whose own word is the closest of all candidates."""

    name, title = "clip_r_top1", "CLIP-R top-1"
    places = 1
