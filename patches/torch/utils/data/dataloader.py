"""The data loader."""

import itertools
import multiprocessing
import os
import warnings
from typing import Generic, TypeVar

from ..._missing import module_getattr
from . import _utils
from ._utils.collate import default_collate, default_convert
from ._utils.info import get_worker_info
from ._utils.iterators import SingleProcessIterator, WorkerIterator
from .dataset import Dataset, IterableDataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

__all__ = ["DataLoader", "Dataset", "default_collate", "default_convert", "get_worker_info"]

T_co = TypeVar("T_co", covariant=True)
_BaseDataLoaderIter = _utils.iterators._BaseIterator
_SingleProcessDataLoaderIter = SingleProcessIterator
_MultiProcessingDataLoaderIter = WorkerIterator


class _DatasetKind:
    Map = 0
    Iterable = 1


class _InfiniteConstantSampler(Sampler):
    """Feeds iterable datasets, which need no indices."""

    def __iter__(self):
        return itertools.repeat(None)


class DataLoader(Generic[T_co]):
    """Iterates over a dataset in batches, in this process or with worker processes.

    Args:
        dataset: a map-style dataset, or an `IterableDataset` (then no ``shuffle``, ``sampler`` or ``batch_sampler``).
        batch_size: samples per batch; None hands out single samples, only converted.
        shuffle: a fresh random order in every pass; ``sampler`` or ``batch_sampler`` give the order themselves.
        num_workers: worker processes; 0 loads in this process. Workers are forked on Linux (``multiprocessing_context``
            chooses "spawn" or "forkserver"). They run on one thread and without the GPU; tensors come back through host
            memory. A dead worker is an error that names it; an exception in a worker is raised here with its traceback.
        collate_fn: list of samples → batch; default `default_collate`.
        pin_memory: accepted; without effect, because this backend has no pinned host memory (a warning says so).
        drop_last: leave out a shorter last batch.
        timeout: seconds to wait for a batch from the workers; 0 waits for ever.
        worker_init_fn: called with the worker's number after seeding.
        generator: `torch.Generator` for the order and for the workers' seeds; default: the global one.
        prefetch_factor: batches loaded ahead per worker (default 2).
        persistent_workers: keep the workers between passes.
        in_order: must be True.

    Raises `ValueError` for options that exclude each other. The samples' order, and every worker's random numbers,
    equal PyTorch's for the same seed.
    """

    _iterator = None
    __initialized = False
    __multiprocessing_context = None

    def __init__(self, dataset, batch_size=1, shuffle=None, sampler=None, batch_sampler=None, num_workers=0,
                 collate_fn=None, pin_memory=False, drop_last=False, timeout=0, worker_init_fn=None,
                 multiprocessing_context=None, generator=None, *, prefetch_factor=None, persistent_workers=False,
                 pin_memory_device="", in_order=True):
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError("prefetch_factor option could only be specified in multiprocessing: set num_workers > 0 "
                             "to enable multiprocessing, otherwise leave prefetch_factor as None.")
        if prefetch_factor is not None and prefetch_factor < 1:
            raise ValueError(f"prefetch_factor: {prefetch_factor} is not positive; 2 is the default")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        if not in_order:
            raise NotImplementedError("in_order=False is not implemented in torch on Jittor: batches come in order")
        if pin_memory:
            warnings.warn("pin_memory=True has no effect: torch on Jittor has no pinned host memory.", stacklevel=2)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers > 0 and prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.in_order = in_order
        if isinstance(dataset, IterableDataset):
            self._dataset_kind = _DatasetKind.Iterable
            for name, value in (("shuffle", shuffle or None), ("sampler", sampler), ("batch_sampler", batch_sampler)):
                if value is not None:
                    raise ValueError(f"DataLoader with IterableDataset: expected unspecified {name} option, but got "
                                     f"{name}={value}")
            sampler = _InfiniteConstantSampler()
        else:
            self._dataset_kind = _DatasetKind.Map
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last")
            batch_size = None
            drop_last = False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.generator = generator
        if collate_fn is None:
            collate_fn = default_collate if self._auto_collation else default_convert
        self.collate_fn = collate_fn
        self.persistent_workers = persistent_workers
        self.__initialized = True
        self._IterableDataset_len_called = None
        self._iterator = None
        self._warn_too_many_workers()

    @property
    def multiprocessing_context(self):
        """The start method's context from `multiprocessing`, or None for the default."""
        return self.__multiprocessing_context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context):
        if context is not None:
            if self.num_workers == 0:
                raise ValueError("multiprocessing_context can only be used with multi-process loading (num_workers > "
                                 f"0), but got num_workers={self.num_workers}")
            if isinstance(context, str):
                valid = multiprocessing.get_all_start_methods()
                if context not in valid:
                    raise ValueError(f"multiprocessing_context should be one of {valid}, but got {context!r}")
                context = multiprocessing.get_context(context)
            if not isinstance(context, multiprocessing.context.BaseContext):
                raise TypeError("multiprocessing_context option should be a valid context object or a string "
                                f"specifying the start method, but got {type(context).__name__}")
        self.__multiprocessing_context = context

    def __setattr__(self, name, value):
        if self.__initialized and name in (
                "batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"):
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    def __iter__(self):
        if self.persistent_workers and self.num_workers > 0:
            if self._iterator is None or self._iterator.stopped:
                self._iterator = self._get_iterator()
            else:
                self._iterator.restart(self)
            return self._iterator
        return self._get_iterator()

    def _get_iterator(self):
        return SingleProcessIterator(self) if self.num_workers == 0 else WorkerIterator(self)

    @property
    def _auto_collation(self):
        return self.batch_sampler is not None

    @property
    def _index_sampler(self):
        return self.batch_sampler if self._auto_collation else self.sampler

    def __len__(self):
        """Batches in a pass; for an iterable dataset its own (approximate) length is used."""
        if self._dataset_kind == _DatasetKind.Map:
            return len(self._index_sampler)
        length = self._IterableDataset_len_called = len(self.dataset)
        if self.batch_size is None:
            return length
        return length // self.batch_size if self.drop_last else -(-length // self.batch_size)

    def _check_length(self, yielded):
        """Warn when an iterable dataset hands out more than the length somebody has asked for."""
        expected = self._IterableDataset_len_called
        if self._dataset_kind == _DatasetKind.Iterable and expected is not None and yielded > expected:
            hint = (" With worker processes each holds a copy of the dataset: split the work with get_worker_info()."
                    if self.num_workers > 0 else "")
            warnings.warn(f"Length of IterableDataset {self.dataset} was reported to be {expected}, but {yielded} "
                          f"samples have been fetched.{hint}", stacklevel=3)

    def _warn_too_many_workers(self):
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if cpus and self.num_workers > cpus:
            warnings.warn(f"This DataLoader will create {self.num_workers} worker processes in total. Our suggested "
                          f"max number of worker in current system is {cpus}, which is smaller than what this "
                          "DataLoader is going to create: loading may become slow.", stacklevel=3)


__getattr__ = module_getattr(__name__)

