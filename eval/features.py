"""Features of pictures: each computed once for all metrics, in batches, kept by content.

In memory are a few batches of decoded pictures, limited in number and pixels, and one style's reference activations,
however many pictures there are.
Every picture is decoded on every run, so that damage shows; what is cached is the networks' work.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eval.cache import FeatureCache, content_hash
from eval.decode import Decoders, Order, decode
from eval.images import pixels_of
from eval.preprocess import Preprocessing

#: Diversity looks at so many pictures of a style at most: 496 pairs.
DIVERSITY_PICTURES = 32
#: A network is given so many pixels a call at most, one picture aside: 16 pictures of 1024 × 1024.
CALL_PIXELS = 2**24
#: Pictures kept at their own size are decoded in groups of so many pixels at most, one picture aside.
GROUP_PIXELS = 2**24


class Extractor(Protocol):
    """A network that turns one picture into one vector.

    Attributes:
        key: names the cache folder: backbone, weights, preprocessing version.
        prepare: what it wants to be given.
        gives: feature name -> its part of the vector.
    """

    key: str
    prepare: Preprocessing
    gives: dict[str, slice]

    def compute(self, inputs: np.ndarray) -> np.ndarray:
        """``(batch, 3, height, width)`` as prepared -> ``(batch, width)`` float32."""
        ...


class PairNetwork(Protocol):
    """A network that compares pictures by activations too large to keep; ``key`` and ``prepare`` as in Extractor."""

    key: str
    prepare: Preprocessing

    def activations(self, inputs: np.ndarray) -> Any:
        """``(batch, 3, height, width)`` as prepared -> whatever :meth:`distances` takes."""
        ...

    def distances(self, first: Any, second: Any) -> np.ndarray:
        """``(first's batch, second's batch)`` float32."""
        ...


@dataclass
class Loaded:
    """One picture on its way: its file, SHA-256, features by name, size as (width, height), notes; or the error."""

    tag: Any
    path: Path
    digest: str
    features: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    notes: list[str] = field(default_factory=list)
    error: str | None = None


class FeaturePass:
    """Loads pictures with their features.

    Args:
        extractors: the networks.
        cache: where features are kept.
        decoders: who decodes.
        histogram: protocol of the feature ``hist``; None leaves it out.
        batch: pictures per call of a network.
    """

    def __init__(
        self,
        extractors: Sequence[Extractor],
        cache: FeatureCache,
        decoders: Decoders,
        histogram: str | None = None,
        batch: int = 16,
    ):
        self.extractors, self.cache, self.decoders = list(extractors), cache, decoders
        self.histogram, self.batch = histogram, batch

    def load(
        self, items: Iterable[tuple[Any, Path]], extra: Mapping[str, Preprocessing] | None = None
    ) -> Iterator[list[Loaded]]:
        """Load pictures in groups of at most one batch; a group never holds two tags.

        Where a network wants pictures at their own size, groups of large ones are smaller (:data:`GROUP_PIXELS`).

        Args:
            items: (tag, file), e.g. the style as tag.
            extra: inputs to prepare and leave in ``Loaded.inputs``, for :class:`PairDistances`.
        """
        begun: deque[list[Loaded]] = deque()

        def orders() -> Iterator[list[Order]]:
            for group in self._groups(items):
                begun.append([self._begin(tag, path) for tag, path in group])
                yield [self._order(item, extra or {}) for item in begun[-1]]

        for decoded in self.decoders.run(orders()):
            group = begun.popleft()
            for item, made in zip(group, decoded, strict=True):
                item.inputs, item.size, item.notes, item.error = made.inputs, made.size, made.notes, made.error
                if made.histogram is not None:
                    item.features["hist"] = made.histogram
            for extractor in self.extractors:
                self._extract(extractor, [item for item in group if item.error is None])
            yield group

    def _groups(self, items: Iterable[tuple[Any, Path]]) -> Iterator[list[tuple[Any, Path]]]:
        group: list[tuple[Any, Path]] = []
        large, held = any(network.prepare.keeps_size for network in self.extractors), 0
        for item in items:
            pixels = pixels_of(item[1]) if large else 0
            if group and (len(group) == self.batch or group[0][0] != item[0] or held + pixels > GROUP_PIXELS):
                yield group
                group, held = [], 0
            group.append(item)
            held += pixels
        if group:
            yield group

    def _begin(self, tag: Any, path: Path) -> Loaded:
        try:
            item = Loaded(tag, path, content_hash(path))
        except OSError:
            # Decoding will say why.
            return Loaded(tag, path, "")
        for extractor in self.extractors:
            found = self.cache.get(extractor.key, item.digest)
            if found is not None:
                _take(item, extractor, found)
        return item

    def _order(self, item: Loaded, extra: Mapping[str, Preprocessing]) -> Order:
        wanted = {network.key: network.prepare for network in self.extractors if not _has(item, network)}
        return Order(item.path, tuple({**wanted, **extra}.items()), self.histogram)

    def _extract(self, extractor: Extractor, group: Sequence[Loaded]) -> None:
        by_shape: dict[tuple[int, ...], list[Loaded]] = {}
        for item in group:
            if not _has(item, extractor):
                by_shape.setdefault(item.inputs[extractor.key].shape, []).append(item)
        for shape, items in by_shape.items():
            step = max(1, CALL_PIXELS // (shape[1] * shape[2]))
            parts = (items[at : at + step] for at in range(0, len(items), step))
            rows = [
                row
                for part in parts
                for row in extractor.compute(np.stack([item.inputs.pop(extractor.key) for item in part]))
            ]
            for item, row in zip(items, rows, strict=True):
                if not np.isfinite(row).all():
                    raise FloatingPointError(f"the network {extractor.key} answered {item.path} with what is no number")
                _take(item, extractor, row)
                self.cache.put(extractor.key, item.digest, row)


def _has(item: Loaded, extractor: Extractor) -> bool:
    return all(name in item.features for name in extractor.gives)


def _take(item: Loaded, extractor: Extractor, row: np.ndarray) -> None:
    item.features.update({name: row[part] for name, part in extractor.gives.items()})


class PairDistances:
    """Adds LPIPS distances to the pictures of one style after the other.

    Args:
        network: who compares.
        cache: where distances are kept, by all pictures that are compared.
        batch: how many pictures' activations are held at once; twice that for diversity.
        references: whether to compute ``lpips``: ``(references,)`` distances.
        diversity: whether to compute ``lpips_pairs``: distances to the pictures of the style that came before.
    """

    def __init__(
        self, network: PairNetwork, cache: FeatureCache, batch: int = 16, references: bool = True, diversity: bool = False
    ):
        self.network, self.cache, self.batch = network, cache, batch
        self.references, self.diversity = references, diversity
        self._style: Any = None
        self._paths: list[Path] = []
        self._digests: list[str] = []
        self._held: Any = None
        self._before: list[tuple[str, np.ndarray]] = []

    def begin(self, style: Any, references: Sequence[Loaded]) -> None:
        """Turn to the next style. Its references are read again when they are needed."""
        self._style, self._held, self._before = style, None, []
        self._paths, self._digests = [item.path for item in references], [item.digest for item in references]

    def add(self, group: Sequence[Loaded]) -> None:
        """Compute the distances of pictures that hold their input ``lpips``; the input is dropped afterwards."""
        activations: dict[str, Any] = {}

        def all_activations() -> Any:
            if "all" not in activations:
                activations["all"] = self.network.activations(np.stack([item.inputs["lpips"] for item in group]))
            return activations["all"]

        if not group:
            return
        if self.references:
            contents = [_joined(item.digest, self._digests) for item in group]
            rows = self._kept("references", contents) or self._to_references(contents, all_activations())
            for item, row in zip(group, rows, strict=True):
                item.features["lpips"] = row
        if self.diversity:
            self._add_pairs(list(group)[: DIVERSITY_PICTURES - len(self._before)], all_activations)
        for item in group:
            item.inputs.pop("lpips", None)

    def _kept(self, kind: str, contents: Sequence[str]) -> list[np.ndarray] | None:
        found = [self.cache.get(f"{self.network.key}-{kind}", content) for content in contents]
        return None if any(row is None for row in found) else [row for row in found if row is not None]

    def _to_references(self, contents: Sequence[str], activations: Any) -> list[np.ndarray]:
        columns = []
        for start in range(0, len(self._paths), self.batch):
            held = self._held
            if held is None:
                orders = (Order(p, (("lpips", self.network.prepare),)) for p in self._paths[start : start + self.batch])
                held = self.network.activations(np.stack([decode(order).inputs["lpips"] for order in orders]))
                if len(self._paths) <= self.batch:
                    self._held = held
            columns.append(self.network.distances(activations, held))
        rows = list(np.concatenate(columns, axis=1))
        for content, row in zip(contents, rows, strict=True):
            self.cache.put(f"{self.network.key}-references", content, row)
        return rows

    def _add_pairs(self, group: Sequence[Loaded], activations: Any) -> None:
        if not group:
            return
        before = [digest for digest, _ in self._before]
        contents = [
            _joined(item.digest, before + [other.digest for other in group[:index]]) for index, item in enumerate(group)
        ]
        rows = self._kept("pairs", contents)
        if rows is None:
            own = activations()
            columns = [self.network.distances(own, own)]
            for start in range(len(self._before), 0, -self.batch):
                block = self._before[max(0, start - self.batch) : start]
                held = self.network.activations(np.stack([inputs for _, inputs in block]))
                columns.insert(0, self.network.distances(own, held))
            table = np.concatenate(columns, axis=1)
            rows = [table[index, : len(before) + index] for index in range(len(group))]
            for content, row in zip(contents, rows, strict=True):
                self.cache.put(f"{self.network.key}-pairs", content, row)
        for item, row in zip(group, rows, strict=True):
            item.features["lpips_pairs"] = row
            self._before.append((item.digest, item.inputs["lpips"]))


def _joined(digest: str, others: Sequence[str]) -> str:
    """One content hash for a picture compared with others, in their order."""
    return hashlib.sha256("\n".join([digest, *others]).encode()).hexdigest()
