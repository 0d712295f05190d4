"""Features on disk, by the content of the picture and of the network that made them."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

_MARK = b"jdiff-features-1\n"


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes; raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def default_folder() -> Path:
    """``$JDIFF_CACHE``, else ``jdiff-style`` in the user's cache folder."""
    if os.environ.get("JDIFF_CACHE"):
        return Path(os.environ["JDIFF_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jdiff-style"


class FeatureCache:
    """Arrays by (backbone key, content). An entry is one file with its own checksum, written whole or not at all.

    Args:
        folder: made when the first entry is written; None caches nothing.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.hits = 0
        self.damaged: list[Path] = []
        self._writable = True

    def _path(self, key: str, content: str) -> Path:
        assert self.folder is not None
        return self.folder / "features" / key / content[:2] / f"{content}.npy"

    def get(self, key: str, content: str) -> np.ndarray | None:
        """The array, or None where there is none. A damaged entry counts as none, with a notice."""
        if self.folder is None:
            return None
        path = self._path(key, content)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        body = data[len(_MARK) + 32 :]
        if data[: len(_MARK)] != _MARK or hashlib.sha256(body).digest() != data[len(_MARK) : len(_MARK) + 32]:
            if not self.damaged:
                log.warning("cache: %s is damaged; it is computed again, as is every such entry", path)
            self.damaged.append(path)
            return None
        self.hits += 1
        return np.load(io.BytesIO(body), allow_pickle=False)

    def put(self, key: str, content: str, array: np.ndarray) -> None:
        """Keep an array. A folder that cannot be written is named once; the run goes on without."""
        if self.folder is None or not self._writable:
            return
        path = self._path(key, content)
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        body = buffer.getvalue()
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(_MARK + hashlib.sha256(body).digest() + body)
            os.replace(temporary, path)
        except OSError as error:
            self._writable = False
            log.warning("cache: %s cannot be written (%s); features are not kept", path.parent, error.strerror)
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                pass
