"""FID: distance between the distributions of generated and reference pictures in Inception's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from eval.metrics.base import Key, Metric, Picture, Reference, Result, Setting, Weights, enough
from eval.metrics.rows import Rows


class Fid(Metric):
    """FID with 64 features (after the first max pool), all styles pooled together.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017), equation 6, as torchmetrics'
    ``FrechetInceptionDistance(feature=64)`` computes it. Missing pictures cannot count in either protocol.
    """

    name, title, direction = "fid", "FID", "less"
    range = (0.0, float("inf"))
    needs = ("fid64",)
    minimum = 64
    resampled: ClassVar[bool] = True

    def __init__(self, setting: Setting | None = None):
        super().__init__(setting)
        self._keys: list[Key] = []
        self._made, self._real = Rows(), Rows()

    def begin(self, references: Mapping[str, Sequence[Reference]]) -> None:
        for pictures in references.values():
            for reference in pictures:
                self._real.append(reference.features[self.needs[0]])

    def update(self, picture: Picture) -> float | None:
        self._keys.append(picture.key)
        self._made.append(picture.features[self.needs[0]])
        return None

    def pictures(self) -> list[Key]:
        return self._keys

    def too_few(self, weights: Weights) -> str | None:
        return enough(self.setting, self.name, self.minimum, weights.drawn_from(self._keys), self._real.count)

    def evaluate(self, weights: Weights) -> np.ndarray | None:
        from eval.frechet import frechet_distance

        if not self.resampled or self.too_few(weights):
            return None
        real = moments(self._real.array())
        made = self._made.array()
        return np.array(
            [
                # A resample of a run with many missing pictures may hold too few for a covariance.
                frechet_distance(*moments(made, counts), *real) if counts.sum() >= 2 else np.nan
                for counts in weights.of(self._keys)
            ]
        )

    def compute(self) -> Result:
        from eval.frechet import frechet_distance

        if reason := self.too_few(Weights()):
            return Result(None, not_computed=reason)
        distance = frechet_distance(*moments(self._made.array()), *moments(self._real.array()))
        # Rounding may leave a distance of nothing just below 0.
        return Result(max(0.0, float(distance)), details={"features": self._made.array().shape[1]})


def moments(rows: np.ndarray, counts: np.ndarray | None = None, block: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``(width,)`` and covariance ``(width, width)`` with divisor n − 1, float64, row i counted ``counts[i]`` times.

    Read in blocks, so that rows mapped from a file never lie in memory together.
    """
    wide = rows.shape[1]
    weights = np.ones(len(rows)) if counts is None else counts
    total = weights.sum()
    mean = sum(
        (weights[at : at + block] @ rows[at : at + block].astype(np.float64) for at in range(0, len(rows), block)),
        np.zeros(wide),
    ) / total
    covariance = np.zeros((wide, wide))
    for at in range(0, len(rows), block):
        centred = rows[at : at + block].astype(np.float64) - mean
        covariance += (centred * weights[at : at + block, None]).T @ centred
    return mean, covariance / (total - 1)
