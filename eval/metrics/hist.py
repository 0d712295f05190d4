"""Hist: how close the colours are to those of the references. The arithmetic is in :mod:`eval.hist`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.hist import RGB_BINS, StyleHist
from eval.metrics.base import PerPicture, Picture, Reference, Setting


class Hist(PerPicture):
    """Mean of the RGB and the HSV histogram correlation with the style's mean histogram; over pictures, then styles.

    A missing picture correlates with nothing: 0.
    """

    name, title, direction = "hist", "Hist", "more"
    range = (-1.0, 1.0)
    needs = ("hist",)
    failure = 0.0

    def __init__(self, setting: Setting | None = None):
        super().__init__(setting)
        self._styles: dict[str, StyleHist] = {}

    def begin(self, references: Mapping[str, Sequence[Reference]]) -> None:
        for style, pictures in references.items():
            histograms = [reference.features["hist"] for reference in pictures]
            self._styles[style] = StyleHist.of_histograms(
                [(both[:RGB_BINS], both[RGB_BINS:]) for both in histograms], self.setting.protocol
            )

    def score(self, picture: Picture) -> float:
        both = picture.features["hist"]
        return self._styles[picture.style].score_histograms(both[:RGB_BINS], both[RGB_BINS:])
