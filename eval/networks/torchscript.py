"""Weights out of a TorchScript archive without TorchScript: its code is left aside, its records are read as data.

An archive is a zip file: ``NAME/data.pkl`` pickles the modules as objects of classes in ``__torch__``, whose state is a
dict of tensors and submodules; ``NAME/data/N`` are the tensors' bytes. Everything else that a pickle could ask for is
refused.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jdiff_style.errors import UserError

_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class _Record:
    """An object of any class of the archive: its state."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Storage:
    """The kind of a storage, as the pickle names it."""

    def __init__(self, kind: Any):
        self.kind = kind


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str):
        super().__init__(archive.open(f"{root}/data.pkl"))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Record
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_type_tag")):
            return _same
        if module == "torch" and name in _STORAGES:
            return _Storage(_STORAGES[name])
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, identity: Any) -> np.ndarray:
        what, storage, key, _, count = identity
        if what != "storage" or not isinstance(storage, _Storage):
            raise pickle.UnpicklingError(f"it refers to {identity!r}")
        return np.frombuffer(self.archive.read(f"{self.root}/data/{key}"), storage.kind, count)


def _same(value: Any, *_: Any) -> Any:
    """For lists and dicts that the archive marks with their type."""
    return value


def _tensor(memory: np.ndarray, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
    """Put a tensor together from its storage; NumPy checks nothing here, so we do."""
    if offset < 0 or any(n < 0 for n in size) or any(step < 0 for step in stride) or math.prod(size) > len(memory):
        raise pickle.UnpicklingError("a tensor has an impossible shape")
    if math.prod(size) and offset + sum((n - 1) * step for n, step in zip(size, stride)) >= len(memory):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    strides = [step * memory.itemsize for step in stride]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(memory[offset:], size, strides)).reshape(size)


def read_script_state(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a saved script module.

    Args:
        path: what ``torch.jit.save`` wrote.

    Returns:
        Tensors by dotted name, as ``torch.jit.load(path).state_dict()`` gives them, half precision as single.

    Raises:
        UserError: the file is damaged or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise pickle.UnpicklingError("it is no TorchScript archive")
            whole = _Reader(archive, roots[0]).load()
    except (OSError, zipfile.BadZipFile, pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a TorchScript archive ({error}); download it again") from error
    state: dict[str, Tensor] = {}
    _collect(whole, "", state)
    return state


def _collect(record: Any, prefix: str, state: dict[str, Tensor]) -> None:
    for name, value in (record.state if isinstance(record, _Record) and isinstance(record.state, dict) else {}).items():
        if isinstance(value, np.ndarray):
            state[prefix + name] = torch.from_numpy(value.astype(np.float32) if value.dtype == np.float16 else value.copy())
        else:
            _collect(value, f"{prefix}{name}.", state)
