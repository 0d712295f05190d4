"""A progress line with loss and ETA on standard error."""

from __future__ import annotations

import sys
import time
from typing import Optional, TextIO


def format_seconds(seconds: float) -> str:
    """`75` -> `1:15`, `3675` -> `1:01:15`."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Progress:
    """Shows `title step/total, fields, ETA`: redrawn in place on a terminal, otherwise one line every `interval`
    seconds.

    The ETA follows the recent speed, so that a slow first step (kernels being compiled) does not spoil it for long.
    """

    def __init__(self, title: str, total: int, start: int = 0, stream: Optional[TextIO] = None, interval: float = 10.0):
        self.title, self.total, self.interval = title, total, interval
        self.stream = stream if stream is not None else sys.stderr
        self.terminal = self.stream.isatty()
        self._began = self._last = time.monotonic()
        self._shown = -1e9
        self._pace: Optional[float] = None
        self._step: float = start
        self._line = ""

    def update(self, step: float, **fields: object) -> None:
        """Report that `step` steps are done, a fraction while one is under way; `fields` are shown as `name value`."""
        now = time.monotonic()
        if step > self._step:
            seconds = (now - self._last) / (step - self._step)
            self._pace = seconds if self._pace is None or self._pace > 5 * seconds else 0.9 * self._pace + 0.1 * seconds
        self._last, self._step = now, step
        eta = "?" if self._pace is None else format_seconds(self._pace * (self.total - step))
        extra = "".join(f", {name} {value}" for name, value in fields.items())
        self._line = f"{self.title} {step}/{self.total}{extra}, {format_seconds(now - self._began)} gone, ETA {eta}"
        if now - self._shown >= (0.1 if self.terminal else self.interval) or step == self.total:
            self._show(now)

    def _show(self, now: float) -> None:
        self._shown = now
        if self.terminal:
            self.stream.write(f"\r{self._line}\x1b[K")
        else:
            self.stream.write(self._line + "\n")
        self._line = ""
        self.stream.flush()

    def close(self) -> None:
        """Show the last state and end the line."""
        if self._line:
            self._show(time.monotonic())
        if self.terminal:
            self.stream.write("\n")
            self.stream.flush()
