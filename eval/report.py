"""The report of a scored folder, ready for JSON; ``eval/README.md`` documents it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.backbones import Backbones
from eval.bootstrap import LEVEL, ROUNDS, SEED, intervals
from eval.matching import Matching
from eval.metrics import METRICS
from eval.metrics.base import Metric
from eval.total import PARTS, missing_parts, total_score

SCHEMA = 1


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        protocol: ``challenge`` leaves missing pictures out of every mean, ``corrected`` counts them as failures.
        candidates: CLIP-R's words; empty takes the pack's own.
        candidates_from: the file that replaced the pack's list of candidates, or None.
        cache: folder of cached features; None keeps none.
        workers: decoding processes; None chooses by the number of pictures.
        batch: pictures per call of a network.
        rounds: bootstrap resamples; 0 for no intervals.
        copy_threshold: see :class:`eval.metrics.base.Setting`.
        minimum: likewise.
        drift: folders of the base model's and the tuned model's pictures without trigger, or None.
        strict: refuse references that cannot be read rather than leave them out.
    """

    protocol: str = "challenge"
    candidates: tuple[str, ...] = ()
    candidates_from: Path | None = None
    cache: Path | None = None
    workers: int | None = None
    batch: int = 16
    rounds: int = ROUNDS
    copy_threshold: float = 0.95
    minimum: int | None = None
    drift: tuple[Path, Path] | None = None
    strict: bool = False


@dataclass
class Work:
    """What is collected while pictures go by."""

    matching: Matching
    metrics: dict[str, Metric] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    references: int = 0


def make_report(
    work: Work, names: Sequence[str], backbones: Backbones, options: Options, words: Sequence[str]
) -> dict[str, Any]:
    """The whole report. Metrics without a value are taken out of ``work``.

    Args:
        work: what was collected.
        names: metrics that were asked for.
        backbones: the networks that were used.
        options: how it was measured.
        words: CLIP-R's candidates.
    """
    matching = work.matching
    missing = [f"{files.style.id}/{word}" for files in matching.styles for word in files.missing]
    seen = {row["style"] for row in work.pictures if row["state"] == "scored"}
    bad = len(missing) + len(work.unreadable)
    unexpected = [str(path) for files in matching.styles for path in files.unexpected]
    unexpected += [*(str(path) for path in matching.others), *work.unexpected]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "protocol": options.protocol,
        "generated": str(matching.folder),
        "backbones": backbones.describe({name for metric in work.metrics.values() for name in metric.needs}),
        "counts": {
            "styles": len(matching.styles),
            "references": work.references,
            "expected": matching.expected,
            "scored": matching.expected - bad,
            "missing": len(missing),
            "unreadable": len(work.unreadable),
            "unexpected": len(unexpected),
        },
        "partial": bad > 0,
        "not_comparable": None,
        "missing": missing,
        "unreadable": work.unreadable,
        "unexpected": unexpected,
        "styles_without_words": matching.without_words,
        "styles_without_pictures": [files.style.id for files in matching.styles if files.style.id not in seen],
        "references_left_out": work.left_out,
        "notes": work.notes,
        "sizes": dict(work.sizes.most_common()),
        "bootstrap": {"rounds": options.rounds, "level": LEVEL, "seed": SEED},
        "metrics": {},
    }
    for name in METRICS:
        report["metrics"][name] = _entry(work, name, names)
        if report["metrics"][name]["value"] is None:
            work.metrics.pop(name, None)
    limits = intervals(work.metrics, options.rounds)
    for name in work.metrics:
        report["metrics"][name]["interval"] = limits.get(name)
    for name in {"clip_r", "clip_r_top1"} & set(work.metrics):
        report["metrics"][name] |= {
            "candidates": len(words),
            "list": _list_of(options),
            "list_sha256": hashlib.sha256("\n".join(words).encode()).hexdigest(),
        }
    report["not_comparable"] = _not_comparable(work, backbones, options)
    report["total"] = total_report({name: entry["value"] for name, entry in report["metrics"].items()})
    if report["total"]["value"] is not None:
        report["total"]["interval"] = limits.get("total")
    report["pictures"] = sorted(work.pictures, key=lambda row: (row["style"], row["word"]))
    return report


def _list_of(options: Options) -> str:
    """Where CLIP-R's words come from."""
    if options.candidates_from:
        return str(options.candidates_from)
    return "the pack's clip_r_prompts.txt" if options.candidates else "the pack's prompt words"


def _not_comparable(work: Work, backbones: Backbones, options: Options) -> str | None:
    """Why the numbers must not be laid beside the leaderboard's; None where they may."""
    reasons = []
    if backbones.deviation:
        reasons.append(backbones.deviation)
    if options.protocol != "challenge":
        reasons.append(f"{options.protocol} protocol")
    if {"clip_r", "clip_r_top1"} & set(work.metrics) and (options.candidates_from or not options.candidates):
        reasons.append(f"CLIP-R among {_list_of(options)}")
    return f"not comparable with the leaderboard: {', '.join(reasons)}" if reasons else None


def _entry(work: Work, name: str, names: Sequence[str]) -> dict[str, Any]:
    if name not in names:
        return {"value": None, "not_computed": "not asked for"}
    if name in work.refused:
        return {"value": None, "not_computed": work.refused[name]}
    metric = work.metrics[name]
    result = metric.compute()
    if result.value is None:
        return {"value": None, "not_computed": result.not_computed}
    entry: dict[str, Any] = {"value": result.value, "direction": metric.direction}
    if result.per_style is not None:
        styles = [files.style.id for files in work.matching.styles] if name != "drift" else list(result.per_style)
        entry["per_style"] = {style: result.per_style.get(style) for style in styles}
    return entry | result.details


def total_report(parts: dict[str, float | None]) -> dict[str, Any]:
    """The total of ``parts`` as the report holds it: ``value``, or null with ``not_computed`` and ``missing``.

    Raises:
        UserError: a part is outside its range.
    """
    lacking = missing_parts(parts)
    if lacking:
        return {"value": None, "not_computed": f"missing {', '.join(lacking)}", "missing": lacking}
    return {"value": total_score(**{name: value for name in PARTS if (value := parts[name]) is not None})}
