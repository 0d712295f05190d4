"""Decoding pictures in processes of their own, ahead of the networks, at most a few batches at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eval.hist import hsv_histogram, rgb_histogram
from eval.images import UnreadableImage, read_picture
from eval.preprocess import Preprocessing
from jdiff_style.errors import UserError


@dataclass(frozen=True)
class Order:
    """What is wanted of one file: inputs by feature name, and its histograms in a protocol, or None."""

    path: Path
    inputs: tuple[tuple[str, Preprocessing], ...] = ()
    histogram: str | None = None


@dataclass
class Decoded:
    """What became of an order: prepared inputs, ``(4168,)`` histograms, size as (width, height), notes; or the error."""

    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    histogram: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    notes: list[str] = field(default_factory=list)
    error: str | None = None


def decode(order: Order) -> Decoded:
    """Carry out one order. Nothing is raised for a bad picture: ``error`` says what is wrong with it."""
    try:
        bgr, notes = read_picture(order.path)
    except UnreadableImage as error:
        return Decoded(error=str(error).removeprefix(f"{order.path}: "))
    found = Decoded(size=(bgr.shape[1], bgr.shape[0]), notes=notes)
    rgb = np.ascontiguousarray(bgr[..., ::-1]) if order.inputs else bgr
    made: dict[Preprocessing, np.ndarray] = {}
    try:
        for name, prepare in order.inputs:
            if prepare not in made:
                made[prepare] = prepare(rgb)
            found.inputs[name] = made[prepare]
        if order.histogram:
            found.histogram = np.concatenate([rgb_histogram(bgr, order.histogram), hsv_histogram(bgr, order.histogram)])
    except MemoryError:
        return Decoded(error=f"too large for the memory that is left ({found.size[0]}x{found.size[1]})")
    return found


def _decode_all(orders: Sequence[Order]) -> list[Decoded]:
    return [decode(order) for order in orders]


def _begin_process() -> None:
    # Ctrl-C reaches the whole process group; the parent ends its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that was killed ends nobody: its workers would wait for their next order for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class Decoders:
    """A pool of decoding processes; with ``workers`` 0 the work is done here. A context manager.

    Args:
        workers: how many processes; they are started with the first work.
        ahead: how many groups of pictures are decoded before they are asked for.
    """

    def __init__(self, workers: int, ahead: int = 2):
        self.workers, self.ahead = workers, max(ahead, workers)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, groups: Iterable[Sequence[Order]]) -> Iterator[list[Decoded]]:
        """Decode groups of orders, in their order, never more than ``ahead`` groups before the one handed out.

        Raises:
            UserError: a decoding process was killed, for instance because memory ran out.
        """
        if self.workers == 0:
            for group in groups:
                yield _decode_all(group)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_process
            )
        waiting: deque[tuple[Sequence[Order], Future[list[Decoded]]]] = deque()
        source = iter(groups)
        try:
            while True:
                while len(waiting) < self.ahead and (upcoming := next(source, None)) is not None:
                    waiting.append((upcoming, self._pool.submit(_decode_all, upcoming)))
                if not waiting:
                    return
                group, future = waiting.popleft()
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                f"--workers: a decoding process was killed near {group[0].path} (out of memory?); try --workers 0"
            ) from None


def default_workers(pictures: int) -> int:
    """None for a handful of pictures, which are decoded before a process has started; else up to four."""
    return 0 if pictures < 64 else min(4, len(os.sched_getaffinity(0)))
