"""dtype, device, Size, layout and memory format: the small value types of the torch API."""

import numpy as np


class dtype:
    """A scalar type. Compares by identity; ``str()`` gives torch's name, for example ``torch.float32``."""

    __slots__ = ("_kind", "is_complex", "is_floating_point", "is_signed", "itemsize", "jt", "name", "np")

    def __init__(self, name, jt_name, np_name, itemsize, kind, signed=True):
        self.name = name
        self.jt = jt_name  # Jittor's name, None where Jittor has no such type
        self.np = np.dtype(np_name) if np_name else None  # None for bfloat16
        self.itemsize = itemsize
        self._kind = kind  # 0 bool, 1 integer, 2 floating point, 3 complex: torch's promotion categories
        self.is_floating_point = kind == 2
        self.is_complex = kind == 3
        self.is_signed = signed

    def __repr__(self):
        return f"torch.{self.name}"

    def __reduce__(self):
        return (_dtype_by_name, (self.name,))

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def to_complex(self):
        return complex128 if self is float64 else complex64

    def to_real(self):
        return {complex64: float32, complex128: float64}.get(self, self)


bool_ = dtype("bool", "bool", "bool", 1, 0, False)
uint8 = dtype("uint8", "uint8", "uint8", 1, 1, False)
int8 = dtype("int8", "int8", "int8", 1, 1)
int16 = dtype("int16", "int16", "int16", 2, 1)
int32 = dtype("int32", "int32", "int32", 4, 1)
int64 = dtype("int64", "int64", "int64", 8, 1)
float16 = dtype("float16", "float16", "float16", 2, 2)
bfloat16 = dtype("bfloat16", "bfloat16", None, 2, 2)
float32 = dtype("float32", "float32", "float32", 4, 2)
float64 = dtype("float64", "float64", "float64", 8, 2)
complex64 = dtype("complex64", None, "complex64", 8, 3)
complex128 = dtype("complex128", None, "complex128", 16, 3)

ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, complex64, complex128)
BY_NAME = {d.name: d for d in ALL}
BY_NUMPY = {d.np: d for d in ALL if d.np is not None}
ALIASES = {
    "half": float16, "float": float32, "double": float64, "short": int16, "int": int32, "long": int64,
    "cfloat": complex64, "cdouble": complex128,
}


def _dtype_by_name(name):
    return BY_NAME[name]


_default = float32


def get_default_dtype():
    return _default


def set_default_dtype(d):
    """Set the dtype of new floating-point tensors. Raises TypeError for other types, as torch does."""
    global _default
    if not d.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    _default = d


_ORDER = {d: i for i, d in enumerate(
    (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, complex64, complex128))}
_PROMOTE = {}


def promote_types(a, b):
    """Common type of two dtypes (torch.promote_types)."""
    if a is b:
        return a
    r = _PROMOTE.get((a, b))
    if r is None:
        r = _PROMOTE[a, b] = _PROMOTE[b, a] = _promote(a, b)
    return r


def _promote(a, b):
    if _ORDER[a] > _ORDER[b]:
        a, b = b, a
    if b._kind == 3:
        return complex128 if (a is float64 or b is complex128) else complex64
    if a is uint8 and b is int8:
        return int16
    if a is float16 and b is bfloat16:
        return float32
    return b


class finfo:
    """Limits of a floating-point dtype (torch.finfo)."""

    _TABLE = {  # bits, eps, max, smallest_normal, resolution
        "float16": (16, 2.0**-10, 65504.0, 2.0**-14, 1e-3),
        "bfloat16": (16, 2.0**-7, (2 - 2.0**-7) * 2.0**127, 2.0**-126, 1e-2),
        "float32": (32, 2.0**-23, float(np.finfo(np.float32).max), 2.0**-126, 1e-6),
        "float64": (64, 2.0**-52, float(np.finfo(np.float64).max), 2.0**-1022, 1e-15),
    }

    def __init__(self, type=None):
        d = (type or get_default_dtype()).to_real()
        if not d.is_floating_point:
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle {d!r}")
        self.bits, self.eps, self.max, self.smallest_normal, self.resolution = self._TABLE[d.name]
        self.min = -self.max
        self.tiny = self.smallest_normal
        self.dtype = d.name

    def __repr__(self):
        return (f"finfo(resolution={self.resolution}, min={self.min}, max={self.max}, eps={self.eps}, "
                f"smallest_normal={self.smallest_normal}, tiny={self.tiny}, dtype={self.dtype})")


class iinfo:
    """Limits of an integer dtype (torch.iinfo)."""

    def __init__(self, type):
        if type._kind != 1:
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle {type!r}")
        i = np.iinfo(type.np)
        self.bits, self.min, self.max, self.dtype = i.bits, int(i.min), int(i.max), type.name

    def __repr__(self):
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


class device:
    """Where a tensor lives: ``cpu``, ``cuda[:i]`` or ``meta`` (shape without data)."""

    __slots__ = ("index", "type")

    def __init__(self, type="cpu", index=None):
        if isinstance(type, device):
            type, index = type.type, type.index
        elif isinstance(type, int):
            type, index = "cuda", type
        elif ":" in type:
            type, i = type.split(":")
            index = int(i)
        if type not in ("cpu", "cuda", "meta", "mps", "xpu", "npu"):
            raise RuntimeError(f"Expected one of cpu, cuda, meta device type at start of device string: {type}")
        self.type, self.index = type, index

    def __repr__(self):
        return f"device(type='{self.type}'" + (f", index={self.index})" if self.index is not None else ")")

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other):
        return isinstance(other, device) and self.type == other.type and self.index == other.index

    def __hash__(self):
        return hash((self.type, self.index))

    def __reduce__(self):
        return (device, (self.type, self.index))

    def __enter__(self):
        from torch import _tensor

        _tensor.DEFAULT_DEVICES.append(self)
        return self

    def __exit__(self, *exc):
        from torch import _tensor

        _tensor.DEFAULT_DEVICES.pop()


CPU = device("cpu")
CUDA = device("cuda", 0)  # the card of this process: it has one
META = device("meta")


class Size(tuple):
    """A shape: a tuple of ints with ``numel()``."""

    __slots__ = ()

    def numel(self):
        n = 1
        for s in self:
            n *= s
        return n

    def __repr__(self):
        return f"torch.Size({list(self)})"

    def __getitem__(self, i, _get=tuple.__getitem__, _tuple=tuple):
        r = _get(self, i)
        return Size(r) if type(r) is _tuple else r

    def __add__(self, other):
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other):
        return Size(tuple(other) + tuple(self))

    def __reduce__(self):
        return (Size, (tuple(self),))


class _Token:
    """A named constant that pickles by name (layouts, memory formats)."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"torch.{self.name}"

    def __reduce__(self):
        return (_token_by_name, (self.name,))


class layout(_Token):
    pass


class memory_format(_Token):
    pass


strided = layout("strided")
sparse_coo = layout("sparse_coo")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
_TOKENS = {t.name: t for t in (
    strided, sparse_coo, contiguous_format, preserve_format, channels_last, channels_last_3d)}


def _token_by_name(name):
    return _TOKENS[name]
