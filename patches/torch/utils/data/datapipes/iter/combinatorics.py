"""Pipes that change the order of samples."""

import random

import torch

from ....._missing import module_getattr
from ...dataset import IterableDataset

__all__ = ["ShufflerIterDataPipe"]


class ShufflerIterDataPipe(IterableDataset):
    """Shuffles a stream through a buffer of ``buffer_size`` samples.

    Each pass is seeded from `set_seed` or, without it, from torch's global generator. The order is this backend's own.
    """

    def __init__(self, datapipe, *, buffer_size=10000, unbatch_level=0):
        if buffer_size <= 0:
            raise ValueError("buffer_size should be larger than 0")
        if unbatch_level != 0:
            raise NotImplementedError("ShufflerIterDataPipe: unbatch_level is not implemented in torch on Jittor")
        self.datapipe = datapipe
        self.buffer_size = buffer_size
        self._enabled = True
        self._seed = None

    def set_shuffle(self, shuffle=True):
        """Switch shuffling on or off."""
        self._enabled = shuffle
        return self

    def set_seed(self, seed):
        """Fix the seed of the next pass."""
        self._seed = seed
        return self

    def __iter__(self):
        if not self._enabled:
            yield from self.datapipe
            return
        seed = int(torch.empty((), dtype=torch.int64).random_().item()) if self._seed is None else self._seed
        self._seed = None
        rng = random.Random(seed)
        buffer = []
        for sample in self.datapipe:
            if len(buffer) == self.buffer_size:
                i = rng.randrange(len(buffer))
                buffer[i], sample = sample, buffer[i]
                yield sample
            else:
                buffer.append(sample)
        rng.shuffle(buffer)
        yield from buffer

    def __len__(self):
        return len(self.datapipe)


__getattr__ = module_getattr(__name__)
