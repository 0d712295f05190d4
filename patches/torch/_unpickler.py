"""The only way pickles are read: an unpickler that builds listed things and nothing else.

A pickle is a program: it names functions and calls them. Here every name is looked up in a fixed table, so a file can
make tensors, containers, numbers, dates, NumPy arrays and a few plain records, and cannot reach anything else, whatever
``weights_only`` says. A class of your own is added with `torch.serialization.add_safe_globals`.

Three steps of the pickle machine are guarded, not only the lookup of names: what may be *called*, which objects may be
given a *state* (else a file could overwrite attributes of classes), and NumPy's dtypes (no object and no void dtypes).
"""

import argparse
import builtins
import collections
import copyreg
import datetime
import importlib
import pathlib
import pickle
import types
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

import numpy as np


class Refused(pickle.UnpicklingError):
    """The file asks for something that is not on the list; its text names it and says what to do."""


def _words(text):
    return text.split()


def _encode(text, encoding="latin1"):
    # protocol 2 writes bytes as a call of _codecs.encode(text, "latin1"); other codecs have no business here
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"the file asks for the codec {encoding!r}; pickled bytes use latin1 only")
    return text.encode("latin1")


def _numpy_dtype(code, align=False, copy=True):
    dtype = np.dtype(code, copy=True)  # its state follows: a copy, not NumPy's own one
    if dtype.hasobject or dtype.kind == "V":
        raise Refused(f"the file holds a NumPy array of dtype {code!r}; only numbers, dates and text are read")
    return dtype


def _numpy_reconstruct(subtype, shape, typecode):
    if subtype is not np.ndarray:
        raise Refused(f"the file holds the NumPy subclass {subtype!r}; only numpy.ndarray is read")
    return np.empty(0, np.uint8)  # its state follows and replaces shape, dtype and data


def _numpy_scalar(dtype, data):
    return np.frombuffer(data, dtype, 1)[0]


def _numpy_frombuffer(data, dtype, shape, order, axis_order=None):
    array = np.frombuffer(data, dtype).copy().reshape(shape, order=order)
    return array if axis_order is None else array.transpose(axis_order)


def _plain_table():
    """Names that may be called or instantiated, apart from torch's."""
    table = {"copyreg.__newobj__": copyreg.__newobj__}  # calls cls.__new__; the class was looked up here too
    for name in _words("set frozenset slice complex bytearray bytes range int float bool str list tuple dict"):
        table[f"builtins.{name}"] = getattr(builtins, name)
    for name in _words("OrderedDict defaultdict Counter deque"):
        table[f"collections.{name}"] = getattr(collections, name)
    for name in _words("date datetime time timedelta timezone"):
        table[f"datetime.{name}"] = getattr(datetime, name)
    for name in _words("PurePosixPath PureWindowsPath PosixPath"):
        table[f"pathlib.{name}"] = getattr(pathlib, name)
    table["pathlib.WindowsPath"] = pathlib.PureWindowsPath  # cannot be made on other systems
    table["argparse.Namespace"] = argparse.Namespace
    table["types.SimpleNamespace"] = types.SimpleNamespace
    table["_codecs.encode"] = _encode
    table["numpy.dtype"] = _numpy_dtype
    for core in "numpy.core", "numpy._core":  # NumPy 2 moved it
        table[f"{core}.multiarray._reconstruct"] = _numpy_reconstruct
        table[f"{core}.multiarray.scalar"] = _numpy_scalar
        table[f"{core}.numeric._frombuffer"] = _numpy_frombuffer
    return table


_PLAIN = _plain_table()
_VALUES = {"numpy.ndarray": np.ndarray}  # names that may be mentioned and not called
for _name in _words(
    "bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128"
):
    _VALUES[f"numpy.{_name}"] = getattr(np, _name)

_STORAGES = _words("Double Float Half Long Int Short Char Byte Bool BFloat16 ComplexDouble ComplexFloat")
_DTYPES = _words(
    "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex32 complex64 "
    "complex128 half float double short int long float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
)
_TOKENS = _words("strided contiguous_format channels_last channels_last_3d preserve_format")
_REBUILDERS = _words(
    "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state "
    "_rebuild_from_numpy _rebuild_meta_tensor_no_storage _rebuild_device_tensor_from_numpy"
)
# name in the file -> (module, attribute) here; looked up when first asked for, since torch is still being imported now
_TORCH_VALUES = {
    **{f"{m}.{s}Storage": ("torch.storage", f"{s}Storage") for s in _STORAGES for m in ("torch", "torch.cuda")},
    "torch.storage.UntypedStorage": ("torch.storage", "UntypedStorage"),
    "torch.storage.TypedStorage": ("torch.storage", "TypedStorage"),
    **{f"torch.{d}": ("torch", d) for d in _DTYPES + _TOKENS},
    "torch.Tensor": ("torch", "Tensor"),
}
_TORCH_CALLS = {
    **{f"torch._utils.{r}": ("torch._utils", r) for r in _REBUILDERS},
    "torch._tensor._rebuild_from_type_v2": ("torch._utils", "_rebuild_from_type_v2"),
    "torch.storage._load_from_bytes": ("torch.storage", "_load_from_bytes"),
    "torch.serialization._get_layout": ("torch.serialization", "_get_layout"),
    "torch.nn.parameter.Parameter": ("torch.nn.parameter", "Parameter"),
    "torch.Size": ("torch", "Size"),
    "torch.device": ("torch", "device"),
    "torch.Generator": ("torch", "Generator"),
}

USER = {}  # name in the file -> class or function, filled by torch.serialization.add_safe_globals


def _lookup(full_name):
    """Return (object, may be called) for a name in a pickle, or raise `Refused`."""
    if full_name in USER:
        return USER[full_name], True
    if full_name in _PLAIN:
        return _PLAIN[full_name], True
    if full_name in _VALUES:
        return _VALUES[full_name], False
    for table, may_call in (_TORCH_CALLS, True), (_TORCH_VALUES, False):
        if full_name in table:
            module, name = table[full_name]
            return getattr(importlib.import_module(module), name), may_call
    raise Refused(
        f"the file asks for {full_name}, which is not on the list of safe classes and functions; if you trust the "
        f"file, call torch.serialization.add_safe_globals([...]) with it before torch.load "
        f"(or with the pair (your_class, {full_name!r}) where the original cannot be imported)"
    )


class RestrictedUnpickler(pickle._Unpickler):  # the Python one: the C one gives no hold on BUILD and REDUCE
    """Unpickle from a binary `file`; ``persistent_load(pid)`` supplies what the file keeps outside the pickle.

    Raises `Refused` for everything that is not listed, also inside containers, before anything is called.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file, persistent_load=None, **options):
        super().__init__(file, **options)
        self._file_readline = _whole_lines(file)
        if persistent_load is not None:
            self.persistent_load = persistent_load
        self._callable = set()  # ids of what find_class gave out to be called
        self._known_types = {np.ndarray}  # whose instances may receive a state

    def find_class(self, module, name):
        if self.proto < 3 and self.fix_imports:
            if (module, name) in NAME_MAPPING:
                module, name = NAME_MAPPING[module, name]
            elif module in IMPORT_MAPPING:
                module = IMPORT_MAPPING[module]
        found, may_call = _lookup(f"{module}.{name}")
        if may_call:
            self._callable.add(id(found))
            if isinstance(found, type):
                self._known_types.add(found)
        return found

    def _check_call(self, function):
        if id(function) not in self._callable:
            raise Refused(f"the file calls {function!r}, which may be mentioned in a checkpoint and not called")

    def get_extension(self, code):
        raise Refused(f"the file uses copyreg's extension code {code}, which is not read")

    def _instantiate(self, cls, args):
        self._check_call(cls)
        self.append(cls(*args))

    def load_reduce(self):
        self._check_call(self.stack[-2])
        if self.stack[-2] is copyreg.__newobj__ and self.stack[-1]:
            self._check_call(self.stack[-1][0])
        super().load_reduce()

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self):
        self._check_call(self.stack[-2])
        super().load_newobj()

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self):
        self._check_call(self.stack[-3])
        super().load_newobj_ex()

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_build(self):
        state, target = self.stack[-1], self.stack[-2]
        if isinstance(target, np.dtype):
            # (version, byte order, no subarray, no names, no fields, -1, -1, flags) is all that a simple dtype needs
            if not (isinstance(state, tuple) and len(state) == 8 and state[1] in "<>|=" and not any(state[2:5])):
                raise Refused("the file holds a NumPy dtype with fields or a subarray, which is not read")
        elif isinstance(target, np.ndarray):
            dtype = state[2] if isinstance(state, tuple) and len(state) == 5 else None
            if not isinstance(dtype, np.dtype) or dtype.hasobject:
                raise Refused("the file holds a NumPy array of Python objects, which is not read")
        elif type(target) not in self._known_types and not _is_tensor(target):
            raise Refused(f"the file sets the state of {target!r}, which it may not change")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def _whole_lines(file):
    """``file.readline`` that reports a line without its end: a cut-off file must not pass for one with odd names."""

    def readline():
        line = file.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the pickle ends inside a line")
        return line

    return readline


def _is_tensor(value):
    tensor_class = getattr(importlib.import_module("torch._tensor"), "Tensor", None)
    return tensor_class is not None and isinstance(value, tensor_class)


class Stub:
    """Stands for every object of a pickle that is only skimmed (`SkimmingUnpickler`)."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass

    def add(self, value):
        pass

    update = extend


class SkimmingUnpickler(RestrictedUnpickler):
    """Walk through a pickle to learn its persistent ids and where it ends, building nothing but stubs.

    Old checkpoints put the storages behind the pickle that uses them; it is skimmed first and read afterwards.
    """

    dispatch = dict(RestrictedUnpickler.dispatch)

    def find_class(self, module, name):
        found = super().find_class(module, name)  # refuses what is not listed
        return found if f"{module}.{name}" in _TORCH_VALUES else Stub  # persistent ids name storage classes

    def _check_call(self, function):
        if function is not Stub:
            raise Refused(f"the file calls {function!r}")

    def load_build(self):
        self.stack.pop()

    dispatch[pickle.BUILD[0]] = load_build
