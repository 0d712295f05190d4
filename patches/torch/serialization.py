"""``torch.save`` and ``torch.load``: PyTorch's zip checkpoints, both ways, and its older format for reading.

Files written here load in real PyTorch (also with ``weights_only=True``) and the other way round. Reading goes through
a restricted unpickler **always**, also with ``weights_only=False``: `add_safe_globals` admits classes of your own.
"""

import contextlib
import io
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np

from . import _unpickler, _utils, storage
from ._dtype import _TOKENS, Size, device, dtype, layout, memory_format
from ._tensor import Tensor
from ._zip_checkpoint import ZipReader, ZipWriter, describe_head, display_name, looks_like_zip

DEFAULT_PROTOCOL = 2
_MAGIC = 0x1950A86A20F9469CFC6C  # the pickled number that begins a checkpoint of PyTorch before 1.6
_LEGACY_VERSION = 1001


# --- writing ---------------------------------------------------------------------------------------------------------
def save(obj, f, pickle_module=None, pickle_protocol=DEFAULT_PROTOCOL, _use_new_zipfile_serialization=True,
         _disable_byteorder_record=False):  # fmt: skip
    """Write `obj` as a PyTorch checkpoint.

    `obj` is anything that pickles: tensors, parameters, and containers of them. `f` is a path or a binary file object
    with ``write``. Tensors that share memory share it in the file (a view brings its whole storage with it, as in
    PyTorch). Equal objects give equal bytes. The file is written in place: write to a temporary name and rename if the
    old file may not be lost.

    Raises RuntimeError if the folder of `f` is missing, ValueError for the old format and for pickle modules other than
    ``pickle``, OSError from writing, and what pickling `obj` raises (then nothing is written).
    """
    if not _use_new_zipfile_serialization:
        raise ValueError("torch.save writes zip checkpoints only; leave _use_new_zipfile_serialization at True")
    _check_pickle_module(pickle_module)
    body = io.BytesIO()
    pickler = _CheckpointPickler(body, pickle_protocol)
    pickler.dump(obj)
    top = "archive"
    if isinstance(f, (str, os.PathLike)):
        top = os.path.splitext(os.path.basename(os.fspath(f)))[0] or top
        folder = os.path.dirname(os.path.abspath(os.fspath(f)))
        if not os.path.isdir(folder):
            raise RuntimeError(f"Parent directory {folder} does not exist.")
    with _opened(f, "wb") as file:
        writer = ZipWriter(file, top)
        writer.add("data.pkl", body.getbuffer())
        if not _disable_byteorder_record:
            writer.add("byteorder", b"little")
        for key, memory in enumerate(pickler.storages.values()):
            writer.add(f"data/{key}", memory._bytes())
        writer.add("version", b"3\n")
        writer.close()


class _CheckpointPickler(pickle._Pickler):  # the Python one: it lets names be written as PyTorch spells them
    """Pickles tensors as references to storages, which it collects in `storages` (identity -> `UntypedStorage`)."""

    def __init__(self, file, protocol):
        super().__init__(file, protocol)
        self.storages = {}
        self._keys = {}

    def persistent_id(self, obj):
        if isinstance(obj, storage.TypedStorage):
            memory, cls = obj._untyped_storage, storage.class_of(obj.dtype)
        elif isinstance(obj, storage.UntypedStorage):
            memory, cls = obj, storage.UntypedStorage
        else:
            return None
        identity = (id(memory._tensor),) if memory._tensor is not None else (id(memory), memory.nbytes())
        key = self._keys.setdefault(identity, str(len(self._keys)))
        self.storages.setdefault(key, memory)
        step = 1 if cls is storage.UntypedStorage else obj.element_size()
        return ("storage", cls, key, str(memory.device), memory.nbytes() // step)

    def reducer_override(self, obj):
        if isinstance(obj, Tensor):
            return self._reduce_tensor(obj)
        if isinstance(obj, Size):
            return Size, (tuple(obj),)
        if isinstance(obj, device):
            return device, (obj.type,) if obj.index is None else (obj.type, obj.index)
        if isinstance(obj, layout):
            return _get_layout, (f"torch.{obj.name}",)
        if isinstance(obj, (dtype, memory_format)):
            return obj.name
        if obj is _utils._rebuild_from_type_v2:
            return obj.__name__
        return NotImplemented

    def _reduce_tensor(self, tensor):
        from .nn.parameter import Parameter

        no_hooks = OrderedDict()
        # what users put there: our own attributes have defaults on the class
        state = {k: v for k, v in vars(tensor).items() if k[0] != "_" and not hasattr(Tensor, k)}
        if isinstance(tensor, Parameter):
            args = (tensor.detach(), tensor.requires_grad, no_hooks)
            if state:
                return _utils._rebuild_parameter_with_state, (*args, state)
            return _utils._rebuild_parameter, args
        function, args = self._place(tensor, no_hooks)
        if state:
            return _utils._rebuild_from_type_v2, (function, Tensor, args, state)
        return function, args

    def _place(self, tensor, no_hooks):
        """The function and its arguments that put `tensor` together from its storage."""
        if tensor.is_meta:
            return _utils._rebuild_meta_tensor_no_storage, (
                tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.requires_grad)  # fmt: skip
        root, offset, stride = storage.geometry(tensor)
        if offset is None or root.dtype is not tensor.dtype:
            root, offset = tensor.detach_copy(), 0
            stride = root.stride()
        memory = storage.TypedStorage._of(root)
        size, stride = tuple(tensor.shape), tuple(stride)
        return _utils._rebuild_tensor_v2, (memory, offset, size, stride, tensor.requires_grad, no_hooks)

    def save_global(self, obj, name=None):
        module = None  # the name under which PyTorch has the object, where it is not our own place for it
        if isinstance(obj, (dtype, memory_format)):
            module = "torch"
        elif obj is _utils._rebuild_from_type_v2:
            module, name = "torch._tensor", obj.__name__
        elif isinstance(obj, type) and (obj in (Size, device, Tensor) or issubclass(obj, storage.TypedStorage)):
            module, name = "torch", obj.__name__
        if module is None:
            return super().save_global(obj, name)
        if self.proto >= 4:
            self.save(module)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode("ascii"))
        self.memoize(obj)


# --- reading ---------------------------------------------------------------------------------------------------------
def load(f, map_location=None, pickle_module=None, *, weights_only=None, mmap=None, **pickle_load_args):
    """Read a checkpoint that PyTorch or `save` wrote.

    `f` is a path or a binary file object that can seek. `map_location` says where tensors go: a device or its name, a
    dict from the saved device name to one, or a function ``(storage, name)`` that returns the storage, moved, or None
    for the place it was saved from.

    **Only listed classes are ever read: tensors, containers, numbers, NumPy arrays and plain records. This holds for
    ``weights_only=False`` too**; that argument changes nothing here. Other classes raise ``pickle.UnpicklingError``,
    which names the class; `add_safe_globals` admits it. ``mmap`` changes nothing either: files given by a path are
    always mapped.

    Raises RuntimeError (one sentence, naming the file) if the file is no checkpoint, damaged or cut off, or holds
    tensors of a device that is not here while `map_location` is None.
    """
    _check_pickle_module(pickle_module)
    if mmap and not isinstance(f, (str, os.PathLike)):
        raise ValueError("f must be a file path to use mmap=True, not a file object")
    place = _placement(map_location)
    with _opened(f, "rb") as file:
        name = display_name(f)
        start = file.tell()
        head = file.read(64)
        file.seek(start)
        if looks_like_zip(head):
            return _load_zip(file, name, place, pickle_load_args)
        if head[:2] == b"\x80\x02" and _MAGIC.to_bytes(10, "little") in head:
            return _load_legacy(file, name, place, pickle_load_args)
    raise RuntimeError(f"{name} is no PyTorch checkpoint: {describe_head(head)}")


def _load_zip(file, name, place, options):
    reader = ZipReader(file, name)
    swap = "byteorder" in reader and reader.read("byteorder").tobytes() != b"little"
    storages = {}

    def persistent_load(pid):
        cls, key, location, numel = _storage_id(pid)
        if key not in storages:
            kind = cls.dtype
            memory = reader.read(f"data/{key}")
            _check_size(memory, numel * kind.itemsize, f"{name} is damaged: its record data/{key}")
            if swap:
                memory = _swapped(memory, kind)
            storages[key] = place(storage.UntypedStorage._wrap(memory), location, name)
        return _typed(storages[key], cls)

    return _unpickle(io.BytesIO(reader.read("data.pkl")), name, persistent_load, options)


def _load_legacy(file, name, place, options):
    """The format before PyTorch 1.6: pickled magic number, version, system, object and storage keys, then storages."""
    for what, wanted in ("magic number", _MAGIC), ("format version", _LEGACY_VERSION):
        if (found := _unpickle(file, name, None, {})) != wanted:
            raise RuntimeError(f"{name} is no PyTorch checkpoint that can be read: its {what} is {found}, not {wanted}")
    system = _unpickle(file, name, None, {})
    swap = isinstance(system, dict) and not system.get("little_endian", True)
    # The storages come after the pickle that refers to them: skim it first to learn their types.
    kinds = {}

    def note(pid):
        cls, key, location, numel = _storage_id(pid)
        kinds.setdefault(key, (cls.dtype, location, numel))
        return _unpickler.Stub()

    begin = file.tell()
    _unpickle(file, name, note, options, _unpickler.SkimmingUnpickler)
    end = file.tell()
    keys = _unpickle(file, name, None, {})
    storages = {}
    for key in keys:
        if key not in kinds:
            raise RuntimeError(f"{name} is damaged: nothing refers to its storage {key!r}")
        kind, location, numel = kinds[key]
        count = file.read(8)
        if len(count) < 8 or struct.unpack("<q", count)[0] != numel:
            raise RuntimeError(f"{name} is damaged: the size of its storage {key!r} is missing or not {numel}")
        memory = np.frombuffer(file.read(numel * kind.itemsize), np.uint8)
        _check_size(memory, numel * kind.itemsize, f"{name} is cut off: its storage {key!r}")
        memory = _swapped(memory, kind) if swap else memory
        storages[key] = place(storage.UntypedStorage._wrap(memory), location, name)
    file.seek(begin)
    body = io.BytesIO(file.read(end - begin))

    def persistent_load(pid):
        cls, key, _, _ = _storage_id(pid)
        if key not in storages:
            raise RuntimeError(f"{name} is damaged: its storage {key!r} is missing")
        memory = storages[key]
        if len(pid) > 5 and pid[5] is not None:  # a part of another storage, written by PyTorch before 0.4
            _, offset, size = pid[5]
            step = cls.dtype.itemsize
            memory = memory[offset * step : (offset + size) * step]
        return _typed(memory, cls)

    return _unpickle(body, name, persistent_load, options)


def _unpickle(file, name, persistent_load, options, cls=_unpickler.RestrictedUnpickler):
    """Run the restricted unpickler; whatever a damaged pickle makes it stumble over becomes one RuntimeError."""
    try:
        return cls(file, persistent_load, **options).load()
    except _unpickler.Refused as error:
        raise _unpickler.Refused(f"{name} was not loaded: {error}") from None
    except _MapLocationError as error:
        raise error.__cause__ from None
    except (pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError,
            OverflowError, MemoryError, struct.error) as error:  # fmt: skip
        if isinstance(error, NotImplementedError):
            raise
        reason = str(error) or type(error).__name__
        raise RuntimeError(f"{name} is damaged or cut off: its pickle cannot be read ({reason})") from error


def _storage_id(pid):
    """Check a persistent id and return (storage class, key, location, number of elements)."""
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
        raise _unpickler.Refused(f"it refers to {pid!r}, which is no storage")
    cls, key, location, numel = pid[1:5]
    if not (isinstance(cls, type) and issubclass(cls, (storage.TypedStorage, storage.UntypedStorage))):
        raise _unpickler.Refused(f"it gives a storage the class {cls!r}")
    if not (isinstance(key, str) and isinstance(location, str) and isinstance(numel, int) and numel >= 0):
        raise ValueError(f"malformed storage {pid[2:5]!r}")
    return cls, key, location, numel


def _check_size(memory, wanted, what):
    if memory.size != wanted:
        raise RuntimeError(f"{what} has {memory.size} bytes instead of {wanted}")


def _typed(memory, cls):
    return memory if cls is storage.UntypedStorage else cls(wrap_storage=memory)


def _swapped(memory, kind):
    unit = kind.itemsize // 2 if kind.is_complex else kind.itemsize
    return memory.reshape(-1, unit)[:, ::-1].reshape(-1)


class _MapLocationError(Exception):
    """Carries an error of the caller's own ``map_location`` function past the handling of damaged files."""


def _placement(map_location):
    """Turn ``map_location`` into a function (storage, saved device name, file name) -> storage with its device set."""

    from . import cuda

    def at_home(memory, location, name):
        kind = location.partition(":")[0]
        if kind == "cpu":
            return memory
        if kind != "cuda" or not cuda.is_available():
            raise RuntimeError(
                f"{name} holds tensors of the device {location!r}, which is not here; load it with map_location='cpu'"
            )
        return memory.cuda(location)

    if map_location is None:
        return at_home
    if isinstance(map_location, dict):
        return lambda memory, location, name: at_home(memory, str(map_location.get(location, location)), name)
    if isinstance(map_location, (str, device)):
        if device(map_location).type == "cuda" and not cuda.is_available():
            raise RuntimeError(f"map_location={str(map_location)!r}, but no CUDA device is here; use 'cpu'")
        return lambda memory, location, name: memory._moved(device(map_location))
    if callable(map_location):

        def chosen(memory, location, name):
            try:
                moved = map_location(memory, location)
            except Exception as error:
                raise _MapLocationError from error
            if moved is None:
                return at_home(memory, location, name)
            return moved if isinstance(moved, storage.UntypedStorage) else moved._untyped_storage

        return chosen
    raise TypeError(f"map_location must be a device, its name, a dict or a function, not {map_location!r}")


# --- what may be read ------------------------------------------------------------------------------------------------
def _named(entry):
    if isinstance(entry, tuple):
        return entry[1], entry[0]
    return f"{entry.__module__}.{entry.__qualname__}", entry


def add_safe_globals(safe_globals):
    """Let `load` build these classes and call these functions: a list of them, or of pairs ``(class, "name.in.file")``.

    They run with whatever arguments the file gives them: add only what you would call on a stranger's data.
    """
    _unpickler.USER.update(dict(map(_named, safe_globals)))


def get_safe_globals():
    """What `add_safe_globals` has added so far."""
    return list(_unpickler.USER.values())


def clear_safe_globals():
    """Forget everything that `add_safe_globals` has added."""
    _unpickler.USER.clear()


@contextlib.contextmanager
def safe_globals(safe_globals):
    """`add_safe_globals` for the length of a ``with`` block."""
    before = dict(_unpickler.USER)
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        _unpickler.USER.clear()
        _unpickler.USER.update(before)


# --- small change ----------------------------------------------------------------------------------------------------
def _get_layout(name):
    """The layout called ``"torch.strided"`` and so on; this is how layouts are pickled."""
    return _TOKENS[name.removeprefix("torch.")]


def _check_pickle_module(module):
    if module is not None and module is not pickle:
        raise ValueError(f"pickle_module must be pickle or None, not {module!r}: reading is the restricted unpickler's")


def _opened(f, mode):
    return open(f, mode) if isinstance(f, (str, os.PathLike)) else contextlib.nullcontext(f)


def _is_zipfile(f):
    """Whether the binary file `f` holds a zip archive at its present position; the position stays."""
    start = f.tell()
    head = f.read(4)
    f.seek(start)
    return looks_like_zip(head)


__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]
