"""DINO: how much generated pictures resemble a style's references in DINOv2's eyes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eval.metrics.base import PerPicture, Picture, Reference, Setting


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``(..., width)`` scaled to length 1, float64; a zero vector stays zero, as in torch's cosine_similarity."""
    wide = np.asarray(vectors, dtype=np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-8)


class Dino(PerPicture):
    """Cosine of the ``pooler_output`` of every generated × reference pair: mean over references, pictures, styles.

    Source: the challenge's checker, ``facebook/dinov2-base``. A missing picture resembles nothing: 0.
    """

    name, title, direction = "dino", "DINO", "more"
    range = (-1.0, 1.0)
    needs = ("dino",)
    failure = 0.0

    def __init__(self, setting: Setting | None = None):
        super().__init__(setting)
        self._references: dict[str, np.ndarray] = {}

    def begin(self, references: Mapping[str, Sequence[Reference]]) -> None:
        for style, pictures in references.items():
            self._references[style] = unit(np.stack([reference.features["dino"] for reference in pictures]))

    def score(self, picture: Picture) -> float:
        # Rounding may leave the last bit outside.
        return float(np.clip((self._references[picture.style] @ unit(picture.features["dino"])).mean(), -1.0, 1.0))
