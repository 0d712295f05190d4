"""Training whose processes mpirun or torchrun started, all on one machine: `mpirun -np 2 jdiff train …`.

Each process runs the same command. Rank 0 makes the run folder and does what one process would do; the others hear from it
which run that is, compute their shares and write nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Mapping, Optional

from jdiff_style.errors import UserError
from jdiff_style.gpus import refuse_too_few, usable_gpus

# What each launcher says: rank, number of processes, number of those on this machine.
_VARIABLES = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    "mpiexec": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),  # MPICH and what comes from it
}
_PORT = "29500"  # torchrun's; two trainings at once need two values of MASTER_PORT


@dataclass(frozen=True)
class Place:
    """This process among those that a launcher started."""

    launcher: str
    rank: int
    size: int
    address: dict[str, str]


def place(environment: Mapping[str, str] = os.environ) -> Optional[Place]:
    """Where a launcher put this process; None if it started only one. UserError if some are on other machines."""
    for launcher, (rank, size, local_size) in _VARIABLES.items():
        if rank in environment and size in environment and int(environment[size]) > 1:
            if int(environment.get(local_size, environment[size])) != int(environment[size]):
                raise UserError(f"{launcher}: the processes of a training must be on one machine")
            address = {
                "MASTER_ADDR": environment.get("MASTER_ADDR", "127.0.0.1"),
                "MASTER_PORT": environment.get("MASTER_PORT", _PORT),
                "WORLD_SIZE": environment[size],
            }
            return Place(launcher, int(environment[rank]), int(environment[size]), address)
    return None


def claim_gpu(place: Place, device: str) -> None:
    """Let this process see only its own GPU. To be called before torch is imported. UserError if there are too few."""
    gpus = usable_gpus(device)
    refuse_too_few(gpus, place.size, f"{place.launcher}: {place.size} processes")
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place.rank]
