"""Training on several GPUs: a process for each, which takes its share of every batch, and one sum of all gradients a step.

The pictures, captions, noise and timesteps of a step are those of one process; only who computes what differs. So the
losses are the same up to rounding, except for the masks of LoRA dropout, which each process draws for its own pictures.
`jdiff train --processes N` starts the others itself, mpirun and torchrun start all (launched.py); all are on one machine.
Sums go through torch.distributed: NCCL between GPUs, gloo between processors.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Sequence

import torch
import torch.distributed

from jdiff_style import launched
from jdiff_style.errors import UserError
from jdiff_style.gpus import refuse_too_few, usable_gpus

PATIENCE = datetime.timedelta(minutes=30)  # the first step compiles kernels, one process after the other
ALONE_AGAIN = 3  # exit code of a worker whose main process is gone
_LOOK = 0.5  # seconds between two looks at the other processes


class Group:
    """This process's place among `size`: it takes the share `rank` of each batch. The default is alone."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of `count` pictures are this process's: shares differ by one picture at most."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def add(self, *numbers: float) -> list[float]:
        """The sums of plain numbers over all processes, in double precision; on the CPU, so that a lost process is
        noticed here and not in the middle of a sum on the cards.
        """
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(values)
        return values.tolist()

    def add_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Replace every gradient by its sum over all processes, in one message."""
        if self.size == 1:
            return
        reached = [p for p in parameters if p.grad is not None]  # the same ones in every process
        flat = torch.cat([p.grad.reshape(-1) for p in reached])
        torch.distributed.all_reduce(flat)
        place = 0
        for p in reached:
            p.grad = flat[place : place + p.numel()].reshape(p.shape).clone()
            place += p.numel()


def check(processes: int, batch_size: int, device: str) -> None:
    """Raise UserError if so many processes have nothing to do or no GPU of their own."""
    if processes > batch_size:
        raise UserError(
            f"processes: {processes} share batches of {batch_size}; give fewer, or a batch_size of at least {processes}"
        )
    if processes == 1 or launched.place() is not None:  # each has claimed its GPU already
        return
    # torch is asked in a process of its own, which takes seconds
    refuse_too_few(usable_gpus(device), processes, f"processes: {processes}")


@contextlib.contextmanager
def started(run: Path, start: int, processes: int, device: str) -> Iterator[Group]:
    """Inside, `processes` - 1 others train the run in folder `run` with this one, from the checkpoint after step `start` on.

    Raises UserError if one of them ends too early; what it said stands in `process-N.log` of the run folder.
    """
    if processes == 1:
        yield Group()
        return
    if place := launched.place():
        with _all_there(place, run, start) as group:
            yield group
        return
    gpus = usable_gpus(device)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    workers: dict[int, subprocess.Popen[bytes]] = {}
    over = threading.Event()
    try:
        for rank in range(1, processes):
            environment = {**os.environ, **address, "RANK": str(rank)}
            if gpus:
                environment["CUDA_VISIBLE_DEVICES"] = gpus[rank]
            with open(run / f"process-{rank}.log", "wb") as output:
                workers[rank] = subprocess.Popen(
                    [sys.executable, "-m", "jdiff_style.train_worker", str(run), str(start), str(os.getpid())],
                    env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for the main process, which tells the others
                )  # fmt: skip
        threading.Thread(target=_watch, args=(workers, over, run), daemon=True).start()
        join(0, address)
        try:
            yield Group(0, processes)
        except RuntimeError:
            lost = _ended(workers)
            if lost is None:
                raise
            raise _lost(lost, workers[lost], run) from None
    finally:
        over.set()
        leave()
        for worker in workers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=10)
            if worker.poll() is None:
                worker.kill()
                worker.wait()


@contextlib.contextmanager
def _all_there(place: launched.Place, run: Path, start: int) -> Iterator[Group]:
    """`started` where a launcher has started the others, which wait to hear of the run."""
    try:
        join(0, place.address)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{place.launcher}: the {place.size} processes do not meet at {place.address['MASTER_ADDR']}:"
            f"{place.address['MASTER_PORT']} ({error}); the variable MASTER_PORT chooses another port"
        ) from None
    tell([str(run.resolve()), start])
    try:
        yield Group(0, place.size)
    except RuntimeError as error:
        if not lost_another(error):
            raise
        raise UserError(f"{place.launcher}: a process of the training has ended ({error})") from None


def tell(message: Any) -> Any:
    """What rank 0 says, in every process: anything that JSON can hold."""
    data = json.dumps(message).encode()
    length = torch.tensor([len(data)])
    torch.distributed.broadcast(length, 0)
    if torch.distributed.get_rank() != 0:
        data = bytes(int(length))
    values = torch.tensor(list(data), dtype=torch.uint8)
    torch.distributed.broadcast(values, 0)
    return json.loads(bytes(values.tolist()))


def lost_another(error: RuntimeError) -> bool:
    """Whether a sum failed because another process has ended; the words are torch.distributed's and gloo's."""
    return any(words in str(error) for words in ("is gone", "Connection closed", "Connection reset"))


def leave() -> None:
    """Leave the process group, if this process is in one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def join(rank: int, address: dict[str, str]) -> None:
    """Enter the process group at `address`, whose entries are those of the environment that torchrun sets."""
    size = int(address["WORLD_SIZE"])
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, torch.get_num_threads() // size))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(
        backend,
        init_method=f"tcp://{address['MASTER_ADDR']}:{address['MASTER_PORT']}",
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )


def _ended(workers: dict[int, subprocess.Popen[bytes]]) -> int | None:
    """A worker that has ended, after a moment in which one that is ending can end."""
    for _ in range(10):
        for rank, worker in workers.items():
            if worker.poll() is not None:
                return rank
        time.sleep(0.1)
    return None


def _lost(rank: int, worker: subprocess.Popen[bytes], run: Path) -> UserError:
    file = run / f"process-{rank}.log"
    lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = f"; its last words: {lines[-1][:200]}" if lines else ""
    return UserError(f"process {rank} of the training ended with exit code {worker.returncode}{said} ({file})")


def _watch(workers: dict[int, subprocess.Popen[bytes]], over: threading.Event, run: Path) -> None:
    """End this process if another is gone and this one has not noticed: a sum on the cards waits for ever."""
    while not over.wait(_LOOK):
        lost = [rank for rank, worker in workers.items() if worker.poll() is not None]
        if lost and not over.wait(60.0):
            print(f"jdiff: error: {_lost(lost[0], workers[lost[0]], run)}", file=sys.stderr, flush=True)
            os._exit(1)


def follow(parent: int) -> None:
    """End this worker when its main process, number `parent`, is gone; never returns."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(ALONE_AGAIN)
