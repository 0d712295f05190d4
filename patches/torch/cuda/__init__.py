"""CUDA as far as Jittor has it: true about what is there, PyTorch's own errors where there is nothing.

Jittor computes in one place for the whole process. A process that was started with CUDA (see jtorch.cuda) begins on the
CPU; the first tensor that is put on the card switches Jittor there, and from then on every kernel runs on the card, also
those of tensors on "cpu": where a tensor says it is decides what may be combined and where results say they are, not where
the arithmetic is done. Small host data (0-dim values, integers, schedules) stay on the host. One card a process:
others are reached by starting one process for each with CUDA_VISIBLE_DEVICES.
"""

import functools
from typing import NamedTuple

from jtorch import cuda_device
from jtorch.kernels import active

from .. import _raw
from .._dtype import CUDA
from .._dtype import device as _device
from .._missing import module_getattr
from . import memory, streams
from .memory import (
    OutOfMemoryError,
    empty_cache,
    max_memory_allocated,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    reset_max_memory_allocated,
    reset_peak_memory_stats,
    set_per_process_memory_fraction,
)
from .streams import Event, ExternalStream, Stream, current_stream, default_stream, set_stream, stream

__all__ = [
    "Event", "ExternalStream", "OutOfMemoryError", "Stream", "can_device_access_peer", "current_device", "current_stream",
    "default_generators", "default_stream", "device", "device_count", "device_of", "empty_cache", "get_arch_list",
    "get_device_capability", "get_device_name", "get_device_properties", "get_gencode_flags", "get_rng_state",
    "get_rng_state_all", "init", "initial_seed", "ipc_collect", "is_available", "is_bf16_supported",
    "is_current_stream_capturing", "is_initialized", "manual_seed", "manual_seed_all", "max_memory_allocated",
    "max_memory_reserved", "mem_get_info", "memory", "memory_allocated", "memory_reserved", "memory_stats",
    "reset_max_memory_allocated", "reset_peak_memory_stats", "seed", "seed_all", "set_device",
    "set_per_process_memory_fraction", "set_rng_state", "set_rng_state_all", "set_stream", "stream", "streams",
    "synchronize",
]

default_generators = ()


def _toolkit_version():
    """CUDA version Jittor compiles with, for example "12.2"; None when it runs on the CPU."""
    if not _raw.jt.has_cuda:
        return None
    from jtorch import startup

    return startup.cuda_version()


def is_available():
    """Whether this process was started with CUDA and a card."""
    return bool(_raw.jt.has_cuda) and device_count() > 0


def device_count():
    """Cards that the driver shows to this process; it computes on the first."""
    return len(cuda_device.query().devices) if _raw.jt.has_cuda else 0


def is_initialized():
    """Whether Jittor has been switched to the card."""
    return active.CARD


def init():
    """Switch Jittor to the card. Raises AssertionError without one, as PyTorch's CPU build does."""
    if not _raw.jt.has_cuda:
        raise AssertionError("Torch not compiled with CUDA enabled: this process computes on the CPU, and `jdiff doctor` "
                             "says why")
    if not active.CARD:
        active.use_card()


def place(device):
    """Where tensors made for ``device`` (a `torch.device` of type cuda) are, after switching Jittor there: cuda:0.

    Raises:
        AssertionError: no card. RuntimeError: another card than the first.
    """
    _index(device)
    return CUDA


def _index(device=None, optional=True):
    """The number of the card that ``device`` (None, number, text, `torch.device`) means; switches Jittor to it."""
    if device is not None and not isinstance(device, int):
        d = _device(device)
        if d.type != "cuda":
            raise ValueError(f"Expected a cuda device, but got: {d}")
        device = d.index
    elif device is None and not optional:
        raise ValueError("Expected a torch.device with a specified index or an integer, but got:None")
    init()
    number = 0 if device is None else device
    if number >= device_count():
        raise RuntimeError(f"CUDA error: invalid device ordinal: cuda:{number}, and there are {device_count()}")
    if number > 0:
        raise RuntimeError(f"cuda:{number}: Jittor computes on one card a process; start another process with "
                           f"CUDA_VISIBLE_DEVICES={number} and use cuda:0 there")
    return max(number, 0)


def current_device():
    """The number of the card in use: 0."""
    init()
    return 0


def set_device(device):
    """Choose the card; only the first can be chosen. A negative number does nothing, as in PyTorch."""
    if not (isinstance(device, int) and device < 0):
        _index(device, optional=False)


class device:
    """Context in which a card is the current one; a negative number changes nothing."""

    def __init__(self, device):
        self.idx = device if isinstance(device, int) else _device(device).index if device is not None else -1

    def __enter__(self):
        if self.idx is not None and self.idx >= 0:
            if not is_available():
                raise RuntimeError("PyTorch was compiled without CUDA support")
            _index(self.idx)

    def __exit__(self, *exc):
        return False


class device_of(device):
    """Context of the card that a tensor is on; nothing for a tensor on the CPU."""

    def __init__(self, obj):
        super().__init__(obj.get_device() if obj.is_cuda else -1)


class _Properties(NamedTuple):
    """What is known of a card; memory in bytes."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int


@functools.cache
def _card(number):
    card = cuda_device.query().devices[number]
    return _Properties(card.name, *card.capability, card.memory, card.multiprocessors)


def get_device_properties(device=None):
    """Name, compute capability, memory and multiprocessors of a card."""
    return _card(_index(device))


def get_device_name(device=None):
    """For example "NVIDIA H100 80GB HBM3"."""
    return get_device_properties(device).name


def get_device_capability(device=None):
    """For example (9, 0)."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


def can_device_access_peer(device, peer_device):
    """False: a process sees one card."""
    _index(device)
    return False


def get_arch_list():
    """What kernels are compiled for: ``["sm_90", "compute_90"]``; empty on the CPU."""
    if not is_available():
        return []
    archs = sorted(_raw.jt.flags.cuda_archs)
    return [*(f"sm_{arch}" for arch in archs), f"compute_{archs[0]}"]


def get_gencode_flags():
    """The same as nvcc's flags; empty on the CPU."""
    return " ".join(f"-gencode compute=compute_{arch[3:]},code={arch}" for arch in get_arch_list() if arch.startswith("sm_"))


def is_bf16_supported(including_emulation=True):
    """Whether cards compute in bfloat16; with ``including_emulation`` also those that do it in float32."""
    return is_available() and (including_emulation or _card(0).major >= 8)


def synchronize(device=None):
    """Wait for all pending kernels. Without a card this raises, as in PyTorch."""
    _index(device)
    _raw.jt.sync_all(True)


def ipc_collect():
    """Free memory of other processes' tensors: there is no sharing between processes here."""
    init()


def is_current_stream_capturing():
    """False: there are no CUDA graphs."""
    return False


# --- random numbers: drawn on the CPU for every device, so that pictures do not depend on it -----------------------------
def manual_seed(seed):
    """Seed of the card's numbers, which are the CPU generator's; without a card nothing, as in PyTorch."""
    if is_available():
        from .. import random

        random.default_generator.manual_seed(seed)


def seed():
    """A seed from the system's entropy, for the card's numbers."""
    if is_available():
        from .. import random

        random.default_generator.seed()


manual_seed_all, seed_all = manual_seed, seed


def initial_seed():
    """The seed of the card's numbers."""
    init()
    from .. import random

    return random.default_generator.initial_seed()


def get_rng_state(device="cuda"):
    """The state of the card's numbers: the CPU generator's."""
    _index(device)
    from .. import random

    return random.default_generator.get_state()


def set_rng_state(new_state, device="cuda"):
    """Set the state of the card's numbers; nothing without a card, as in PyTorch, which defers it."""
    if is_available():
        from .. import random

        random.default_generator.set_state(new_state)


def get_rng_state_all():
    """The states of all cards' numbers: empty, they are the CPU generator's, whose state is saved anyway."""
    return []


def set_rng_state_all(new_states):
    """Restore what `get_rng_state_all` gave. Raises RuntimeError for states of real cards' generators."""
    if len(new_states):
        raise RuntimeError("torch.cuda.set_rng_state_all: device generators do not exist in torch on Jittor")


__getattr__ = module_getattr("torch.cuda")
