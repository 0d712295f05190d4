"""CLIP-R: does CLIP recognise what a picture shows?"""

from __future__ import annotations

from collections import Counter

import numpy as np

from eval.metrics.base import Picture, Setting, Share


class ClipR(Share):
    """Share of all pictures whose own word is among the five candidates closest to the picture.

    Candidates are the list's words in lower case and the picture's own. A word that the list holds twice takes two of the
    five places in ``challenge``, as in the checker, and one in ``corrected``. A picture is recognised when fewer than
    five places go to other words that score higher. A missing picture is not recognised.
    """

    name, title, direction = "clip_r", "CLIP-R", "more"
    needs = ("clip",)
    failure = 0.0
    reference_features = False
    places = 5

    def __init__(self, setting: Setting | None = None):
        super().__init__(setting)
        words = Counter(word.lower() for word in self.setting.candidates)
        self._words = list(words)
        self._taken = np.array([n if self.setting.protocol == "challenge" else 1 for n in words.values()])
        self._embedded: np.ndarray | None = None
        self._own: dict[str, np.ndarray] = {}

    def unavailable(self) -> str | None:
        if len(self._words) <= self.places:
            return f"{len(self._words)} candidate words, needs {self.places + 1} (--clip-r-prompts)"
        return None

    def score(self, picture: Picture) -> float:
        embed = self.setting.embed_texts
        if embed is None:
            raise ValueError("clip_r needs Setting.embed_texts")
        if self._embedded is None:
            self._embedded = np.asarray(embed(self._words), dtype=np.float64)
        own = picture.word.lower()
        if own not in self._own:
            index = self._words.index(own) if own in self._words else None
            self._own[own] = (
                np.asarray(embed([own]), dtype=np.float64)[0] if index is None else self._embedded[index]
            )
        image = picture.features["clip"].astype(np.float64)
        others = np.array([word != own for word in self._words])
        higher = (self._embedded @ image > self._own[own] @ image) & others
        return float(self._taken[higher].sum() < self.places)
