"""Confidence: how much the numbers would move had other words of the same styles been drawn.

The bootstrap (Efron 1979): pictures are drawn anew, with replacement, within each style; styles and references stay. All
metrics of a run see the same draws, so the total's interval knows how its parts move together, and two runs compared see
the same words, so what both share cancels out. Percentile intervals; the draws are fixed by the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.metrics.base import Key, Metric, Weights
from eval.total import PARTS, combine

ROUNDS = 1000
LEVEL = 0.95
SEED = 20240


def draw(keys: Sequence[Key], rounds: int = ROUNDS, seed: int = SEED) -> Weights:
    """Draw ``rounds`` resamples of the pictures ``keys``, each style as often as it has pictures.

    The same pictures in any order and the same seed give the same draws.
    """
    generator = np.random.default_rng(seed)
    counts: dict[Key, np.ndarray] = {}
    for style in sorted({style for style, _ in keys}):
        own = sorted(key for key in keys if key[0] == style)
        drawn = generator.multinomial(len(own), np.full(len(own), 1 / len(own)), size=rounds)
        counts.update({key: drawn[:, index] for index, key in enumerate(own)})
    return Weights(counts, rounds)


def interval(values: np.ndarray, level: float = LEVEL) -> list[float] | None:
    """``[low, high]`` percentiles of resampled values; None where no resample had an answer."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def evaluate_all(
    metrics: Mapping[str, Metric], weights: Weights, only: Mapping[str, Sequence[Key]] | None = None
) -> dict[str, np.ndarray]:
    """Metric name -> ``(rounds,)`` values, and ``total`` where its six parts are there; the others are left out.

    ``only`` names per metric the pictures that count; None counts all.
    """
    found = {}
    for name, metric in metrics.items():
        values = metric.evaluate(weights if only is None else weights.only(only[name]))
        if values is not None:
            found[name] = values
    if all(part in found for part in PARTS):
        found["total"] = combine(**{part: found[part] for part in PARTS})
    return found


def intervals(metrics: Mapping[str, Metric], rounds: int = ROUNDS) -> dict[str, list[float] | None]:
    """Metric name, and ``total`` -> interval, for those that resampling says something about."""
    if rounds == 0:
        return {}
    alone = {name: {name: metric} for name, metric in metrics.items() if not metric.shared}
    found: dict[str, np.ndarray] = {}
    for together in ({name: metric for name, metric in metrics.items() if metric.shared}, *alone.values()):
        keys = sorted({key for metric in together.values() for key in metric.pictures()})
        if keys:
            found |= evaluate_all(together, draw(keys, rounds))
    return {name: interval(values) for name, values in found.items()}


def paired(first: Mapping[str, Metric], second: Mapping[str, Metric], rounds: int = ROUNDS) -> dict[str, Any]:
    """Differences of two runs, each metric over the pictures that it has in both.

    A metric that counts missing pictures as failures (``corrected``) has them, too; the others compare what could be read
    in both.

    Args:
        first: the computed metrics of run A by name.
        second: of run B, which the differences are taken from: positive means that B's number is larger.
        rounds: resamples; 0 for no intervals.

    Returns:
        ``pairs``, how many pictures could be read in both; ``differences.<metric or total>`` with ``a``, ``b``,
        ``value``, ``interval``, ``certain`` (the interval leaves 0 out) and ``per_style`` with the same, where ``a``,
        ``b`` and ``value`` may be None; ``not_compared.<metric>``: why a metric that both have is not compared.
    """
    names = [name for name in first if name in second and first[name].shared]
    common = {name: sorted(set(first[name].pictures()) & set(second[name].pictures())) for name in names}
    pairs = {key for name in names for key in set(first[name].scored()) & set(second[name].scored())}
    every = sorted({key for keys in common.values() for key in keys})
    report: dict[str, Any] = {"pairs": len(pairs), "differences": {}, "not_compared": {}}
    for name in first:
        if name in second and not first[name].shared:
            report["not_compared"][name] = "it is not measured on the compared folders"
    if not pairs:
        return report
    once = Weights({key: np.ones(1) for key in every})
    drawn = draw(every, rounds) if rounds else None
    a, b = {name: first[name] for name in names}, {name: second[name] for name in names}
    value_a, value_b = evaluate_all(a, once, common), evaluate_all(b, once, common)
    spread_a, spread_b = ({} if drawn is None else evaluate_all(run, drawn, common) for run in (a, b))
    for name in names:
        if name not in value_a or name not in value_b:
            few = a[name].too_few(once.only(common[name]))
            report["not_compared"][name] = f"in both: {few}" if few else "it has no per-picture values to resample"
    for name in value_a:
        if name not in value_b:
            continue
        entry = _difference(value_a[name], value_b[name], spread_a.get(name), spread_b.get(name))
        if name != "total":
            entry["per_style"] = _styles(a[name], b[name], once.only(common[name]), drawn and drawn.only(common[name]))
        report["differences"][name] = entry
    return report


def _styles(a: Metric, b: Metric, once: Weights, drawn: Weights | None) -> dict[str, dict[str, Any]]:
    plain_a, plain_b = a.evaluate_styles(once), b.evaluate_styles(once)
    drawn_a, drawn_b = ({} if drawn is None else metric.evaluate_styles(drawn) for metric in (a, b))
    return {
        style: _difference(plain_a[style], plain_b[style], drawn_a.get(style), drawn_b.get(style))
        for style in plain_a
        if style in plain_b
    }


def _difference(
    a: np.ndarray, b: np.ndarray, drawn_a: np.ndarray | None, drawn_b: np.ndarray | None
) -> dict[str, Any]:
    limits = None if drawn_a is None or drawn_b is None else interval(drawn_b - drawn_a)
    return {
        "a": _known(a[0]),
        "b": _known(b[0]),
        "value": _known(b[0] - a[0]),
        "interval": limits,
        "certain": bool(limits and (limits[0] > 0 or limits[1] < 0)),
    }


def _known(value: float) -> float | None:
    """NaN, which JSON does not have, becomes None."""
    return float(value) if np.isfinite(value) else None
