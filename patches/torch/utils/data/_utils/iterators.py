"""The two iterators behind `DataLoader`: in this process, and with workers."""

import itertools
import multiprocessing
import os
import signal
import sys
import time
import weakref
from multiprocessing import connection as mp_connection

import torch

from . import transport
from .fetch import create_fetcher
from .worker import EndOfData, WorkerError, worker_loop

_parent_ends = set()  # this process's ends of all connections: a forked worker must close its copies of them
_STOP_S = 5.0  # how long a worker may finish its batch before it is terminated, seconds


class _BaseIterator:
    def __init__(self, loader):
        self._loader = loader
        self._dataset = loader.dataset
        self._iterable = loader._dataset_kind != 0
        self._start(loader)
        # Drawn also without workers: the order of the samples must not depend on the number of workers.
        self._base_seed = torch.empty((), dtype=torch.int64).random_(generator=loader.generator).item()

    def _start(self, loader):
        self._sampler_iter = iter(loader._index_sampler)
        self._num_yielded = 0

    def __iter__(self):
        return self

    def __len__(self):
        return len(self._loader._index_sampler)

    def __next__(self):
        if self._sampler_iter is None:  # the last pass of persistent workers is over
            raise StopIteration
        data = self._next_data()
        self._num_yielded += 1
        self._loader._check_length(self._num_yielded)
        return data

    def __getstate__(self):
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled")


class SingleProcessIterator(_BaseIterator):
    """Loads each batch when it is asked for."""

    def __init__(self, loader):
        super().__init__(loader)
        self._fetcher = create_fetcher(
            self._iterable, loader.dataset, loader._auto_collation, loader.collate_fn, loader.drop_last)

    def _next_data(self):
        return self._fetcher.fetch(next(self._sampler_iter))


def _stop_workers(processes, connections, owner):
    """Close the connections, let the workers finish, then make them."""
    if os.getpid() != owner:
        return  # a forked copy of the iterator
    for conn in connections:
        conn.close()
    _parent_ends.difference_update(connections)
    deadline = time.monotonic() + _STOP_S
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for how in ("terminate", "kill"):
        left = [process for process in processes if process.is_alive()]
        for process in left:
            getattr(process, how)()
        for process in left:
            process.join(1.0)


def _before_fork():
    """Run this process's pending kernels: a forked child would run them again."""
    raw = getattr(torch, "_raw", None)
    if raw is not None:
        raw.jt.sync_all(True)


class WorkerIterator(_BaseIterator):
    """Batches from worker processes, in the sampler's order.

    Batch k goes to the next worker in turn that still has data, as in PyTorch. Each worker has a connection of its own
    and answers in order, so the next batch is simply read from the worker that has it; no lock is shared, and a worker
    that dies is seen at once.
    """

    def __init__(self, loader):
        super().__init__(loader)
        self._timeout = loader.timeout
        self._prefetch = loader.prefetch_factor * loader.num_workers
        context = loader.multiprocessing_context or multiprocessing.get_context(
            "fork" if sys.platform == "linux" else "spawn")
        forked = context.get_start_method() == "fork"
        if forked:
            _before_fork()
        job = {
            "dataset": loader.dataset, "iterable": self._iterable, "auto_collation": loader._auto_collation,
            "collate_fn": loader.collate_fn, "drop_last": loader.drop_last, "base_seed": self._base_seed,
            "worker_init_fn": loader.worker_init_fn, "num_workers": loader.num_workers,
        }
        self._connections, self._processes = [], []
        self._finalizer = weakref.finalize(self, _stop_workers, self._processes, self._connections, os.getpid())
        for i in range(loader.num_workers):
            ours, theirs = context.Pipe()
            self._connections.append(ours)
            _parent_ends.add(ours)
            inherited = list(_parent_ends) if forked else []
            process = context.Process(target=worker_loop, args=(theirs, inherited, forked, job, i), daemon=True)
            process.start()
            self._processes.append(process)
            theirs.close()  # the worker's death must close the connection
        self._begin_pass()

    def _begin_pass(self):
        self._pass = getattr(self, "_pass", -1) + 1
        self._turn = itertools.cycle(range(len(self._processes)))
        self._alive = [True] * len(self._processes)
        self._owner = {}  # task number -> worker
        self._sent = self._received = 0
        for _ in range(self._prefetch):
            self._send_task()

    def restart(self, loader):
        """Start another pass with the same workers."""
        self._start(loader)
        for i in range(len(self._processes)):
            self._send(i, ("restart",))
        self._begin_pass()

    def _send(self, worker, order):
        try:
            transport.send(self._connections[worker], transport.pack(order))
        except (BrokenPipeError, ConnectionError):
            self._fail(worker)

    def _send_task(self):
        if not any(self._alive):
            return
        try:
            index = next(self._sampler_iter)
        except StopIteration:
            return
        worker = next(w for w in self._turn if self._alive[w])
        self._owner[self._sent] = worker
        self._send(worker, ("fetch", (self._pass, self._sent), index))
        self._sent += 1

    def _next_data(self):
        while True:
            while self._received < self._sent and not self._alive[self._owner[self._received]]:
                del self._owner[self._received]  # sent to a worker whose data had ended
                self._received += 1
            if self._received == self._sent:
                self._sampler_iter = None
                if not self._loader.persistent_workers:
                    self._finalizer()
                raise StopIteration
            worker = self._owner[self._received]
            data = self._receive(worker)
            if isinstance(data, EndOfData):
                self._alive[worker] = False
                self._send_task()
                continue
            del self._owner[self._received]
            self._received += 1
            self._send_task()
            if isinstance(data, WorkerError):
                data.reraise()
            return data

    def _receive(self, worker):
        """The next answer of ``worker`` that belongs to this pass."""
        conn, process = self._connections[worker], self._processes[worker]
        deadline = time.monotonic() + self._timeout if self._timeout > 0 else None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = mp_connection.wait([conn, process.sentinel], left)
            if not ready:
                raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds")
            if conn not in ready:
                self._fail(worker)
            try:
                (number, _), data = transport.receive(conn)
            except (EOFError, OSError):  # OSError: it died in the middle of a message
                self._fail(worker)
            except BaseException:  # Ctrl-C in the middle of a message: nothing after it can be read
                self._shutdown_workers()
                raise
            if number == self._pass:  # else: left over from a pass that was broken off
                return data

    def _fail(self, worker):
        process = self._processes[worker]
        process.join(1.0)
        code = process.exitcode
        how = "with exit code " + str(code)
        if code is not None and code < 0:
            how = f"by signal {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += ", perhaps for want of memory (use fewer workers, or num_workers=0)"
        self._sampler_iter = None
        self._finalizer()
        raise RuntimeError(f"DataLoader worker {worker} (pid {process.pid}) exited unexpectedly {how}")

    @property
    def stopped(self):
        """Whether the workers are gone."""
        return not self._finalizer.alive

    def _shutdown_workers(self):
        """Stop the workers now. The iterator cannot be used afterwards."""
        self._sampler_iter = None
        self._finalizer()
