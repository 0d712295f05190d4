"""Checkpoints that survive a crash at any moment.

A checkpoint is a folder `checkpoints/step-00001000/` with the weights (a LoRA in diffusers format, usable as it is), the
optimiser's state and a manifest of sizes and SHA-256. It is written under a temporary name, flushed to the disk and
renamed, so a folder with the final name is complete; the manifest finds later damage.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Optional

from jdiff_style.errors import UserError
from jdiff_style.runs import how_to_resume

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

FOLDER, MANIFEST, OPTIMIZER_FILE = "checkpoints", "manifest.json", "optimizer.safetensors"


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimiser steps lies."""
    return run / FOLDER / f"step-{step:08d}"


def list_checkpoints(run: Path) -> list[tuple[int, Path]]:
    """(step, folder) of the finished checkpoints of a run, newest first; damage is not looked for."""
    found = [(int(m[1]), p) for p in (run / FOLDER).glob("step-*") if (m := re.fullmatch(r"step-(\d+)", p.name))]
    return sorted(found, reverse=True)


def write_checkpoint(run: Path, step: int, write: Callable[[Path], None], keep: int, needed_bytes: int = 0) -> Path:
    """Let `write` fill a folder and make it the checkpoint of `step`; then remove all but the newest `keep`.

    `needed_bytes` is the expected size: too little free space is noticed before anything is written. Raises UserError
    if the disk is full or not writable; the earlier checkpoints are then untouched and nothing half-written stays.
    """
    target = checkpoint_path(run, step)
    temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    with disk_trouble(run, f"the checkpoint of step {step}"):
        _write(target, temporary, step, write, needed_bytes)
    for _, old in list_checkpoints(run)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _write(target: Path, temporary: Path, step: int, write: Callable[[Path], None], needed_bytes: int) -> None:
    try:
        target.parent.mkdir(exist_ok=True)
        for old in target.parent.glob(".tmp-*"):  # left by a killed process; the run is locked, so nobody is writing it
            shutil.rmtree(old)
        free = shutil.disk_usage(target.parent).free
        if free < needed_bytes:
            raise OSError(
                errno.ENOSPC,
                f"No space left on device ({needed_bytes / 2**20:.1f} MiB needed, {free / 2**20:.1f} MiB free)",
            )
        temporary.mkdir()
        write(temporary)
        files = sorted(temporary.iterdir())
        manifest = {"step": step, "files": {f.name: {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in files}}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        for file in [*files, temporary / MANIFEST]:
            _sync(file)
        _sync(temporary)
        if target.exists():  # a damaged one, or the same step saved again
            shutil.rmtree(target)
        temporary.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def newest_good(run: Path) -> Optional[tuple[int, Path]]:
    """(step, folder) of the newest undamaged checkpoint, None if there is none yet.

    A damaged one is named in the log and the one before it is taken. Raises UserError if there are some and all are
    damaged.
    """
    all_found = list_checkpoints(run)
    for step, folder in all_found:
        fault = find_damage(folder)
        if fault is None:
            return step, folder
        log.warning("checkpoint %s is damaged (%s); trying the one before it", folder.name, fault)
    if all_found:
        raise UserError(
            f"{run}: all {len(all_found)} checkpoints are damaged; remove {run / FOLDER} to start again from step 0"
        )
    return None


def find_damage(folder: Path) -> Optional[str]:
    """What is wrong with a checkpoint, in words, or None if every file has the size and SHA-256 of the manifest."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, expected in files.items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
            if sha256(file) != expected["sha256"]:
                return f"{name} has changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is unreadable"
    return None


def sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Write the state of an optimiser, not its rates, into `folder`; names are `parameter number.state name`."""
    import numpy as np
    import safetensors.numpy

    tensors = {
        f"{index}.{name}": np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    safetensors.numpy.save_file(tensors, str(folder / OPTIMIZER_FILE))


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Take the state written by `save_optimizer`, bit for bit."""
    import safetensors.numpy
    import torch

    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in safetensors.numpy.load_file(str(folder / OPTIMIZER_FILE)).items():
        index, _, name = key.partition(".")
        states.setdefault(int(index), {})[name] = torch.tensor(value)
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_trouble(run: Path, what: str) -> Iterator[None]:
    """Turn a full, read-only or failing disk met while writing `what` into one sentence that names the last checkpoint.
    """
    kinds = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
    try:
        yield
    except Exception as error:
        # safetensors, written in Rust, reports the same troubles under its own type.
        if not ((isinstance(error, OSError) and error.errno in kinds) or type(error).__name__ == "SafetensorError"):
            raise
        earlier = list_checkpoints(run)
        kept = f"the last good checkpoint is that of step {earlier[0][0]}" if earlier else "there is no checkpoint yet"
        raise UserError(
            f"cannot write {what} in {run}: {getattr(error, 'strerror', None) or error}; {kept}. "
            f"Free some space. {how_to_resume(run)}"
        ) from None
