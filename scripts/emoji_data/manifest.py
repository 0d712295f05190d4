"""The committed list of all pictures with a hash of each, and how a build is compared with it."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from jdiff_style.errors import UserError

from .build import FILES, write_atomically
from .catalogue import SPLIT_SEED
from .packages import PACKAGES

FORMAT = 1


def picture_hash(pixels: np.ndarray) -> str:
    """The first 128 bits of SHA-256 over the RGB bytes: of the pixels, so that how a PNG was packed does not matter."""
    return hashlib.sha256(np.ascontiguousarray(pixels, np.uint8).tobytes()).hexdigest()[:32]


def coarse(pixels: np.ndarray) -> str:
    """Mean brightness of 4 x 4 fields as hex: tells another picture from another processor's rounding."""
    side = pixels.shape[0] // 4
    fields = pixels.astype(np.float64).mean(axis=2).reshape(4, side, 4, side).mean(axis=(1, 3))
    return np.rint(fields).astype(np.uint8).tobytes().hex()


def describe(out: Path) -> dict[str, Any]:
    """The manifest of the build in the folder `out`. Raises UserError if it is not whole."""
    objects: dict[str, dict[str, str]] = {}
    pictures: dict[str, dict[str, list[str]]] = {}
    left_out: list[dict[str, str]] = []
    for name, (pixel_file, _row_file) in FILES.items():
        if not (out / pixel_file).is_file():
            raise UserError(f"{out} holds no whole build ({pixel_file} is missing); run without --base-only first")
        pixels, rows = load(out, name)
        for picture, row in zip(pixels, rows, strict=True):
            objects[row["hexcode"]] = {"object": row["object"], "group": row["group"], "split": row["split"]}
            pictures.setdefault(row["set"], {})[row["hexcode"]] = [picture_hash(picture), coarse(picture)]
        left_out += json.loads((out / f"{name}_left_out.json").read_text())
    return {
        "format": FORMAT,
        "split_seed": SPLIT_SEED,
        "packages": {f"{p.name} {p.version}": f"sha512-{p.integrity}" for p in PACKAGES.values()},
        "objects": objects,
        "pictures": pictures,
        "left_out": left_out,
    }


def write(manifest: dict[str, Any], path: Path) -> None:
    """As JSON, gzip-compressed without a time, so that the same content gives the same file."""
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    write_atomically(path, gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} cannot be read as the manifest ({error}); restore it with git") from None


def compare(found: dict[str, Any], expected: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(notes, faults) of a build against the manifest: faults are pictures or objects that are missing, extra or
    different; notes count pictures whose pixels differ by no more than rounding does."""
    faults = [f"{key} differs" for key in ("format", "split_seed", "packages", "left_out") if found[key] != expected[key]]
    for code in sorted({*found["objects"], *expected["objects"]}):
        if found["objects"].get(code) != expected["objects"].get(code):
            faults.append(f"object {code} is {found['objects'].get(code)}, expected {expected['objects'].get(code)}")
    notes = []
    for style in sorted({*found["pictures"], *expected["pictures"]}):
        ours, theirs = found["pictures"].get(style, {}), expected["pictures"].get(style, {})
        rounded = 0
        for code in sorted({*ours, *theirs}):
            if code not in ours or code not in theirs:
                faults.append(f"{style}/{code} is {'missing' if code in theirs else 'extra'}")
            elif ours[code][0] != theirs[code][0]:
                fields = (np.frombuffer(bytes.fromhex(side[code][1]), np.uint8).astype(int) for side in (ours, theirs))
                if np.abs(np.subtract(*fields)).max() <= 1:
                    rounded += 1
                else:
                    faults.append(f"{style}/{code} is another picture")
        notes.append(f"{style}: {len(ours)} pictures, {len(ours) - rounded} bit for bit, {rounded} but for rounding")
    return notes, faults


def load(out: Path, name: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Pixels (memory-mapped) and rows of `images` or `styles`."""
    pixel_file, row_file = FILES[name]
    rows = [json.loads(line) for line in (out / row_file).read_text(encoding="utf-8").splitlines()]
    return np.load(out / pixel_file, mmap_mode="r"), rows
