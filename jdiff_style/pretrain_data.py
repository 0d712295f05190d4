"""Pictures and captions of the stages that train from scratch: `images.npy` and `metadata.jsonl` in one folder.

`images.npy` is uint8 of shape (N, side, side, 3); line i of `metadata.jsonl` describes picture i with `object` (its
name), `style` (a word), `split` (`train` or `held_out`) and, if there are any, `keywords`. As in `dataset.py`, a sample
is a pure function of (seed, sample number).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jdiff_style.dataset import ORDER, PICTURE, derive_seed
from jdiff_style.errors import UserError

IMAGES_FILE, METADATA_FILE = "images.npy", "metadata.jsonl"
# Share of the captions written in each way. Without the style's word any style is right, so the object must be in the
# others' meaning too; the last form is the bare word, as in the prompts of a pack.
TEMPLATES = (
    (0.50, "a {style} emoji of {object}"),
    (0.20, "{style}, {object}"),
    (0.15, "{object} in {style} style"),
    (0.15, "{object}"),
)


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
        self.images = _read_images(folder / IMAGES_FILE)
        self.items = _read_items(folder / METADATA_FILE)
        if len(self.items) != len(self.images):
            raise UserError(
                f"data: {folder / METADATA_FILE} has {len(self.items)} lines for {len(self.images)} pictures; "
                "build the folder again"
            )
        self.side = int(self.images.shape[1])
        train = np.array([item.train for item in self.items])
        self.train, self.held_out = np.flatnonzero(train), np.flatnonzero(~train)
        if limit:
            self.train = self.train[_evenly(len(self.train), limit)]
            self.held_out = self.held_out[_evenly(len(self.held_out), limit)]
        if not len(self.train):
            raise UserError(f"data: {folder / METADATA_FILE} has no line with split train")
        self.styles = list(dict.fromkeys(item.style for item in self.items))

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
        values = self.images[numbers].astype(np.float32) / np.float32(127.5) - np.float32(1.0)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))

    def validation(self, count: int, held_out: bool) -> np.ndarray:
        """`count` picture numbers evenly spread over the held-out or the training pictures, fewer if there are fewer."""
        chosen = self.held_out if held_out else self.train
        return chosen[_evenly(len(chosen), count)]

    def all_captions(self) -> list[str]:
        """Every training picture's words in one text: object, style and keywords. A tokenizer learns from them."""
        texts = [" ".join((i.style, i.object, *i.keywords)) for i in (self.items[n] for n in self.train)]
        return [*texts, *(template.replace("{", " ").replace("}", " ") for _, template in TEMPLATES)]


def make_caption(item: Item, rng: np.random.Generator, keywords: int) -> str:
    """A caption in one of `TEMPLATES`, half of the time with up to `keywords` keywords in random order after it."""
    shares = np.cumsum([share for share, _ in TEMPLATES])
    template = TEMPLATES[min(int(np.searchsorted(shares, rng.random(), side="right")), len(TEMPLATES) - 1)][1]
    caption = template.format(style=item.style, object=item.object)
    extra: list[str] = []
    if keywords and rng.random() < 0.5 and item.keywords:
        count = int(rng.integers(1, keywords + 1))
        extra = [item.keywords[i] for i in rng.permutation(len(item.keywords))[:count]]
    return ", ".join([caption, *extra])


def names_style(caption: str, item: Item) -> bool:
    """Whether the caption says in which style the picture is drawn."""
    return not (caption == item.object or caption.startswith(f"{item.object}, "))


def _evenly(length: int, count: int) -> np.ndarray:
    return np.arange(length) if count >= length else (np.arange(count) * length) // count


def _read_images(path: Path) -> np.ndarray:
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"data: {path} is missing; give the folder that the data were built in with --data") from None
    except (OSError, ValueError) as error:
        raise UserError(f"data: {path} is not a NumPy array ({error}); build it again") from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise UserError(f"data: {path} is {images.dtype} of shape {images.shape}; expected uint8 (N, side, side, 3)")
    return images


def _read_items(path: Path) -> list[Item]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    items = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            keywords = tuple(str(word) for word in row.get("keywords", ()))
            item = Item(str(row["object"]), str(row["style"]), keywords, row["split"] == "train")
            known = row["split"] in ("train", "held_out")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, line {number}: {error!r}; a line has object, style and split") from None
        if not known:
            raise UserError(f"{path}, line {number}: split {row['split']!r} is not train or held_out")
        items.append(item)
    return items
