"""KID: like FID, without the assumption that features are normally distributed, and unbiased for few pictures."""

from __future__ import annotations

import numpy as np

from eval.metrics.base import Result, Weights
from eval.metrics.fid import Fid

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 0


class Kid(Fid):
    """KID with the 2048 features: mean of 100 subsets of at most 1000 pictures; the spread over subsets as ``std``.

    Source: Binkowski et al., "Demystifying MMD GANs" (2018), polynomial kernel of degree 3, as in torchmetrics. It can be a
    little below 0. No bootstrap interval: a picture drawn twice would bias the estimate.
    """

    name, title = "kid", "KID"
    range = (-float("inf"), float("inf"))
    needs = ("fid2048",)
    minimum = 50
    resampled = False

    def evaluate(self, weights: Weights) -> np.ndarray | None:
        return None

    def compute(self) -> Result:
        from eval.frechet import kernel_inception_distance

        if reason := self.too_few(Weights()):
            return Result(None, not_computed=reason)
        size = min(SUBSET_SIZE, self._made.count, self._real.count)
        mean, std = kernel_inception_distance(
            self._real.array(), self._made.array(), subsets=SUBSETS, subset_size=size, seed=SEED
        )
        return Result(float(mean), details={"std": float(std), "subsets": SUBSETS, "subset_size": size})
