"""Which GPUs the workers of a generation share: one each, which is all that a worker sees."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

from jdiff_style.errors import UserError

_QUESTION = "import torch; print('GPUs:', torch.cuda.device_count() if torch.cuda.is_available() else 0)"


def usable_gpus(device: str) -> list[str]:
    """What to put into CUDA_VISIBLE_DEVICES, one entry for each GPU that torch can compute on; empty for the CPU.

    torch is asked in a process of its own, so this one stays without it, and only where there is a driver. Entries that
    CUDA_VISIBLE_DEVICES has already are kept as they are: numbers, or names such as ``GPU-8932f937``.

    Args:
        device: ``auto``, ``cuda`` or ``cpu``.
    """
    if device == "cpu" or not _has_driver():
        return []
    done = subprocess.run([sys.executable, "-c", _QUESTION], capture_output=True, text=True, check=False)
    answers = [line for line in done.stdout.splitlines() if line.startswith("GPUs: ")]
    count = int(answers[-1].split()[1]) if done.returncode == 0 and answers else 0  # the workers will say what is wrong
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    entries = [str(number) for number in range(count)] if listed is None else [part.strip() for part in listed.split(",")]
    return entries[:count]


def refuse_too_few(gpus: list[str], processes: int, asked: str) -> None:
    """Raise UserError, which begins with `asked`, if there are GPUs and not one for each process."""
    if gpus and processes > len(gpus):
        found = f"{len(gpus)} GPU{'s' * (len(gpus) > 1)}"
        raise UserError(f"{asked}, but {found} can be used; give at most that many")


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
