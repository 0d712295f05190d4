"""Putting samples together into a batch."""

import collections.abc
import copy

import numpy as np

import torch

from .info import get_worker_info

_ERROR = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
default_collate_err_msg_format = _ERROR


def default_convert(data):
    """Turn the NumPy arrays in a sample into tensors; containers are rebuilt, everything else stays as it is."""
    if isinstance(data, torch.Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUO" else torch.as_tensor(data)
    if isinstance(data, collections.abc.Mapping):
        return _rebuild_mapping(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(default_convert(x) for x in data))
    if isinstance(data, tuple):
        return [default_convert(x) for x in data]  # a list, as PyTorch has it
    if isinstance(data, collections.abc.Sequence) and not isinstance(data, (str, bytes)):
        return _rebuild_sequence(data, [default_convert(x) for x in data])
    return data


def _rebuild_mapping(like, items):
    """A mapping of the type of ``like`` with new ``items``; a dict where that type cannot be built."""
    try:
        if isinstance(like, collections.abc.MutableMapping):
            clone = copy.copy(like)
            clone.update(items)
            return clone
        return type(like)(items)
    except TypeError:
        return items


def _rebuild_sequence(like, items):
    try:
        if isinstance(like, collections.abc.MutableSequence):
            clone = copy.copy(like)
            for i, item in enumerate(items):
                clone[i] = item
            return clone
        return type(like)(items)
    except TypeError:
        return items


def collate(batch, *, collate_fn_map=None):
    """Collate ``batch`` (a list of samples) with a table ``{type: function(batch, collate_fn_map=table)}``.

    Types are looked up exactly, then by subclass in the table's order; mappings, named tuples and sequences are walked.
    Raises `TypeError` for anything else and `RuntimeError` for sequences of different lengths.
    """
    table = collate_fn_map or {}
    first = batch[0]
    kind = type(first)
    if kind in table:
        return table[kind](batch, collate_fn_map=table)
    for known, function in table.items():
        if isinstance(first, known):
            return function(batch, collate_fn_map=table)
    if isinstance(first, collections.abc.Mapping):
        return _rebuild_mapping(
            first, {key: collate([sample[key] for sample in batch], collate_fn_map=table) for key in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return kind(*(collate(column, collate_fn_map=table) for column in zip(*batch)))
    if isinstance(first, collections.abc.Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [collate(column, collate_fn_map=table) for column in zip(*batch)]
        return columns if isinstance(first, tuple) else _rebuild_sequence(first, columns)
    raise TypeError(_ERROR.format(kind))


def collate_tensor_fn(batch, *, collate_fn_map=None):
    """Stack tensors of one shape along a new first dimension."""
    for i, t in enumerate(batch):
        if t.shape != batch[0].shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(batch[0].shape)} at entry 0 "
                               f"and {list(t.shape)} at entry {i}")
    plain = not any(t.requires_grad or t.dtype == torch.bfloat16 or t.device.type != "cpu" for t in batch)
    if get_worker_info() is not None and plain and len({t.dtype for t in batch}) == 1:
        # In a worker the batch goes back as host memory: stacking there spares a compiled kernel.
        return torch.from_numpy(np.stack([t.numpy() for t in batch]))
    return torch.stack(batch, 0)


def collate_numpy_array_fn(batch, *, collate_fn_map=None):
    """Stack NumPy arrays into a tensor."""
    if batch[0].dtype.kind in "SUO":
        raise TypeError(_ERROR.format(batch[0].dtype))
    if all(a.shape == batch[0].shape and a.dtype == batch[0].dtype for a in batch):
        return torch.from_numpy(np.stack(batch))
    return collate([torch.as_tensor(a) for a in batch], collate_fn_map=collate_fn_map)


def collate_numpy_scalar_fn(batch, *, collate_fn_map=None):
    """NumPy scalars become a 1-D tensor of their dtype."""
    return torch.as_tensor(np.asarray(batch))


def collate_float_fn(batch, *, collate_fn_map=None):
    """Python floats become a float64 tensor."""
    return torch.tensor(batch, dtype=torch.float64)


def collate_int_fn(batch, *, collate_fn_map=None):
    """Python ints (and bools) become a tensor."""
    return torch.tensor(batch)


def collate_str_fn(batch, *, collate_fn_map=None):
    """Strings and bytes stay a list."""
    return batch


default_collate_fn_map = {
    torch.Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}


def default_collate(batch):
    """Collate a list of samples: tensors and arrays are stacked, numbers become tensors, strings a list, containers
    are kept with collated contents (tuples become lists).
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)
