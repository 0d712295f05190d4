"""CUDA as far as Jittor has it: true about what is there, an error for what is not."""

from .. import _raw
from .._missing import module_getattr


def _toolkit_version():
    """CUDA version Jittor compiles with, for example "12.2"; None when it runs on the CPU."""
    jt = _raw.jt
    if not jt.has_cuda:
        return None
    from jtorch import startup

    return getattr(startup, "cuda_version", lambda: None)()


# Several kernels (rows by index, sums, norms, attention, products) are C++ only so far. Until each has its CUDA side a
# tensor "on cuda" would be computed on the CPU, and saying otherwise would be a lie.
_READY = False


def is_available():
    return _READY and bool(_raw.jt.has_cuda) and device_count() > 0


def is_initialized():
    return is_available()


def is_bf16_supported():
    return is_available()


def device_count():
    return int(_raw.jt.core.get_device_count()) if _READY and _raw.jt.has_cuda else 0


def _require():
    if not is_available():
        raise AssertionError("Torch not compiled with CUDA enabled: this release of torch on Jittor computes on the CPU")


def current_device():
    _require()
    return 0


def set_device(device):
    _require()


def synchronize(device=None):
    """Wait for all pending kernels. Without a device this raises, as in PyTorch."""
    _require()
    _raw.jt.sync_all(True)


def empty_cache():
    """Give cached device memory back."""
    if is_available():
        _raw.jt.gc()


def ipc_collect():
    """Free memory of other processes' tensors: there is no sharing between processes here."""


def manual_seed(seed):
    """Seed of the device generators. Numbers are drawn on the CPU here, so nothing needs seeding on a device."""
    if is_available():
        from .. import random

        random.default_generator.manual_seed(seed)


manual_seed_all = manual_seed


def get_rng_state_all():
    return []


def set_rng_state_all(states):
    if len(states):
        raise RuntimeError("torch.cuda.set_rng_state_all: device generators do not exist in torch on Jittor")


def is_current_stream_capturing():
    return False


default_generators = ()
__getattr__ = module_getattr("torch.cuda")
