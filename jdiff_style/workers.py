"""Worker processes that draw batches: each loads the pipeline once, the parent deals out batches and watches.

Every worker has a pipe of its own. A queue shared by all would be simpler, and would hang for ever when the process
that holds its lock is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdiff_style.drafts import load_drafter
from jdiff_style.errors import UserError
from jdiff_style.generate import SamplingOptions, choose_device, cut_prompts, draw, load_pipeline
from jdiff_style.pictures import remove_leftovers, save_picture
from jdiff_style.prompts import Prompt

if TYPE_CHECKING:
    from PIL import Image

_STEP_INTERVAL = 0.2  # seconds between two reports of one worker
_GRACE = 5.0  # seconds a worker gets to end after SIGTERM


@dataclass(frozen=True)
class Job:
    """One picture to draw, and the file it goes to."""

    prompt: Prompt
    path: Path

    @property
    def name(self) -> str:
        """``style/word``, as reports name a picture."""
        return f"{self.prompt.style}/{self.prompt.word}"


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker loads and how it draws; sent to it when it starts."""

    base: Path
    lora: Path | None
    sampling: SamplingOptions
    device: str = "auto"
    dtype: str = "float32"
    drafts: bool = False


@dataclass
class Outcome:
    """What became of the jobs.

    Attributes:
        saved: pictures that were written.
        lost: pictures that were being drawn when something went wrong.
        not_started: pictures nobody got to.
        problems: one sentence per thing that went wrong; empty when all went well.
        cut: prompts longer than the text encoder reads.
        interrupted: the run was stopped by Ctrl-C or SIGTERM.
    """

    saved: list[Job] = field(default_factory=list)
    lost: list[Job] = field(default_factory=list)
    not_started: list[Job] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    cut: list[Prompt] = field(default_factory=list)
    interrupted: bool = False


@dataclass
class _Worker:
    """The parent's view of one worker: its process, its pipe and the batch it has."""

    index: int
    process: Any
    pipe: Connection
    batch: list[Job] = field(default_factory=list)
    written: int = 0
    fraction: float = 0.0
    loaded: bool = False

    def unfinished(self) -> list[Job]:
        # By the files, not by what was reported: a worker may be killed between writing and saying so.
        return [job for job in self.batch if not job.path.exists()]


def run_jobs(
    batches: Sequence[Sequence[Job]],
    setup: WorkerSetup,
    workers: int,
    threads: int | None,
    on_progress: Callable[[float], None],
    gpus: Sequence[str] = (),
) -> Outcome:
    """Draw ``batches`` with ``workers`` processes and return what became of every job.

    A worker that dies takes down only the batch it had; the others go on with the rest. Bad input, a full disk or an
    error while drawing stops the run. Ctrl-C stops it as well: every file is then whole or absent.

    Args:
        batches: what one call of the pipeline draws together; none of the files is there yet.
        setup: what the workers load.
        workers: how many processes at most, 1 or more.
        threads: OpenMP threads of each; None leaves the environment as it is.
        on_progress: called with the number of pictures drawn so far, fractions for batches being drawn; with 0 again
            when the first worker has loaded its model.
        gpus: entries for CUDA_VISIBLE_DEVICES, dealt out to the workers in turn, one each; empty: they get what is set.
    """
    pending = deque(list(batch) for batch in batches)
    outcome = Outcome()
    crew: list[_Worker] = []
    try:
        for index in range(min(workers, len(pending))):
            gpu = gpus[index % len(gpus)] if gpus else None
            with _environment(OMP_NUM_THREADS=threads, CUDA_VISIBLE_DEVICES=gpu):
                crew.append(_start(index, setup))
        before = None
        while crew and not (outcome.problems and _stops(outcome)):
            _serve(crew, pending, outcome)
            state = (
                len(outcome.saved) + sum(worker.fraction for worker in crew),
                any(worker.loaded for worker in crew),
            )
            if state != before:
                on_progress(state[0])
            before = state
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        _end(crew)
    for worker in crew:
        outcome.lost += worker.unfinished()
    outcome.not_started = [job for batch in pending for job in batch]
    missing = {id(job) for job in (*outcome.lost, *outcome.not_started)}
    outcome.saved = [job for batch in batches for job in batch if id(job) not in missing]
    return outcome


class _Fatal(str):
    """A problem that no other worker could do better with."""


def _stops(outcome: Outcome) -> bool:
    return any(isinstance(problem, _Fatal) for problem in outcome.problems)


def _start(index: int, setup: WorkerSetup) -> _Worker:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=work, args=(theirs, setup, index), name=f"drawing-{index}", daemon=True
    )
    # Ctrl-C reaches the whole process group; a worker ignores it from its first moment, the parent ends it in order.
    with _postponed_interrupts():
        process.start()
    # Only the worker may hold its end: so each side notices at once when the other is gone.
    theirs.close()
    return _Worker(index, process, ours)


def _serve(crew: list[_Worker], pending: deque[list[Job]], outcome: Outcome) -> None:
    """Wait for news of the workers and act on it; workers that ended leave ``crew``."""
    ready = wait([worker.pipe for worker in crew] + [worker.process.sentinel for worker in crew], timeout=1.0)
    for worker in list(crew):
        if worker.pipe not in ready and worker.process.sentinel not in ready:
            continue
        gone = worker.process.sentinel in ready
        try:
            while worker.pipe.poll():
                _listen(worker, worker.pipe.recv(), pending, outcome)
        except (EOFError, OSError):
            gone = True
        if gone:
            worker.process.join(_GRACE)
            crew.remove(worker)
            _bury(worker, outcome)


def _listen(worker: _Worker, message: tuple, pending: deque[list[Job]], outcome: Outcome) -> None:
    """Act on one message of a worker."""
    kind, content = message[0], message[1:]
    if kind == "step":
        done, total = content
        worker.fraction = len(worker.batch) * done / total
    elif kind == "saved":
        outcome.saved.append(worker.batch[content[0]])
        worker.written += 1
        worker.fraction = max(0, len(worker.batch) - worker.written)
    elif kind == "failed":
        outcome.problems.append(_Fatal(content[0]))
    elif kind == "idle":
        outcome.cut += content[0]
        worker.loaded, worker.fraction, worker.written = True, 0.0, 0
        worker.batch = pending.popleft() if pending else []
        worker.pipe.send(worker.batch)


def _bury(worker: _Worker, outcome: Outcome) -> None:
    """Note how a worker ended; one that had nothing left to do ends with exit code 0, or is still on its way out."""
    slow = worker.process.exitcode is None
    if slow:  # it has let go of its pipe, so nothing more can come of it
        worker.process.kill()
        worker.process.join()
    code = worker.process.exitcode
    worker.pipe.close()
    for folder in {job.path.parent for job in worker.batch}:
        remove_leftovers(folder, worker.process.pid)
    lost = worker.unfinished()
    outcome.lost += lost
    if (code == 0 or slow) and not lost:
        return
    if any(isinstance(problem, _Fatal) for problem in outcome.problems):
        return
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
    how = "stopped answering" if slow else how
    when = "" if worker.loaded else " while it loaded the model"
    hint = " (out of memory? try fewer workers or a smaller batch)" if code == -signal.SIGKILL and not slow else ""
    outcome.problems.append(f"worker {worker.index} (process {worker.process.pid}) {how}{when}{hint}")


def _end(crew: Sequence[_Worker]) -> None:
    """End all workers and clear away what they were writing."""
    with _ignored_interrupts():
        for worker in crew:
            worker.process.terminate()
        limit = time.monotonic() + _GRACE
        for worker in crew:
            worker.process.join(max(0.0, limit - time.monotonic()))
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            for folder in {job.path.parent for job in worker.batch}:
                remove_leftovers(folder, worker.process.pid)


def work(pipe: Connection, setup: WorkerSetup, index: int) -> None:
    """A worker's life: load the pipeline, then draw one batch after the other until an empty one comes.

    Sends ``("idle", prompts that were cut)`` when it wants a batch, ``("step", done, total)`` while drawing,
    ``("saved", position in the batch)`` per picture, and ``("failed", sentence)`` before it gives up.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held back since `_postponed_interrupts`
    try:
        _work(pipe, setup, index)
    except (BrokenPipeError, EOFError, ConnectionResetError):
        # The parent is gone; whoever starts it again draws what is missing.
        sys.exit(1)
    except Exception as error:
        with contextlib.suppress(OSError):
            pipe.send(("failed", _explain(error)))
        sys.exit(1)


def _work(pipe: Connection, setup: WorkerSetup, index: int) -> None:
    import threading
    import warnings

    from tqdm import tqdm

    # By default tqdm makes a semaphore shared between processes, which a killed worker leaves behind.
    tqdm.set_lock(threading.RLock())
    # What the libraries warn of (deprecations, optional configuration files) is nothing the user can act on.
    warnings.simplefilter("ignore")
    device = choose_device(setup.device, index)
    pipeline = load_pipeline(setup.base, setup.lora, setup.sampling, device, setup.dtype)
    drafter = load_drafter(setup.base, setup.sampling, device, setup.dtype) if setup.drafts else None
    cut: list[Prompt] = []
    last = 0.0

    def on_step(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _STEP_INTERVAL:
            last = time.monotonic()
            pipe.send(("step", done, total))

    while True:
        pipe.send(("idle", cut))
        batch: list[Job] = pipe.recv()
        if not batch:
            return
        prompts = [job.prompt for job in batch]
        cut = cut_prompts(pipeline, prompts)
        pictures = draw(pipeline, prompts, setup.sampling, on_step, drafter)
        for position, (job, picture) in enumerate(zip(batch, pictures, strict=True)):
            _save(picture, job.path)
            pipe.send(("saved", position))


def _save(picture: Image.Image, path: Path) -> None:
    try:
        save_picture(picture, path)
    except OSError as error:
        raise UserError(
            f"--out: cannot write {path} ({error.strerror or error}); free space or choose another folder, and run it again"
        ) from error


def _explain(error: Exception) -> str:
    """One sentence for the user; what is unexpected also leaves its traceback on standard error."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "not enough memory to draw; use a smaller --batch, fewer --workers or a smaller picture"
    traceback.print_exception(error)
    return f"drawing failed: {type(error).__name__}: {error}"


@contextlib.contextmanager
def _postponed_interrupts() -> Iterator[None]:
    """SIGINT is held back inside and arrives afterwards; processes started inside hold it back until they decide."""
    resource_tracker.ensure_running()  # its start would let the signal through
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextlib.contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """SIGINT is ignored inside, and by processes started inside until they decide otherwise."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread, which is the one that gets the signal
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _environment(**variables: object) -> Iterator[None]:
    """Environment of processes started inside: torch reads these while it is imported, later is too late. None: as it is."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: str(value) for name, value in variables.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
