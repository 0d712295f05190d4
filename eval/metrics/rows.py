"""Feature rows kept on disk, so that memory does not grow with the number of pictures."""

from __future__ import annotations

import tempfile

import numpy as np


class Rows:
    """Vectors of one width, appended one by one to a temporary file that disappears with the object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the object
        self._width = 0
        self.count = 0

    def append(self, row: np.ndarray) -> None:
        """Add one ``(width,)`` vector; raises ValueError if its width is not that of the others."""
        flat = np.ascontiguousarray(row, dtype=np.float32).ravel()
        if self.count and flat.size != self._width:
            raise ValueError(f"a row of {flat.size} numbers among rows of {self._width}")
        self._width = flat.size
        self._file.write(flat.tobytes())
        self.count += 1

    def array(self) -> np.ndarray:
        """``(count, width)`` float32, mapped from the file, read-only."""
        if not self.count:
            return np.zeros((0, self._width), np.float32)
        self._file.flush()
        return np.memmap(self._file, np.float32, "r", shape=(self.count, self._width))
