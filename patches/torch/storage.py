"""Storages: the flat memory behind tensors, as far as checkpoints and libraries ask for it.

A storage here is either a run of bytes (read from a checkpoint, or made by the user) or a reference to a tensor whose
bytes are fetched when somebody reads them. Tensors share a storage when one is a view of the other. Jittor's memory has
no address that lasts, so ``data_ptr()`` is an *identity*: equal for tensors that begin at the same element of the same
memory, as far apart as their elements are, and never to be followed as a pointer.
"""

import io
import os

import numpy as np

from . import _tensor
from ._dtype import BY_NAME, CPU, device
from ._missing import TorchNameError


def geometry(tensor):
    """Return ``(root, offset, strides)`` of `tensor`: the tensor that owns the memory, and where `tensor` lies in it.

    Offset and strides count elements; both are None if `tensor` is no strided part of the root (a dtype view, say).
    """
    chain, root = [], tensor
    while root._base is not None:
        if not root._view[2]:
            chain.append(root._view[0])
        root = root._base
    if not chain:
        return root, 0, tensor.stride()
    # Replay the views on untouched (hence unallocated) one-byte elements: NumPy keeps the books.
    memory = np.empty(max(root.numel(), 1), np.uint8)
    dummy = _tensor.mk(memory[: root.numel()].reshape(root._shape), root._shape, BY_NAME["uint8"])
    try:
        for make in reversed(chain):
            dummy = make(dummy)
    except Exception:  # a view that uint8 data cannot take, such as one that changes the dtype
        return root, None, None
    part = dummy._v
    if not isinstance(part, np.ndarray) or dummy._shape != tensor._shape:
        return root, None, None
    part = part.reshape(dummy._shape)
    offset = part.ctypes.data - memory.ctypes.data
    if not 0 <= offset <= memory.size or (part.size and not np.may_share_memory(part, memory)):
        return root, None, None
    return root, offset, tuple(part.strides)


@_tensor.method("data_ptr", function=False)
def data_ptr_of(tensor):
    """The identity number of the memory at which `tensor` begins; 0 for tensors without elements or data."""
    if not tensor.numel() or tensor.is_meta:
        return 0
    root, offset, _ = geometry(tensor)
    return id(root) + (offset or 0) * tensor.element_size()


@_tensor.method("storage_offset", function=False)
def storage_offset_of(tensor):
    """How many elements of its storage come before `tensor`; 0 for what is no strided part of it (dtype views)."""
    return geometry(tensor)[1] or 0


def tensor_bits(tensor):
    """Return the elements of `tensor` in order as a one-dimensional array; bfloat16 as its uint16 patterns."""
    tensor = tensor.detach().cpu()
    bits = _tensor.to_bits_bf16(tensor) if tensor.dtype.np is None else tensor.numpy()
    return np.ascontiguousarray(bits).reshape(-1)


class _Meta(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise TorchNameError(f"torch.{cls.__name__}.{name} is not implemented in torch on Jittor")


class UntypedStorage(metaclass=_Meta):
    """A run of bytes.

    ``UntypedStorage(nbytes)`` is zeroed, ``UntypedStorage([0, 255])`` takes values from 0 to 255. ``len``,
    ``nbytes()``, ``tolist()`` and indexing count bytes.
    """

    dtype = BY_NAME["uint8"]  # what one element is, for the code that TypedStorage shares

    def __init__(self, content=0, *, device=None):
        self._array = np.zeros(content, np.uint8) if isinstance(content, int) else np.array(content, np.uint8)
        self._tensor = None
        self.device = CPU if device is None else globals()["device"](device)
        self.shared_tensors = []  # what was rebuilt from this storage: ((dtype, offset, size, stride), tensor)

    @classmethod
    def _wrap(cls, array, where=CPU):
        """A storage around a one-dimensional uint8 array, without a copy."""
        storage = cls()
        storage._array, storage.device = array, where
        return storage

    @classmethod
    def _of(cls, tensor):
        """The storage that `tensor` lies in."""
        storage = cls()
        storage._tensor = tensor._root()
        storage._array = None
        storage.device = tensor.device
        return storage

    @classmethod
    def from_file(cls, filename, shared=False, nbytes=0):
        """The first `nbytes` bytes of a file, mapped for reading (writes do not reach the file). Raises RuntimeError if
        the file is shorter, NotImplementedError for ``shared=True``."""
        if shared:
            raise NotImplementedError("UntypedStorage.from_file(shared=True) is not implemented in torch on Jittor")
        if os.path.getsize(filename) < nbytes:
            raise RuntimeError(f"{filename} has {os.path.getsize(filename)} bytes, fewer than the {nbytes} asked for")
        return cls._wrap(np.memmap(filename, np.uint8, "c", shape=(nbytes,)) if nbytes else np.zeros(0, np.uint8))

    def _bytes(self):
        if self._array is None:
            return tensor_bits(self._tensor).view(np.uint8)
        return self._array

    def nbytes(self):
        return self._array.size if self._tensor is None else self._tensor.nbytes

    size = __len__ = nbytes

    def data_ptr(self):
        """Identity of this memory, see the module; 0 if it is empty."""
        if self._tensor is not None:
            return data_ptr_of(self._tensor)
        return self._array.ctypes.data if self._array.size else 0

    def element_size(self):
        return 1

    def untyped(self):
        return self

    def __getitem__(self, index):
        part = self._bytes()[index]
        return UntypedStorage._wrap(part, self.device) if isinstance(index, slice) else int(part)

    def tolist(self):
        return self._bytes().tolist()

    @property
    def is_cuda(self):
        return self.device.type == "cuda"

    def _moved(self, where):
        moved = UntypedStorage._wrap(self._bytes(), where)
        return self if where == self.device else moved

    def cpu(self):
        return self._moved(CPU)

    def cuda(self, index=None):
        return self._moved(device("cuda") if index is None else device(index))

    def clone(self):
        return UntypedStorage._wrap(self._bytes().copy(), self.device)

    def __eq__(self, other):
        if not isinstance(other, UntypedStorage):
            return NotImplemented
        return (self.nbytes(), self.data_ptr()) == (other.nbytes(), other.data_ptr())

    def __hash__(self):
        return hash((self.data_ptr(), self.nbytes()))

    def __reduce__(self):
        from .serialization import save

        buffer = io.BytesIO()
        save(self, buffer)
        return _load_from_bytes, (buffer.getvalue(),)

    def __repr__(self):
        return f"<{type(self).__name__} of {self.nbytes()} bytes on {self.device}>"


class TypedStorage(metaclass=_Meta):
    """An `UntypedStorage` (bytes) read as elements of one dtype; ``len``, indexing and ``tolist()`` count elements."""

    dtype = None

    def __init__(self, content=0, *, wrap_storage=None, dtype=None, device=None):
        self.dtype = dtype or type(self).dtype or BY_NAME["float32"]
        if wrap_storage is None:
            if isinstance(content, int):
                content = np.zeros(content * self.dtype.itemsize, np.uint8)
            else:
                content = tensor_bits(_tensor.from_numpy_copy(np.array(content), self.dtype)).view(np.uint8)
            wrap_storage = UntypedStorage._wrap(content, CPU)
        self._untyped_storage = wrap_storage

    @classmethod
    def _of(cls, tensor):
        return class_of(tensor.dtype)(wrap_storage=UntypedStorage._of(tensor), dtype=tensor.dtype)

    @property
    def device(self):
        return self._untyped_storage.device

    @property
    def is_cuda(self):
        return self.device.type == "cuda"

    def untyped(self):
        return self._untyped_storage

    def element_size(self):
        return self.dtype.itemsize

    def nbytes(self):
        return self._untyped_storage.nbytes()

    def size(self):
        return self.nbytes() // self.element_size()

    __len__ = size

    def data_ptr(self):
        return self._untyped_storage.data_ptr()

    def tolist(self):
        return elements(self._untyped_storage._bytes(), self.dtype, (self.size(),), (1,), 0).tolist()

    def __getitem__(self, index):
        return self.tolist()[index]

    def _moved(self, storage):
        return type(self)(wrap_storage=storage, dtype=self.dtype)

    def cpu(self):
        return self._moved(self._untyped_storage.cpu())

    def cuda(self, index=None):
        return self._moved(self._untyped_storage.cuda(index))

    def clone(self):
        return self._moved(self._untyped_storage.clone())

    def pickle_storage_type(self):
        return type(self).__name__

    __reduce__ = UntypedStorage.__reduce__

    def __repr__(self):
        return f"<{type(self).__name__} of {self.size()} {self.dtype!r} on {self.device}>"


def elements(memory, dtype, size, stride, offset):
    """A tensor with a copy of the strided part of `memory` (one-dimensional uint8 array) of shape `size`; `stride` and
    `offset` count elements of `dtype`. Raises RuntimeError if the part does not lie inside the memory."""
    step, count = dtype.itemsize, memory.size // dtype.itemsize
    if len(size) != len(stride) or min(size, default=0) < 0 or min(stride, default=0) < 0 or offset < 0:
        raise RuntimeError(f"a tensor of shape {list(size)}, stride {list(stride)} and offset {offset} cannot exist")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride))
    if 0 not in size and last >= count:
        raise RuntimeError(
            f"a tensor of shape {list(size)}, stride {list(stride)} and offset {offset} does not fit in its storage of "
            f"{count} elements"
        )
    kind = np.dtype(np.uint16) if dtype.np is None else dtype.np
    if 0 in size:
        array = np.empty(size, kind)
    else:
        flat = memory[: count * step].view(kind)[offset:]
        array = np.lib.stride_tricks.as_strided(flat, size, [s * step for s in stride], writeable=False)
    if dtype.np is None:
        return _tensor.from_bits_bf16(array)
    return _tensor.from_numpy_copy(array)


def _load_from_bytes(data):
    """The storage that a plain pickle holds as the bytes of a checkpoint (PyTorch's and ours)."""
    from .serialization import load

    return load(io.BytesIO(data))


_CLASS_NAMES = {
    "float64": "Double", "float32": "Float", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long", "int32": "Int",
    "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool", "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}  # fmt: skip
_CLASSES = {}
for _dtype_name, _prefix in _CLASS_NAMES.items():
    _CLASSES[_dtype_name] = type(TypedStorage)(
        f"{_prefix}Storage",
        (TypedStorage,),
        {"dtype": BY_NAME[_dtype_name], "__module__": "torch", "__doc__": f"A `TypedStorage` of {_dtype_name}."},
    )
    globals()[f"{_prefix}Storage"] = _CLASSES[_dtype_name]


def class_of(dtype):
    """The storage class (``FloatStorage``, …) for a dtype."""
    return _CLASSES[dtype.name]


__all__ = ["TypedStorage", "UntypedStorage", *(f"{prefix}Storage" for prefix in _CLASS_NAMES.values())]
