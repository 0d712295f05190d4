"""The six metrics of the challenge by name, and what each needs.

Only Hist needs no network. The others are described here with the weights they need, and are reported as *not
computed* until those are there: a number that was not measured is never 0 and never enters a total.
"""

from __future__ import annotations

from dataclasses import dataclass

from eval.total import PARTS
from jdiff_style.errors import UserError


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: its key in the report, e.g. ``clip_r``.
        title: as the challenge writes it.
        better: ``more`` or ``less``.
        weights: the network weights it needs, in words; None where it needs none.
    """

    name: str
    title: str
    better: str
    weights: str | None

    @property
    def not_computed(self) -> str | None:
        """Why this version cannot compute the metric, one clause; None where it can."""
        return None if self.weights is None else f"needs the weights of {self.weights}"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("dino", "DINO", "more", "DINOv2 ViT-B/14 (facebook/dinov2-base, 330 MB)"),
        Metric("hist", "Hist", "more", None),
        Metric("lpips", "LPIPS", "less", "SqueezeNet 1.1 (ImageNet, 5 MB) and its LPIPS linear layers"),
        Metric("fid", "FID", "less", "Inception v3 in the FID version of 2015-12-05 (91 MB)"),
        Metric(
            "clip_iqa",
            "CLIP-IQA",
            "more",
            "CLIP RN50 without positional embedding (the CLIP-IQA default model, 250 MB)",
        ),
        Metric("clip_r", "CLIP-R", "more", "CLIP ViT-L/14 (openai/clip-vit-large-patch14, 1.7 GB)"),
    )
}
if set(METRICS) != set(PARTS):
    raise AssertionError("each part of the total is a metric and the other way round")


def choose_metrics(text: str) -> list[str]:
    """Metric names from a command line's comma list; ``all`` stands for all six.

    Raises:
        UserError: an unknown name, or none at all.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return list(METRICS)
    for name in names:
        if name not in METRICS:
            raise UserError(f"--metrics: {name!r} is unknown; choose from {', '.join(METRICS)} or all")
    if not names:
        raise UserError(f"--metrics: {text!r} names no metric; choose from {', '.join(METRICS)} or all")
    return list(dict.fromkeys(names))
