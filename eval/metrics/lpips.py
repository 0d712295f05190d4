"""LPIPS: perceptual distance to the references."""

from __future__ import annotations

from eval.metrics.base import PerPicture, Picture


class Lpips(PerPicture):
    """LPIPS of every generated × reference pair at 256×256: mean per style, then over styles.

    The challenge's network is SqueezeNet. A missing picture counts as distance 1, which adds nothing to the total.
    """

    name, title, direction = "lpips", "LPIPS", "less"
    range = (0.0, float("inf"))
    needs = ("lpips",)
    failure = 1.0

    def score(self, picture: Picture) -> float:
        # A style's every picture meets the same references, so the mean of means is the mean over pairs.
        return float(picture.features["lpips"].astype(float).mean())
