"""Memory of the card. Jittor keeps a pool and counts what it has taken from the driver; what of it tensors use at the moment
it does not tell per tensor, so ``memory_allocated`` is the pool's size too, never less than what tensors hold."""

import collections
import ctypes

from .. import _raw
from .._missing import module_getattr

__all__ = [
    "OutOfMemoryError", "empty_cache", "max_memory_allocated", "max_memory_reserved", "mem_get_info", "memory_allocated",
    "memory_reserved", "memory_stats", "reset_max_memory_allocated", "reset_peak_memory_stats",
    "set_per_process_memory_fraction",
]

_peak = 0  # bytes, as seen by the functions below; Jittor keeps no peak


class OutOfMemoryError(RuntimeError):
    """The card's memory is used up."""


def _on():
    from torch import cuda

    return cuda.is_initialized()


def _used():
    global _peak
    if not _on():
        return 0
    used = int(_raw.jt.core.get_mem_info().total_cuda_used)
    _peak = max(_peak, used)
    return used


def memory_reserved(device=None):
    """Bytes that Jittor has taken from the card; 0 while it is not in use."""
    return _used()


def memory_allocated(device=None):
    """The same as `memory_reserved`: see the module text."""
    return _used()


def max_memory_reserved(device=None):
    """The most bytes at any call of a function of this module since `reset_peak_memory_stats`. Jittor keeps no peak: what
    was taken and given back between two calls is not in it."""
    _used()
    return _peak if _on() else 0


def max_memory_allocated(device=None):
    """As `max_memory_reserved`."""
    return max_memory_reserved(device)


def memory_stats(device=None):
    """The figures above under PyTorch's names; empty while the card is not in use."""
    if not _on():
        return collections.OrderedDict()
    used, peak = _used(), max_memory_reserved()
    return collections.OrderedDict(
        (f"{kind}_bytes.all.{when}", value)
        for kind in ("allocated", "reserved") for when, value in (("current", used), ("peak", peak)))


def reset_peak_memory_stats(device=None):
    """Begin a new peak with what is in use now."""
    global _peak
    from torch import cuda

    cuda.init()
    _peak = 0
    _used()


def reset_max_memory_allocated(device=None):
    """As `reset_peak_memory_stats`."""
    reset_peak_memory_stats(device)


def mem_get_info(device=None):
    """(free, total) bytes of the card, of all processes, from the driver."""
    from torch import cuda

    cuda._index(device)
    free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
    code = ctypes.CDLL(None).cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))  # Jittor has loaded the runtime
    if code:
        raise RuntimeError(f"CUDA error: cudaMemGetInfo gives code {code}")
    return free.value, total.value


def empty_cache():
    """Give cached device memory back. Nothing while the card is not in use."""
    if _on():
        _raw.jt.gc()


def set_per_process_memory_fraction(fraction, device=None):
    """Raises NotImplementedError: Jittor's pool has no limit."""
    raise NotImplementedError("torch.cuda.set_per_process_memory_fraction: Jittor's memory pool has no limit to set")


__getattr__ = module_getattr(__name__)
