"""Copies: pictures that repeat a training picture instead of drawing something new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eval.metrics.base import Picture, Reference, Result, Setting, Share
from eval.metrics.dino import unit


class Copies(Share):
    """Share of pictures whose nearest training picture, of any style, is as close as a copy by DINO features.

    ``details["nearest"]`` names for each picture its nearest training picture, the cosine, and whether it is flagged.
    """

    name, title, direction = "copies", "Copies", "less"
    needs = ("dino",)

    def __init__(self, setting: Setting | None = None):
        super().__init__(setting)
        self._paths: list[str] = []
        self._references = np.zeros((0, 0))
        self.nearest: dict[tuple[str, str], tuple[str, float]] = {}

    def begin(self, references: Mapping[str, Sequence[Reference]]) -> None:
        pictures = [reference for style in references.values() for reference in style]
        self._paths = [reference.path for reference in pictures]
        self._references = unit(np.stack([reference.features["dino"] for reference in pictures]))

    def score(self, picture: Picture) -> float:
        cosines = np.clip(self._references @ unit(picture.features["dino"]), -1.0, 1.0)
        best = int(cosines.argmax())
        self.nearest[picture.key] = (self._paths[best], float(cosines[best]))
        return float(cosines[best] >= self.setting.copy_threshold)

    def compute(self) -> Result:
        result = super().compute()
        result.details = {
            "threshold": self.setting.copy_threshold,
            "nearest": [
                {"style": style, "word": word, "reference": path, "similarity": cosine,
                 "flagged": cosine >= self.setting.copy_threshold}
                for (style, word), (path, cosine) in self.nearest.items()
            ],
        }  # fmt: skip
        return result
