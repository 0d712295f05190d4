"""Import-time patches of safetensors: what reaches for raw memory addresses, rewritten to ask for values.

The import hook calls ``apply(module)`` once after each module of `MODULES` is imported.
"""

import json
import mmap
import sys

import numpy as np

MODULES = ("safetensors", "safetensors.torch")
#: Releases this was tested with.
VERSIONS = "==0.8.0"
PATCHES = [
    (
        "safetensors.safe_open",
        "the compiled reader makes each tensor a byte view of one mapped storage and copies to CUDA through pinned "
        "addresses; here it checks the file, and the values become tensors of their own, on any device",
    ),
    (
        "safetensors.torch._to_ndarray",
        "it reads a tensor's bytes through its address, and a lazy tensor has none; here the values are fetched",
    ),
]

_NUMPY_NAMES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1",
    "BOOL": "?", "C64": "c8",
}  # fmt: skip


def _to_tensor(array, kind, device):
    """A tensor of its own with the values of `array`; of bfloat16's bit patterns where `kind` is ``"BF16"``."""
    import torch

    make = torch._tensor.from_bits_bf16 if kind == "BF16" else torch._tensor.from_numpy_copy
    tensor = make(array)
    return tensor if device is None else tensor.to(device)


class _Slice:
    """A tensor of an open file that is read when it is indexed."""

    def __init__(self, owner, name):
        self._owner, self._name = owner, name

    def get_shape(self):
        return list(self._owner._entry(self._name)["shape"])

    def get_dtype(self):
        return self._owner._entry(self._name)["dtype"]

    def __getitem__(self, index):
        parts = tuple(_plain(part) for part in (index if isinstance(index, tuple) else (index,)))
        array, kind = self._owner._array(self._name)
        if not array.ndim and any(isinstance(part, slice) for part in parts):
            raise IndexError("slice() cannot be applied to a 0-dim tensor.")
        gaps = [place for place, part in enumerate(parts) if part is Ellipsis]
        parts = tuple(part for place, part in enumerate(parts) if place not in gaps[1:])  # NumPy takes one, torch more
        return _to_tensor(np.asarray(array[parts]), kind, self._owner._device)


def _plain(part):
    """One part of an index as NumPy understands it."""
    if isinstance(part, slice):
        if part.step is not None and part.step < 0:
            raise ValueError("step must be greater than zero")
        return part
    if part is None or part is Ellipsis or isinstance(part, (int, np.ndarray)):
        return part
    if isinstance(part, (list, tuple)):
        return np.array(part, dtype=np.int64 if not len(part) else None)
    if hasattr(part, "numpy"):
        array = part.numpy()
        return int(array) if not array.ndim and array.dtype.kind in "iu" else array
    raise TypeError(f"a slice of a safetensors file cannot be indexed by {type(part).__name__}")


def _make_safe_open(compiled):
    """The replacement for ``safetensors.safe_open``; `compiled` is the original, which other frameworks still get."""
    from safetensors import SafetensorError

    class safe_open:
        """Open a safetensors file and read its tensors one by one; ``framework="pt"`` gives tensors of torch on Jittor.

        ``keys``, ``offset_keys``, ``metadata``, ``get_tensor``, ``get_tensors`` and ``get_slice`` are those of the
        original. Raises SafetensorError if the file is damaged, a name unknown, or the device no cpu or cuda device.
        """

        def __new__(cls, filename, framework, device="cpu", **options):
            if framework not in ("pt", "torch", "pytorch"):
                return compiled(filename, framework, device, **options)
            return super().__new__(cls)

        def __init__(self, filename, framework, device="cpu", **options):
            self._file = compiled(filename, "np", **options)  # checks the header against the file
            if isinstance(device, int):
                device = f"cuda:{device}"
            if not isinstance(device, str) or device.split(":")[0] not in ("cpu", "cuda"):
                raise SafetensorError(f"device {device!r} is invalid")
            self._device = None if device == "cpu" else device
            with open(filename, "rb") as file:
                size = int.from_bytes(file.read(8), "little")
                self._header = json.loads(file.read(size))
                self._start = 8 + size
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        def _entry(self, name):
            self._open()
            if name not in self._header or name == "__metadata__":
                raise SafetensorError(f"File does not contain tensor {name}")
            return self._header[name]

        def _open(self):
            if self._map is None:
                raise SafetensorError("File is closed")

        def _array(self, name):
            """The values of a tensor in the mapped file (bit patterns for bfloat16), and the name of its dtype."""
            entry = self._entry(name)
            kind = entry["dtype"]
            if kind not in _NUMPY_NAMES:
                raise SafetensorError(f"tensor {name} has the dtype {kind}, which torch on Jittor does not have")
            begin, end = entry["data_offsets"]
            data = np.frombuffer(memoryview(self._map)[self._start + begin : self._start + end], np.uint8)
            return data.view("<" + _NUMPY_NAMES[kind]).reshape(entry["shape"]), kind

        def keys(self):
            self._open()
            return self._file.keys()

        def offset_keys(self):
            self._open()
            return self._file.offset_keys()

        def metadata(self):
            self._open()
            return self._file.metadata()

        def get_tensor(self, name):
            return _to_tensor(*self._array(name), self._device)

        def get_tensors(self):
            return {name: self.get_tensor(name) for name in self.offset_keys()}

        def get_slice(self, name):
            self._entry(name)
            return _Slice(self, name)

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            self._map = self._file = None

    safe_open.__module__ = "safetensors"
    safe_open.__qualname__ = "safe_open"
    return safe_open


def _to_ndarray(tensor):
    """The bytes of `tensor` as an array, and an object that keeps them alive (the array again)."""
    from torch.storage import tensor_bits

    array = tensor_bits(tensor).view(np.uint8)
    return array, array


def apply(module):
    """Patch ``safetensors`` or ``safetensors.torch``. Patching twice changes nothing."""
    if module.__name__ == "safetensors":
        from safetensors import _safetensors_rust

        if module.safe_open is _safetensors_rust.safe_open:
            module.safe_open = _make_safe_open(_safetensors_rust.safe_open)
    elif module.__name__ == "safetensors.torch":
        module._to_ndarray = _to_ndarray
        module.safe_open = sys.modules["safetensors"].safe_open
