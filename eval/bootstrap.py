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


def evaluate_all(metrics: Mapping[str, Metric], weights: Weights) -> dict[str, np.ndarray]:
    """Metric name -> ``(rounds,)`` values, and ``total`` where its six parts are there; the others are left out."""
    found = {}
    for name, metric in metrics.items():
        values = metric.evaluate(weights)
        if values is not None:
            found[name] = values
    if all(part in found for part in PARTS):
        found["total"] = combine(**{part: found[part] for part in PARTS})
    return found


def intervals(metrics: Mapping[str, Metric], rounds: int = ROUNDS) -> dict[str, list[float] | None]:
    """Metric name, and ``total`` -> interval, for those that resampling says something about."""
    keys = sorted({key for metric in metrics.values() for key in metric.pictures()})
    if not keys or rounds == 0:
        return {}
    return {name: interval(values) for name, values in evaluate_all(metrics, draw(keys, rounds)).items()}


def paired(first: Mapping[str, Metric], second: Mapping[str, Metric], rounds: int = ROUNDS) -> dict[str, Any]:
    """Differences of two runs over the pictures that both have.

    Args:
        first: the computed metrics of run A by name.
        second: of run B, which the differences are taken from: positive means that B's number is larger.
        rounds: resamples.

    Returns:
        ``pairs``, how many pictures both have, and ``differences.<metric or total>`` with ``a``, ``b``, ``value``,
        ``interval``, ``certain`` (the interval leaves 0 out) and ``per_style`` with ``value`` and ``interval``.
    """
    names = [name for name in first if name in second]
    common = {name: sorted(set(first[name].pictures()) & set(second[name].pictures())) for name in names}
    every = sorted({key for keys in common.values() for key in keys})
    report: dict[str, Any] = {"pairs": len(every), "differences": {}}
    if not every:
        return report
    once = Weights({key: np.ones(1) for key in every})
    drawn = draw(every, rounds)
    a, b = {name: first[name] for name in names}, {name: second[name] for name in names}
    value_a, value_b = evaluate_all(a, once), evaluate_all(b, once)
    spread_a, spread_b = evaluate_all(a, drawn), evaluate_all(b, drawn)
    for name in value_a:
        if name not in value_b:
            continue
        entry = _difference(value_a[name], value_b[name], spread_a[name], spread_b[name])
        if name != "total":
            plain_a, plain_b = a[name].evaluate_styles(once), b[name].evaluate_styles(once)
            drawn_a, drawn_b = a[name].evaluate_styles(drawn), b[name].evaluate_styles(drawn)
            entry["per_style"] = {
                style: _difference(plain_a[style], plain_b[style], drawn_a[style], drawn_b[style])
                for style in plain_a
                if style in plain_b
            }
        report["differences"][name] = entry
    return report


def _difference(a: np.ndarray, b: np.ndarray, drawn_a: np.ndarray, drawn_b: np.ndarray) -> dict[str, Any]:
    limits = interval(drawn_b - drawn_a)
    return {
        "a": float(a[0]),
        "b": float(b[0]),
        "value": float(b[0] - a[0]),
        "interval": limits,
        "certain": bool(limits and (limits[0] > 0 or limits[1] < 0)),
    }
