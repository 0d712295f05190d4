"""What `quality.py` looks at pictures with: EfficientNet-Lite0 and the small CLIP, each picture once, kept on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Iterable, Sequence

import numpy as np
import torch
from PIL import Image

from eval import weights
from eval.backbones import LITE_CLIP, Backbones, Unavailable
from eval.cache import FeatureCache
from eval.extractors import key_of, lite_lpips
from eval.networks.efficientnet_lite import STYLE_SIZE, EfficientNetLite0, prepare
from jdiff_style.errors import UserError
from jdiff_style.progress import Progress

BATCH = 16


class Networks:
    """The networks, loaded when they are first needed.

    Args:
        cache: folder of features that were computed before.
        clip: the folder of the small CLIP; read as scoring with lite backbones reads it.
    """

    def __init__(self, cache: Path, clip: Path):
        found = weights.find("efficientnet_lite0")
        self._file, self._hash = found.path, found.sha256
        self._cache, self._key = FeatureCache(cache), key_of("quality", found.sha256)
        self._lite: EfficientNetLite0 | None = None
        self._backbones = Backbones("lite", own=own_clip(clip))

    def look(self, pictures: Sequence[np.ndarray], title: str = "looking") -> tuple[np.ndarray, np.ndarray]:
        """Features and style statistics of uint8 pictures, side × side × 3.

        Returns:
            ``(pictures, 1280)`` and ``(pictures, STYLE_SIZE)`` float32.
        """
        rows = self._each(self._key, pictures, self._describe, title)
        return rows[:, :-STYLE_SIZE], rows[:, -STYLE_SIZE:]

    def _describe(self, pictures: list[np.ndarray]) -> np.ndarray:
        if self._lite is None:
            self._lite = EfficientNetLite0.from_file(self._file)
        inputs = torch.from_numpy(np.stack([prepare(Image.fromarray(picture)) for picture in pictures]))
        last, style = self._lite.describe(inputs)
        return torch.cat([last, style], 1).cpu().numpy()

    def clip_images(self, pictures: Sequence[np.ndarray], title: str = "looking (CLIP)") -> np.ndarray:
        """The CLIP's unit vectors of pictures."""
        try:
            network = next(found for found in self._backbones.extractors({"clip"}) if "clip" in found.gives)
        except Unavailable as error:
            raise UserError(f"--clip: {error}") from error

        def compute(part: list[np.ndarray]) -> np.ndarray:
            return network.compute(np.stack([network.prepare(p) for p in part]))

        return self._each(network.key, pictures, compute, title)[:, network.gives["clip"]]

    def clip_texts(self, words: Sequence[str]) -> np.ndarray:
        """The CLIP's unit vectors of texts."""
        try:
            return self._backbones.embed_texts(list(words))
        except Unavailable as error:
            raise UserError(f"--clip: {error}") from error

    def distances(self, drawn: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> np.ndarray:
        """The perceptual distance of each drawn picture to its true one: mean 1 − cosine of EfficientNet-Lite0's first
        five maps (the stand-in for LPIPS among the lite backbones). ``(pictures,)`` float32.
        """
        network = lite_lpips(self._file, self._hash)
        found = []
        for first in range(0, len(drawn), BATCH):
            parts = [
                network.activations(np.stack([network.prepare(picture) for picture in side[first : first + BATCH]]))
                for side in (drawn, true)
            ]
            found.append(np.diagonal(network.distances(*parts)))
        return np.concatenate(found)

    def _each(self, key: str, pictures: Sequence[np.ndarray], compute: Any, title: str) -> np.ndarray:
        """A row for each picture, from the cache or computed in batches."""
        contents = [hashlib.sha256(repr(p.shape).encode() + np.ascontiguousarray(p).tobytes()).hexdigest() for p in pictures]
        rows = [self._cache.get(key, content) for content in contents]
        missing = [number for number, row in enumerate(rows) if row is None]
        if missing:
            progress = Progress(title, len(missing))
            for first in range(0, len(missing), BATCH):
                part = missing[first : first + BATCH]
                for number, row in zip(part, compute([np.asarray(pictures[n]) for n in part])):
                    rows[number] = row
                    self._cache.put(key, contents[number], row)
                progress.update(first + len(part))
            progress.close()
        return np.stack([np.asarray(row, dtype=np.float32) for row in rows])


def own_clip(folder: Path) -> dict[str, Path]:
    """What scoring is told of a small CLIP that is not the embedded one."""
    return {} if folder.resolve() == LITE_CLIP.resolve() else {"clip": folder}


def read_all(files: Iterable[Path]) -> list[np.ndarray]:
    """Pictures as uint8 height × width × 3."""
    from jdiff_style.packs import open_image

    return [np.asarray(open_image(file)) for file in files]
