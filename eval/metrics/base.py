"""The interface of all metrics, and the two ways most of them average.

A metric sees every picture once, as features that somebody else computed, keeps one number (or a short vector) per
picture, and answers at the end. Nothing here imports torch: networks run in :mod:`eval.features`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

#: A generated picture: its style's id and its prompt word.
Key = tuple[str, str]
Features = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Reference:
    """A reference picture: its file, shown in reports, and its features by name."""

    path: str
    features: Features


@dataclass(frozen=True)
class Picture:
    """A generated picture: its style, prompt word and features by name (see :attr:`Metric.needs`)."""

    style: str
    word: str
    features: Features

    @property
    def key(self) -> Key:
        return self.style, self.word


@dataclass(frozen=True)
class Setting:
    """What metrics have to know besides pictures.

    Attributes:
        protocol: ``challenge`` or ``corrected``.
        candidates: CLIP-R's list of words, as it was written.
        embed_texts: texts -> ``(texts, width)`` float32 of length 1 in CLIP's space; None without CLIP.
        copy_threshold: DINO cosine from which a picture counts as a copy of a training picture.
        minimum: replaces the smallest number of images that FID and KID accept; None leaves theirs.
        minimums: metric -> what stands for its own smallest number with the networks in use, where ``minimum`` is None.
    """

    protocol: str = "challenge"
    candidates: tuple[str, ...] = ()
    embed_texts: Callable[[Sequence[str]], np.ndarray] | None = None
    copy_threshold: float = 0.95
    minimum: int | None = None
    minimums: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Result:
    """A metric's answer: a number, or none with the reason; what is known per style; and what else is worth reporting."""

    value: float | None
    per_style: dict[str, float | None] | None = None
    not_computed: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Weights:
    """How often each picture counts, in each of ``rounds`` resamples; once each, in a single round, by default.

    Args:
        counts: picture -> ``(rounds,)`` counts; None for the plain mean.
        rounds: how many resamples.
    """

    def __init__(self, counts: Mapping[Key, np.ndarray] | None = None, rounds: int = 1):
        self.counts, self.rounds = counts, rounds

    def of(self, keys: Sequence[Key]) -> np.ndarray:
        """``(rounds, len(keys))`` float64; pictures that were not drawn from count 0."""
        if self.counts is None:
            return np.ones((self.rounds, len(keys)))
        none = np.zeros(self.rounds)
        columns = [self.counts.get(key, none) for key in keys]
        return np.stack(columns, axis=1).astype(np.float64) if columns else np.zeros((self.rounds, 0))

    def only(self, keys: Collection[Key]) -> Weights:
        """The same draws with all pictures but ``keys`` left out."""
        if self.counts is None:
            return Weights({key: np.ones(self.rounds) for key in keys}, self.rounds)
        return Weights({key: self.counts[key] for key in keys if key in self.counts}, self.rounds)

    def drawn_from(self, keys: Sequence[Key]) -> int:
        """How many of ``keys`` can be drawn at all."""
        return len(keys) if self.counts is None else sum(key in self.counts for key in keys)


def mean_over_styles(per_style: Iterable[np.ndarray]) -> np.ndarray | None:
    """Mean of ``(rounds,)`` values over the styles that have one in that round; NaN where none has; None of no styles."""
    styles = np.array(list(per_style))
    if not styles.size:
        return None
    known = ~np.isnan(styles)
    sums = np.where(known, styles, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)


def weighted_mean(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``(rounds,)`` means of ``values`` under ``(rounds, len(values))`` counts; NaN where nothing was drawn."""
    total = counts.sum(axis=1)
    return np.where(total > 0, counts @ values / np.maximum(total, 1), np.nan)


class Metric:
    """One metric over one set of generated pictures.

    Attributes:
        name: its key in the report, e.g. ``clip_r``.
        title: as people write it.
        direction: ``more`` or ``less`` is better.
        range: (smallest, largest) value.
        needs: names of the features it reads, see :data:`eval.backbones.FEATURES`.
        minimum: how many generated and how many reference images it needs at least.
        failure: what a missing picture counts as in the ``corrected`` protocol; None where it cannot count.
        reference_features: whether it reads features of the references, too.
        shared: whether its pictures are the generated ones, which all metrics see and which are drawn for all together.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    direction: ClassVar[str]
    range: ClassVar[tuple[float, float]]
    needs: ClassVar[tuple[str, ...]]
    minimum: ClassVar[int] = 1
    failure: ClassVar[float | None] = None
    reference_features: ClassVar[bool] = True
    shared: ClassVar[bool] = True

    def __init__(self, setting: Setting | None = None):
        self.setting = setting or Setting()

    def unavailable(self) -> str | None:
        """Why the setting makes the metric impossible, one clause; None where it can be computed."""
        return None

    def begin(self, references: Mapping[str, Sequence[Reference]]) -> None:
        """Take the references of all styles; called once, before :meth:`update`."""

    def update(self, picture: Picture) -> float | None:
        """Take one generated picture and return its own score, or None where it has none."""
        raise NotImplementedError

    def fail(self, key: Key) -> None:
        """Take note of a picture that is missing or unreadable. The ``challenge`` protocol leaves it out."""

    def pictures(self) -> list[Key]:
        """The pictures that the value is an average of, in the order they came."""
        raise NotImplementedError

    def scored(self) -> list[Key]:
        """Those of :meth:`pictures` that could be read."""
        return self.pictures()

    def too_few(self, weights: Weights) -> str | None:
        """Why the pictures under ``weights`` do not suffice, one clause; None where they do."""
        return None

    def evaluate(self, weights: Weights) -> np.ndarray | None:
        """``(rounds,)`` values under ``weights``, NaN where a round has no answer; None where resampling says nothing."""
        raise NotImplementedError

    def evaluate_styles(self, weights: Weights) -> dict[str, np.ndarray]:
        """Style -> ``(rounds,)`` values, for styles that have pictures; empty for metrics that pool all styles."""
        return {}

    def compute(self) -> Result:
        """The value over all pictures seen."""
        raise NotImplementedError


class PerPicture(Metric):
    """A metric with one number per picture: mean over a style's pictures, then over styles."""

    def __init__(self, setting: Setting | None = None):
        super().__init__(setting)
        self.values: dict[Key, float] = {}
        self._failed: set[Key] = set()

    def score(self, picture: Picture) -> float:
        """The picture's own number."""
        raise NotImplementedError

    def update(self, picture: Picture) -> float | None:
        value = float(self.score(picture))
        if not np.isfinite(value):
            raise FloatingPointError(f"{self.name}: {picture.style}/{picture.word} has the value {value}")
        self.values[picture.key] = value
        return value

    def fail(self, key: Key) -> None:
        if self.setting.protocol == "corrected" and self.failure is not None:
            self.values[key] = self.failure
            self._failed.add(key)

    def pictures(self) -> list[Key]:
        return list(self.values)

    def scored(self) -> list[Key]:
        return [key for key in self.values if key not in self._failed]

    def evaluate_styles(self, weights: Weights) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for style in dict.fromkeys(style for style, _ in self.values):
            keys = [key for key in self.values if key[0] == style]
            if weights.drawn_from(keys):
                found[style] = weighted_mean(weights.of(keys), np.array([self.values[key] for key in keys]))
        return found

    def evaluate(self, weights: Weights) -> np.ndarray | None:
        return mean_over_styles(self.evaluate_styles(weights).values())

    def compute(self) -> Result:
        value = self.evaluate(Weights())
        if value is None:
            return Result(None, not_computed="no generated picture could be read")
        return Result(float(value[0]), {style: float(v[0]) for style, v in self.evaluate_styles(Weights()).items()})


class Share(PerPicture):
    """A metric with yes or no per picture: the share of yes over all pictures, whatever their style."""

    range = (0.0, 1.0)

    def evaluate(self, weights: Weights) -> np.ndarray | None:
        if not weights.drawn_from(self.pictures()):
            return None
        return weighted_mean(weights.of(self.pictures()), np.array(list(self.values.values())))


def enough(setting: Setting, metric: str, minimum: int, generated: int, references: int) -> str | None:
    """The clause ``3 generated images, needs 64 (--minimum)`` where either count is below the metric's limit, else None."""
    limit = setting.minimums.get(metric, minimum) if setting.minimum is None else setting.minimum
    which = {"generated": generated, "reference": references}
    few = [f"{count} {name} images" for name, count in which.items() if count < limit]
    return f"{' and '.join(few)}, needs {limit} (--minimum)" if few else None
