"""The functions that pickles of tensors name: they put a tensor together from a storage, or from a NumPy array.

Their names and arguments are PyTorch's file format (``torch/_utils.py`` there); a checkpoint written by any PyTorch
release refers to them.
"""

from . import _tensor
from ._dtype import BY_NAME, Size
from .storage import UntypedStorage, elements


def _build(storage, offset, size, stride, dtype, requires_grad):
    memory = storage if isinstance(storage, UntypedStorage) else storage._untyped_storage
    where = (dtype, int(offset), Size(size), tuple(stride))
    tensor = next((v for v in (_as_view(where, *known) for known in memory.shared_tensors) if v is not None), None)
    if tensor is None:
        tensor = elements(memory._bytes(), dtype, where[2], where[3], where[1])
        if memory.device.type != "cpu":
            tensor = tensor.to(memory.device)
        memory.shared_tensors.append((where, tensor))
    return tensor.requires_grad_() if requires_grad else tensor


def _as_view(where, known, tensor):
    """A view of `tensor`, which lies at `known` in its storage, for the place `where` in the same storage.

    None if the place is not the same, as for tied weights, or an unbroken part of it.
    """
    if where == known:
        return tensor.detach()
    (dtype, offset, size, stride), (known_dtype, known_offset, known_size, known_stride) = where, known
    start = offset - known_offset
    inside = start >= 0 and start + size.numel() <= known_size.numel() and min(size, default=1) > 0
    if inside and dtype is known_dtype and stride == _dense(size) and known_stride == _dense(known_size):
        return tensor.detach().view(-1)[start : start + size.numel()].view(size)
    return None


def _dense(size):
    return tuple(Size(size[i + 1 :]).numel() for i in range(len(size)))


def _rebuild_tensor(storage, storage_offset, size, stride):
    """A tensor of shape `size` at `storage_offset` in a `TypedStorage`; offsets and strides in elements.

    Tensors at the same place of one storage share their memory; so do unbroken parts of one that came before. Other
    views are copies. Raises RuntimeError if the place is not in the storage.
    """
    return _build(storage, storage_offset, size, stride, storage.dtype, False)


def _rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks, metadata=None):
    """`_rebuild_tensor` with ``requires_grad``. Backward hooks and metadata are not restored."""
    return _build(storage, storage_offset, size, stride, storage.dtype, requires_grad)


def _rebuild_tensor_v3(storage, storage_offset, size, stride, requires_grad, backward_hooks, dtype, metadata=None):
    """`_rebuild_tensor_v2` for dtypes that have no storage class: `storage` is untyped, `dtype` says what it holds."""
    return _build(storage, storage_offset, size, stride, dtype, requires_grad)


def _rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad):
    """A tensor of the ``meta`` device: shape and dtype without data."""
    import torch

    return torch.empty(tuple(size), dtype=dtype, device="meta", requires_grad=requires_grad)


def _rebuild_device_tensor_from_numpy(data, dtype, device, requires_grad):
    """A tensor that was pickled as a NumPy array, on `device`."""
    return _tensor.from_numpy_copy(data).to(device=device, dtype=dtype).requires_grad_(requires_grad)


def _rebuild_from_numpy(data, dtype_name, requires_grad=False):
    """A tensor from an array with its values; for ``"bfloat16"`` a uint16 array with its bit patterns.

    This is how tensors of this backend pickle and travel between processes (``Tensor.__reduce_ex__``).
    """
    if dtype_name == "bfloat16":
        tensor = _tensor.from_bits_bf16(data)
    else:
        tensor = _tensor.from_numpy_copy(data, BY_NAME[dtype_name])
    return tensor.requires_grad_() if requires_grad else tensor


def _rebuild_parameter_from_numpy(data, dtype_name, requires_grad=True):
    """`_rebuild_from_numpy` for a ``torch.nn.Parameter``."""
    return _rebuild_parameter(_rebuild_from_numpy(data, dtype_name), requires_grad, None)


def _rebuild_parameter(data, requires_grad, backward_hooks):
    """A ``torch.nn.Parameter`` around the tensor `data`. Backward hooks are not restored."""
    from .nn.parameter import Parameter

    return Parameter(data, requires_grad)


def _rebuild_parameter_with_state(data, requires_grad, backward_hooks, state):
    """`_rebuild_parameter` with the attributes that somebody set on the parameter (a dict)."""
    return _with_attributes(_rebuild_parameter(data, requires_grad, backward_hooks), state)


def _rebuild_from_type_v2(func, new_type, args, state):
    """``func(*args)`` as the tensor class `new_type`, with the attributes in `state`."""
    tensor = func(*args)
    if type(tensor) is not new_type:
        tensor = tensor.as_subclass(new_type)
    return _with_attributes(tensor, state)


def _with_attributes(tensor, state):
    # a dict, or (dict, dict of slots); names with an underscore belong to this backend's Tensor and stay its own
    for part in state if isinstance(state, tuple) else (state,):
        for name, value in (part or {}).items():
            if not name.startswith("_"):
                setattr(tensor, name, value)
    return tensor
