"""The process that loads batches, and the errors it sends home."""

import os
import queue
import random
import signal
import threading
import traceback
from multiprocessing import connection as mp_connection

import numpy as np

import torch

from . import transport
from .fetch import create_fetcher
from .info import WorkerInfo, get_worker_info, set_worker_info

__all__ = ["EndOfData", "WorkerError", "WorkerInfo", "get_worker_info", "worker_loop"]

_PARENT_CHECK_S = 5.0  # how often an idle worker looks whether its parent is alive, seconds


class EndOfData:
    """Sent instead of a batch when a worker's iterable dataset has ended."""


class WorkerError:
    """An exception on its way from a worker to the main process.

    `reraise` raises the same type with the worker's traceback in the message; where that type cannot be built from one
    message, a `RuntimeError`.
    """

    def __init__(self, error, worker_id):
        where = f"in DataLoader worker process {worker_id}"
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.type = type(error)
        self.message = f"Caught {type(error).__name__} {where}.\nOriginal {trace}"

    def reraise(self):
        message = _Verbatim(self.message) if issubclass(self.type, KeyError) else self.message
        try:
            error = self.type(message)
        except Exception:  # the constructor wants other arguments
            error = RuntimeError(self.message)
        raise error


class _Verbatim(str):
    """KeyError shows the repr of its argument: keep the line breaks readable."""

    def __repr__(self):
        return str(self)


def _pack_error(key, error, worker_id):
    wrapped = WorkerError(error, worker_id)
    try:
        return transport.pack((key, wrapped))
    except Exception:  # a class that cannot be pickled, defined inside a function for example
        wrapped.type = RuntimeError
        return transport.pack((key, wrapped))


def _settle_child(forked):
    """Make this process safe: Ctrl-C is the parent's business, one thread, and no CUDA after a fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    raw = getattr(torch, "_raw", None)
    if raw is not None:
        raw.active.use_cpu()  # a CUDA context does not survive a fork, and one per worker costs gigabytes
    if forked and raw is not None:
        import jittor_utils.lock as lock

        lock.jittor_lock = lock.Lock(lock.lock_path)  # an inherited flock is shared with the parent and locks nothing


class _Sender(threading.Thread):
    """Writes finished batches while the worker loads the next: a pipe holds only 64 KiB."""

    def __init__(self, conn):
        super().__init__(daemon=True)
        self.conn = conn
        self.queue = queue.SimpleQueue()

    def run(self):
        while (message := self.queue.get()) is not None:
            try:
                transport.send(self.conn, message)
            except (BrokenPipeError, ConnectionError, OSError):
                return  # the parent has closed its end; the main thread sees it too


def worker_loop(conn, siblings, forked, job, worker_id):
    """Body of a worker process.

    Args:
        conn: this worker's end of its connection. Comes in: ``("fetch", key, index)``, ``("restart",)``; goes out:
            ``(key, batch | EndOfData | WorkerError)``, in order.
        siblings: the parent's ends that a forked child has inherited, to be closed.
        forked: whether this process shares the parent's state.
        job: the loader's settings, see `DataLoader`'s multi-process iterator.
        worker_id: 0-based number.
    """
    for other in siblings:
        other.close()
    _settle_child(forked)
    parent = os.getppid()
    seed = job["base_seed"] + worker_id
    random.seed(seed)
    torch.manual_seed(seed)
    entropy = [worker_id, job["base_seed"] & 0xFFFFFFFF, job["base_seed"] >> 32, 0]
    np.random.seed(np.random.SeedSequence(entropy).generate_state(4))
    dataset = job["dataset"]
    set_worker_info(WorkerInfo(id=worker_id, num_workers=job["num_workers"], seed=seed, dataset=dataset))
    sender = _Sender(conn)
    sender.start()

    def make_fetcher():
        return create_fetcher(job["iterable"], dataset, job["auto_collation"], job["collate_fn"], job["drop_last"])

    fetcher, broken, ended = None, None, False
    try:
        if job["worker_init_fn"] is not None:
            job["worker_init_fn"](worker_id)
        fetcher = make_fetcher()
    except Exception as error:
        broken = error
    while True:
        if not mp_connection.wait([conn], _PARENT_CHECK_S):
            if os.getppid() != parent:
                break
            continue
        try:
            order, *arguments = transport.receive(conn)
        except (EOFError, OSError):
            break
        if order == "restart":
            try:
                fetcher, ended = make_fetcher(), False
            except Exception as error:
                broken = error
            continue
        key, index = arguments
        if ended:
            continue  # the parent does not wait for these
        try:
            if broken is not None:
                raise broken
            try:
                data = fetcher.fetch(index)
            except StopIteration:
                if not job["iterable"]:
                    raise RuntimeError("the dataset's __getitem__ raised StopIteration") from None
                data, ended = EndOfData(), True
            message = transport.pack((key, data))
        except Exception as error:
            message = _pack_error(key, error, worker_id)
        sender.queue.put(message)
    sender.queue.put(None)
