"""Pictures and captions of the stages that train from scratch: `images.npy` and `metadata.jsonl` in one folder.

`images.npy` is uint8 of shape (N, side, side, 3); line i of `metadata.jsonl` describes picture i with `object` (its
name), `style` (a word), `split` (`train` or `held_out`) and, if there are any, `keywords`. As in `dataset.py`, a sample
is a pure function of (seed, sample number).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np

from jdiff_style.captions import object_words
from jdiff_style.dataset import ORDER, PICTURE, derive_seed
from jdiff_style.errors import UserError

IMAGES_FILE, METADATA_FILE = "images.npy", "metadata.jsonl"
# The same for pictures in styles that are never trained on.
OTHER_STYLES = ("styles.npy", "styles.jsonl")
# And for paintings of training objects, whose style is some words with commas between them.
PAINTINGS = ("paintings.npy", "paintings.jsonl")
# Share of the captions written in each way; {words} are the object and some keywords in random order, and with {style}
# before them the style is shuffled among them. A pack's captions name the object anywhere, after trigger and tags, so it
# must be understood at every place. Without the style's word any style is right.
TEMPLATES = (
    (0.25, "a {style} emoji of {object}"),
    (0.10, "{style}, {object}"),
    (0.05, "{object} in {style} style"),
    (0.35, "{style}, {words}"),
    (0.15, "{object}"),
    (0.10, "{words}"),
)
# Frequent in the captions of packs and rare or absent here; a tokenizer should not spell them letter by letter.
PACK_WORDS = (
    "style horizontal flip 0 1 2 3 4 5 6 7 8 9 flat vector bright colors no outline black and white monochrome icon bold "
    "3d render soft light glossy painting brush strokes blue yellow ochre brown rough pixel art blocks few pencil lineart "
    "paper gray neon glow dark background sketch watercolor oil ink drawing"
)
PACK_WEIGHT = 50


@dataclass(frozen=True)
class Item:
    """One picture's description."""

    object: str
    style: str
    keywords: tuple[str, ...]
    train: bool


class PretrainData:
    """The pictures of a folder, memory-mapped, and the numbers of those for training and of those held out.

    Attributes: `images` uint8 N × side × side × 3, `items` one description each, `train` and `held_out` int64 indices.
    """

    def __init__(self, folder: Path, seed: int, limit: int = 0):
        self.folder, self.seed = folder, seed
        self.images, self.items = read_pictures(folder, IMAGES_FILE, METADATA_FILE)
        self.side = int(self.images.shape[1])
        train = np.array([item.train for item in self.items])
        self.train, self.held_out = np.flatnonzero(train), np.flatnonzero(~train)
        if limit:
            self.train = self.train[evenly(len(self.train), limit)]
            self.held_out = self.held_out[evenly(len(self.held_out), limit)]
        if not len(self.train):
            raise UserError(f"data: {folder / METADATA_FILE} has no line with split train")
        self.styles = list(dict.fromkeys(item.style for item in self.items))

    def keep(self, file: Path) -> None:
        """Leave in `train` only the objects that the text file names, one on each line; UserError for unknown names."""
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"words: cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
        names = {object_words(line) for line in lines if line.strip()}
        kept = np.array([number for number in self.train if self.items[number].object in names], dtype=np.int64)
        unknown = names - {self.items[number].object for number in kept}
        if unknown:
            raise UserError(
                f"words: {file} names {len(unknown)} objects without a training picture in {self.folder}, among them "
                f"{sorted(unknown)[0]!r}"
            )
        if not names:
            raise UserError(f"words: {file} is empty; write one object on each line")
        self.train = kept

    def counterparts(self, style: str | None) -> dict[int, int]:
        """For each training picture's number, that of the same object's training picture in `style` (None: the first style
        of the data), or its own where there is none. UserError if no training picture has this style.
        """
        style = self.styles[0] if style is None else style
        items = {number: self.items[number] for number in map(int, self.train)}
        there = {item.object: number for number, item in items.items() if item.style == style}
        if not there:
            raise UserError(f"appearance_style: {style!r} has no training picture; the styles are {', '.join(self.styles)}")
        return {number: there.get(item.object, number) for number, item in items.items()}

    def fingerprint(self) -> str:
        """SHA-256 over both files."""
        digest = hashlib.sha256()
        for name in (IMAGES_FILE, METADATA_FILE):
            with open(self.folder / name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def numbers(self, step: int, batch_size: int) -> tuple[np.ndarray, list[np.random.Generator]]:
        """Which pictures step `step` (from 0) takes, and a random generator for each: every epoch in a fresh order."""
        samples = range(step * batch_size, (step + 1) * batch_size)
        numbers = np.empty(batch_size, dtype=np.int64)
        order, shuffled = -1, self.train
        for place, sample in enumerate(samples):
            epoch, position = divmod(sample, len(self.train))
            if epoch != order:
                order = epoch
                shuffled = np.random.default_rng(derive_seed(self.seed, ORDER, epoch)).permutation(self.train)
            numbers[place] = shuffled[position]
        return numbers, [np.random.default_rng(derive_seed(self.seed, PICTURE, sample)) for sample in samples]

    def pixels(self, numbers: np.ndarray) -> np.ndarray:
        """float32 batch × 3 × side × side in [-1, 1]."""
        return to_pixels(self.images[numbers])

    def validation(self, count: int, held_out: bool) -> np.ndarray:
        """`count` picture numbers evenly spread over the held-out or the training pictures, fewer if there are fewer."""
        chosen = self.held_out if held_out else self.train
        return chosen[evenly(len(chosen), count)]

    def all_captions(self) -> list[str]:
        """Every training picture's words in one text: object, style and keywords. A tokenizer learns from them."""
        texts = [" ".join((i.style, i.object, *i.keywords)) for i in (self.items[n] for n in self.train)]
        forms = [template.replace("{", " ").replace("}", " ") for _, template in TEMPLATES]
        return [*texts, *forms, *[PACK_WORDS] * PACK_WEIGHT]


def plain_caption(style: str, word: str) -> str:
    """The most frequent form of the captions, the one that the models are asked with."""
    return TEMPLATES[0][1].format(style=style, object=word)


def make_caption(item: Item, rng: np.random.Generator, keywords: int, plain: float = 0.0) -> str:
    """A caption in one of `TEMPLATES`, with 1 to `keywords` keywords among {words}; those without {words} have such
    keywords after them half of the time. A share `plain` of them has the first form and no keywords.
    """
    if plain and rng.random() < plain:
        return plain_caption(item.style, item.object)
    template = choose_template(TEMPLATES, rng)
    mixed = "{words}" in template
    extra: list[str] = []
    if keywords and (mixed or rng.random() < 0.5) and item.keywords:
        count = int(rng.integers(1, keywords + 1))
        extra = [item.keywords[i] for i in rng.permutation(len(item.keywords))[:count]]
    if not mixed:
        return ", ".join([template.format(style=item.style, object=item.object), *extra])
    parts = [item.object, *extra, *([item.style] if "{style}" in template else [])]
    return ", ".join(parts[i] for i in rng.permutation(len(parts)))


def choose_template(templates: Sequence[tuple[float, str]], rng: np.random.Generator) -> str:
    """One of the texts; each stands behind its share, and the shares add up to 1."""
    shares = np.cumsum([share for share, _ in templates])
    return templates[min(int(np.searchsorted(shares, rng.random(), side="right")), len(templates) - 1)][1]


def names_style(caption: str, item: Item) -> bool:
    """Whether the caption says in which style the picture is drawn."""
    return re.search(rf"(?<!\w){re.escape(item.style)}(?!\w)", caption) is not None


def to_pixels(pictures: np.ndarray) -> np.ndarray:
    """uint8 batch × side × side × 3 as float32 batch × 3 × side × side in [-1, 1]."""
    values = pictures.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def to_pictures(pixels: np.ndarray) -> np.ndarray:
    """float32 batch × 3 × side × side in [-1, 1] as uint8 batch × side × side × 3; what lies beyond is clipped."""
    return np.clip(np.round((pixels.transpose(0, 2, 3, 1) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def read_pictures(folder: Path, images_file: str, items_file: str, field: str = "data") -> tuple[np.ndarray, list[Item]]:
    """(pictures, one description each) of two files of `folder`; UserError, which names the recipe's `field`."""
    images, items = _read_images(folder / images_file, field), _read_items(folder / items_file, field)
    if len(items) != len(images):
        raise UserError(
            f"{field}: {folder / items_file} has {len(items)} lines for {len(images)} pictures; build the folder again"
        )
    return images, items


def evenly(length: int, count: int) -> np.ndarray:
    """`count` places spread over `length`, all of them if there are no more."""
    return np.arange(length) if count >= length else (np.arange(count) * length) // count


def _read_images(path: Path, field: str) -> np.ndarray:
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(
            f"{field}: {path} is missing; give the folder that the data were built in with --{field}"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{field}: {path} is not a NumPy array ({error}); build it again") from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise UserError(f"{field}: {path} is {images.dtype} of shape {images.shape}; expected uint8 (N, side, side, 3)")
    return images


def _read_items(path: Path, field: str) -> list[Item]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{field}: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    items = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            keywords = tuple(str(word) for word in row.get("keywords", ()))
            # As the prompts and captions of a pack are written, without hyphens.
            item = Item(object_words(str(row["object"])), str(row["style"]), keywords, row["split"] == "train")
            known = row["split"] in ("train", "held_out")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, line {number}: {error!r}; a line has object, style and split") from None
        if not known:
            raise UserError(f"{path}, line {number}: split {row['split']!r} is not train or held_out")
        items.append(item)
    return items
