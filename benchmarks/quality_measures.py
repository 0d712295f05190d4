"""The arithmetic of `quality.py`, in NumPy alone: retrieval, the style classifier, intervals, goals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Sequence

import numpy as np

# Student's t at 97.5 % for 1 to 9 degrees of freedom: two-sided 95 % intervals of a mean of 2 to 10 values.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Figure:
    """One number with what it has to reach.

    Attributes:
        text: what it is, for a person.
        value: the number; None where it could not be computed, with ``why``.
        goal: a number that it has to reach or, where ``falls``, stay below; None where it is only reported.
        falls: whether less is better.
        unit: after the number.
        interval: 95 % interval, or None.
        details: more for the JSON, for example per style.
    """

    text: str
    value: float | None
    goal: float | None = None
    falls: bool = False
    unit: str = ""
    why: str = ""
    interval: tuple[float, float] | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """Whether the goal is reached; None without one. A number that is missing or not finite has not reached it."""
        if self.goal is None:
            return None
        if self.value is None or not math.isfinite(self.value):
            return False
        return self.value <= self.goal if self.falls else self.value >= self.goal

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON; fields that say nothing are left out."""
        row: dict[str, Any] = {"text": self.text, "value": self.value, "unit": self.unit, "why": self.why}
        row |= {"goal": self.goal, "direction": "at most" if self.falls else "at least", "passed": self.passed}
        if self.goal is None:
            row = {key: value for key, value in row.items() if key not in ("goal", "direction", "passed")}
        row |= {"interval": list(self.interval) if self.interval else None, "details": self.details}
        return {key: value for key, value in row.items() if value not in ("", None, {}) or key == "value"}


def ranks(found: np.ndarray, candidates: np.ndarray, right: Sequence[int]) -> np.ndarray:
    """How many wrong candidates are as near to each row of ``found`` as the right one, or nearer; by cosine.

    Args:
        found: ``(pictures, width)``.
        candidates: ``(candidates, width)``.
        right: the number of each picture's own candidate.

    Returns:
        ``(pictures,)`` int64: 0 is found, a tie is not.
    """
    likeness = _unit(found) @ _unit(candidates).T
    if not np.isfinite(likeness).all():
        raise ValueError("a likeness is not a number")
    own = likeness[np.arange(len(found)), np.asarray(right, dtype=np.int64)]
    return (likeness >= own[:, None]).sum(axis=1) - 1


def share_within(places: np.ndarray, count: int) -> float:
    """Share of :func:`ranks` among the first ``count``."""
    return float(np.mean(np.asarray(places) < count))


def _unit(vectors: np.ndarray) -> np.ndarray:
    wide = np.asarray(vectors, dtype=np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


class StyleClassifier:
    """Linear discriminant analysis with a shrunken covariance (Friedman 1989, regularised discriminant analysis).

    One covariance for all classes, ``(1 - shrinkage) S + shrinkage trace(S)/d I`` of the standardised numbers: with a few
    hundred pictures and 544 numbers each, S alone could not be inverted.

    Args:
        statistics: ``(pictures, width)``, for example channel means and deviations of a network's middle layers.
        labels: ``(pictures,)`` class numbers, each class at least once.
        shrinkage: 0 to 1.
    """

    def __init__(self, statistics: np.ndarray, labels: Sequence[int], shrinkage: float = 0.1):
        rows, classes = np.asarray(statistics, dtype=np.float64), np.asarray(labels)
        self.mean = rows.mean(axis=0)
        self.deviation = np.maximum(rows.std(axis=0), 1e-6)
        rows = (rows - self.mean) / self.deviation
        self.classes = np.unique(classes)
        centres = np.stack([rows[classes == label].mean(axis=0) for label in self.classes])
        within = rows - centres[np.searchsorted(self.classes, classes)]
        covariance = within.T @ within / len(rows)
        width = covariance.shape[0]
        spread = max(float(np.trace(covariance)) / width, 1e-9)
        shrunken = (1 - shrinkage) * covariance + shrinkage * spread * np.eye(width)
        self.weights = np.linalg.solve(shrunken, centres.T)
        self.offset = -0.5 * np.einsum("cw,wc->c", centres, self.weights)

    def predict(self, statistics: np.ndarray) -> np.ndarray:
        """``(pictures,)`` class numbers, all classes taken as equally frequent."""
        rows = (np.asarray(statistics, dtype=np.float64) - self.mean) / self.deviation
        return self.classes[np.argmax(rows @ self.weights + self.offset, axis=1)]

    def accuracy(self, statistics: np.ndarray, labels: Sequence[int]) -> float:
        """Share of right answers."""
        return float(np.mean(self.predict(statistics) == np.asarray(labels)))


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The mean of a figure over seeds, and its 95 % interval by Student's t; None for a single seed."""
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if len(found) < 2:
        return mean, None
    factor = _STUDENT[min(len(found) - 2, len(_STUDENT) - 1)]
    half = factor * float(found.std(ddof=1)) / math.sqrt(len(found))
    return mean, (mean - half, mean + half)
