"""The metrics by name: the six of the challenge's total, and seven more."""

from __future__ import annotations

from eval.metrics.base import Metric
from eval.metrics.clip_iqa import ClipIqa
from eval.metrics.clip_r import ClipR
from eval.metrics.clip_r_top1 import ClipRTop1
from eval.metrics.clip_score import ClipScore
from eval.metrics.copies import Copies
from eval.metrics.dino import Dino
from eval.metrics.diversity import Diversity
from eval.metrics.drift import Drift
from eval.metrics.fid import Fid
from eval.metrics.fid_2048 import Fid2048
from eval.metrics.hist import Hist
from eval.metrics.kid import Kid
from eval.metrics.lpips import Lpips
from eval.total import PARTS
from jdiff_style.errors import UserError

METRICS: dict[str, type[Metric]] = {
    metric.name: metric
    for metric in (
        Dino, Hist, Lpips, Fid, ClipIqa, ClipR,
        Fid2048, Kid, ClipRTop1, ClipScore, Diversity, Copies, Drift,
    )
}  # fmt: skip
if not set(PARTS) <= set(METRICS):
    raise AssertionError("each part of the total is a metric")


def choose_metrics(text: str) -> list[str]:
    """Metric names from a command line's comma list; ``challenge`` stands for the six of the total, ``all`` for all.

    Raises:
        UserError: an unknown name, or none at all.
    """
    names: list[str] = []
    for name in (word.strip() for word in text.split(",") if word.strip()):
        if name not in METRICS and name not in ("all", "challenge"):
            raise UserError(f"--metrics: {name!r} is unknown; choose from {', '.join(METRICS)}, challenge or all")
        names += METRICS if name == "all" else PARTS if name == "challenge" else [name]
    if not names:
        raise UserError(f"--metrics: {text!r} names no metric; choose from {', '.join(METRICS)}, challenge or all")
    return list(dict.fromkeys(names))
