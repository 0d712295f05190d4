"""Paintings of the objects that a base learns: `paintings.npy` and `paintings.jsonl` beside its pictures.

Their files are like those of `pretrain_data`, but a `style` is not one word: it is a list of words, with commas between,
that say how it is painted. Like appearances they teach a base that what is drawn and how it is drawn are two things; what
no filter makes is brush strokes.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from jdiff_style.checkpoint import sha256
from jdiff_style.errors import UserError
from jdiff_style.pretrain_data import PAINTINGS, PretrainData, read_pictures

# Of a painting's words, each is left out of a caption so often, all but one at most: a pack's tags name only some of them.
LEFT_OUT = 0.25


class Paintings:
    """The paintings of a data folder's training objects.

    Attributes: `images` uint8 N × side × side × 3, memory-mapped.

    Raises:
        UserError: a file is missing or damaged.
    """

    def __init__(self, data: PretrainData):
        self.files = [data.folder / name for name in PAINTINGS]
        if not self.files[0].is_file():
            raise UserError(
                f"paintings: {self.files[0]} is missing; make it with `scripts/make_emoji_data.py --paintings 8`, or leave "
                f"paintings at 0"
            )
        self.images, items = read_pictures(data.folder, *PAINTINGS)
        if self.images.shape[1] != data.side:
            raise UserError(f"paintings: they are {self.images.shape[1]} px wide, the pictures of data {data.side}")
        self.words = [item.style.split(", ") for item in items]
        self.numbers: dict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(items):
            if item.train:
                self.numbers[item.object].append(number)

    def check(self, data: PretrainData) -> None:
        """Raise UserError if one of the training objects has no painting."""
        for number in data.train:
            if (name := data.items[number].object) not in self.numbers:
                raise UserError(f"paintings: {self.files[1]} has none of {name!r}; make them for all words of the recipe")

    def choose(self, word: str, rng: np.random.Generator) -> tuple[int, list[str]]:
        """The number of a painting of the object, and the words for it that a caption names."""
        number = self.numbers[word][int(rng.integers(len(self.numbers[word])))]
        words = self.words[number]
        kept = [text for text in words if rng.random() >= LEFT_OUT]
        return number, kept or [words[int(rng.integers(len(words)))]]

    def fingerprint(self) -> str:
        """The SHA-256 of each file."""
        return "-".join(sha256(file) for file in self.files)
