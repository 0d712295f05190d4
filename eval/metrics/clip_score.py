"""CLIP-score: how well a picture fits its prompt word."""

from __future__ import annotations

import numpy as np

from eval.metrics.base import PerPicture, Picture


class ClipScore(PerPicture):
    """100 × cosine of image and prompt word, at least 0; mean per style, then over styles.

    Source: Hessel et al., "CLIPScore" (2021), with torchmetrics' factor 100 (the paper has 2.5). torchmetrics cuts at 0
    after the mean, the paper each picture; here each picture, so that resampling works. A missing picture is 0.
    """

    name, title, direction = "clip_score", "CLIP-score", "more"
    range = (0.0, 100.0)
    needs = ("clip",)
    failure = 0.0
    reference_features = False

    def score(self, picture: Picture) -> float:
        embed = self.setting.embed_texts
        if embed is None:
            raise ValueError("clip_score needs Setting.embed_texts")
        text = np.asarray(embed([picture.word]), dtype=np.float64)[0]
        return max(0.0, 100.0 * float(text @ picture.features["clip"].astype(np.float64)))
