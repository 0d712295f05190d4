"""Processes that add up their tensors: the part of ``torch.distributed`` that data-parallel training needs.

`is_available` says False all the same. Libraries that hear True import sharded training, RPC and distributed tensors, and
those are not here. `init_process_group` and what follows it work, for tensors on the CPU ("gloo") over TCP, for tensors on
a card ("nccl") over NCCL, through cupy.
"""

from .._missing import module_getattr
from ._group import (
    ProcessGroup,
    ReduceOp,
    all_reduce,
    barrier,
    broadcast,
    destroy_process_group,
    get_backend,
    get_rank,
    get_world_size,
    init_process_group,
    is_initialized,
    is_nccl_available,
)  # fmt: skip

__all__ = [
    "ProcessGroup", "ReduceOp", "all_reduce", "barrier", "broadcast", "destroy_process_group", "get_backend", "get_rank",
    "get_world_size", "init_process_group", "is_available", "is_gloo_available", "is_initialized", "is_mpi_available",
    "is_nccl_available", "is_torchelastic_launched",
]  # fmt: skip


def is_available():
    return False


def is_mpi_available():
    return False


def is_gloo_available():
    return True


def is_torchelastic_launched():
    return False


__getattr__ = module_getattr("torch.distributed")
