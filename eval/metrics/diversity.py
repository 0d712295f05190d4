"""Diversity: how much the pictures of one style differ from each other."""

from __future__ import annotations

import numpy as np

from eval.metrics.base import Key, Metric, Picture, Result, Setting, Weights, mean_over_styles


class Diversity(Metric):
    """Mean LPIPS over the pairs of different pictures of a style, then over styles; 0 when all are the same.

    The feature is the picture's LPIPS distances to the pictures of its style that came before it. Of styles with many
    pictures only the first 32 in the pack's order enter (:data:`eval.features.DIVERSITY_PICTURES`).
    """

    name, title, direction = "diversity", "Diversity", "more"
    range = (0.0, float("inf"))
    needs = ("lpips_pairs",)
    minimum = 2
    reference_features = False

    def __init__(self, setting: Setting | None = None):
        super().__init__(setting)
        self._keys: dict[str, list[Key]] = {}
        self._rows: dict[str, list[np.ndarray]] = {}

    def update(self, picture: Picture) -> float | None:
        row = picture.features.get("lpips_pairs")
        if row is not None:
            self._keys.setdefault(picture.style, []).append(picture.key)
            self._rows.setdefault(picture.style, []).append(row.astype(np.float64))
        return None

    def pictures(self) -> list[Key]:
        return [key for keys in self._keys.values() for key in keys]

    def evaluate_styles(self, weights: Weights) -> dict[str, np.ndarray]:
        found = {}
        for style, keys in self._keys.items():
            if weights.drawn_from(keys) < self.minimum:
                continue
            distances = np.zeros((len(keys), len(keys)))
            for index, row in enumerate(self._rows[style]):
                distances[index, : len(row)] = row
            below = np.tril(np.ones_like(distances), -1)
            counts = weights.of(keys)
            # A picture drawn twice makes no pair with itself.
            pairs = ((counts @ below.T) * counts).sum(axis=1)
            # Of few pictures a resample may hold only one, several times: no pair, no answer.
            sums = ((counts @ distances.T) * counts).sum(axis=1)
            found[style] = np.where(pairs > 0, sums / np.maximum(pairs, 1), np.nan)
        return found

    def evaluate(self, weights: Weights) -> np.ndarray | None:
        return None if self.too_few(weights) else mean_over_styles(self.evaluate_styles(weights).values())

    def too_few(self, weights: Weights) -> str | None:
        most = max((weights.drawn_from(keys) for keys in self._keys.values()), default=0)
        return f"{most} images in the largest style, needs {self.minimum}" if most < self.minimum else None

    def compute(self) -> Result:
        if reason := self.too_few(Weights()):
            return Result(None, not_computed=reason)
        per_style = self.evaluate_styles(Weights())
        values: dict[str, float | None] = {style: float(value[0]) for style, value in per_style.items()}
        return Result(float(np.mean([value[0] for value in per_style.values()])), values)
