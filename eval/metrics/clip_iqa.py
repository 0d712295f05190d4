"""CLIP-IQA: does CLIP find a picture closer to "Good photo." than to "Bad photo."?"""

from __future__ import annotations

import numpy as np

from eval.metrics.base import PerPicture, Picture

PROMPTS = ("Good photo.", "Bad photo.")


class ClipIqa(PerPicture):
    """Softmax over 100 × cosine to the two prompts, the share of the good one; mean per style, then over styles.

    Source: Wang, Chan, Loy, "Exploring CLIP for Assessing the Look and Feel of Images" (2023), equation 3, as torchmetrics
    computes ``CLIPImageQualityAssessment(prompts=("quality",))``. The feature is the two cosines. A missing picture is 0.
    """

    name, title, direction = "clip_iqa", "CLIP-IQA", "more"
    range = (0.0, 1.0)
    needs = ("clip_iqa",)
    failure = 0.0
    reference_features = False

    def score(self, picture: Picture) -> float:
        good, bad = 100.0 * picture.features["clip_iqa"].astype(np.float64)
        # exp cannot overflow here: cosines differ by 2 at most.
        return float(1.0 / (1.0 + np.exp(bad - good)))
