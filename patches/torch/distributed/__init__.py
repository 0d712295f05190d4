"""One process: the distributed package says it is not available, as a PyTorch built without it does."""

from .._missing import module_getattr


def is_available():
    return False


def is_initialized():
    return False


def is_mpi_available():
    return False


def is_nccl_available():
    return False


def is_gloo_available():
    return False


def is_torchelastic_launched():
    return False


__getattr__ = module_getattr("torch.distributed")
