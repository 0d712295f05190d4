"""The Tensor: data on the host or in Jittor, a place on the tape, and views that reach their base.

Operations live in the ``_ops_*`` modules and are attached here by `method`. In-place operations bind new data to the
tensor. A view remembers its base and how to write itself back, so a write through ``x[0]``, ``x.view(...)``,
``x.data`` or ``x.detach()`` reaches ``x``, and every other view of ``x`` sees it.
"""

import numpy as np

from . import _engine, _raw
from ._dtype import (
    ALL,
    BY_NAME,
    BY_NUMPY,
    CPU,
    META,
    Size,
    bfloat16,
    bool_,
    complex64,
    device,
    float32,
    get_default_dtype,
    int64,
    strided,
)
from ._missing import TorchNameError
from ._tensor_facts import Facts
from ._tensor_views import Data

DEFAULT_DEVICES = []  # devices entered as context managers
FUNCTIONS = {}  # what `torch` exports from the operation modules


class TensorMeta(type):
    """Lets ``isinstance(x, torch.FloatTensor)``-style classes and ``Tensor`` share one implementation class."""


class Tensor(Data, Facts, metaclass=TensorMeta):
    """A multi-dimensional array with the behaviour of `torch.Tensor`.

    Calling ``torch.Tensor(...)`` builds float32 data from sizes or a sequence, as PyTorch's legacy constructor does.
    """

    _shape = None
    dtype = None
    _device = CPU
    _rg = False
    _node = None
    _out_nr = 0
    _acc = None
    grad = None
    _hooks = None
    _post_hooks = None
    _depth = 0  # elementwise operations in a row that led to this tensor, see _elementwise.LONGEST_CHAIN
    layout = strided
    is_sparse = False
    is_quantized = False
    is_mkldnn = False
    is_nested = False
    is_xla = is_mps = is_xpu = is_ipu = is_vulkan = is_ort = is_mtia = False
    is_sparse_csr = False
    name = None
    names = ()
    itemsize = property(lambda self: self.dtype.itemsize)
    __array_priority__ = 1000

    def __new__(cls, *args, **kwargs):
        from ._ops_create import legacy_new

        return legacy_new(cls, *args, **kwargs)

    def _snap(self):
        """The same value and tape position, unaffected by later in-place writes."""
        self._sync_view()
        if self._node is None and self._rg:
            _engine.edge_of(self)
        t = mk(self._v, self._shape, self.dtype, self._device)
        t._rg, t._node, t._out_nr, t._acc = self._rg, self._node, self._out_nr, self._acc
        return t

    # --- on the tape ---
    @property
    def requires_grad(self):
        if self._base is not None:
            self._sync_view()
        return self._rg

    @requires_grad.setter
    def requires_grad(self, value):
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad=True):
        if requires_grad and self.dtype._kind < 2:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if not requires_grad and self._node is not None:
            raise RuntimeError("you can only change requires_grad flags of leaf variables.")
        self._rg = bool(requires_grad)
        return self

    @property
    def is_leaf(self):
        return self._node is None

    @property
    def grad_fn(self):
        return self._node

    @property
    def output_nr(self):
        return self._out_nr

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, new):
        root = new
        while root is not None and root is not self:
            root = root._base
        v = new._data()
        if root is self:
            return  # a view of this tensor: its writes have arrived already
        self._base = self._view = None
        self._strides = None
        self._v, self._shape, self.dtype, self._device = v, new._shape, new.dtype, new._device
        self._version += 1
        self._vc = None

    def __hash__(self):
        return id(self)

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise TorchNameError(f"torch.Tensor.{name} is not implemented in torch on Jittor (or this object lacks the "
                             f"attribute {name!r})")

    # --- autograd ---
    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
        from . import autograd

        autograd.backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def detach(self):
        t = mk(self._data(), self._shape, self.dtype, self._device)
        return t._mark_view(self, None, None, True, self._strides)

    def detach_(self):
        self._sync_view()
        self._rg, self._node = False, None
        return self

    def detach_copy(self):
        """Same data, off the tape, no view of this tensor."""
        return mk(self._data(), self._shape, self.dtype, self._device)

    def register_hook(self, hook):
        from .utils.hooks import RemovableHandle

        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self._node is None:
            if self._hooks is None:
                self._hooks = {}
            hooks = self._hooks
        else:
            node = self._node
            if node.pre_hooks is None:
                node.pre_hooks = {}
            hooks = node.pre_hooks.setdefault(self._out_nr, {})
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        return handle

    def register_post_accumulate_grad_hook(self, hook):
        from .utils.hooks import RemovableHandle

        if not self._rg or self._node is not None:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        if self._post_hooks is None:
            self._post_hooks = {}
        handle = RemovableHandle(self._post_hooks)
        self._post_hooks[handle.id] = hook
        return handle

    def retain_grad(self):
        import weakref

        if self._node is not None:
            if self._node.retain is None:
                self._node.retain = {}
            self._node.retain[self._out_nr] = weakref.ref(self)

    @property
    def retains_grad(self):
        return self._node is not None and bool(self._node.retain) and self._out_nr in self._node.retain

    # --- to Python and NumPy ---
    def _host(self):
        if self._device.type == "meta":
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        return _raw.to_host(self._data(), self._shape)

    def numpy(self, *, force=False):
        """The values as a NumPy array (a copy). Raises for tensors that require a gradient, on a card, and in bfloat16;
        ``force`` takes the first two."""
        if self._device is not CPU and self._device.type == "cuda" and not force:
            raise TypeError(f"can't convert {self._device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
                            "to host memory first.")
        if self.requires_grad and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.dtype is bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        a = self._host()
        return np.array(a) if a is self._v else a  # what comes from Jittor is a copy already

    def __array__(self, dtype=None, copy=None):
        a = self.numpy()
        return a if dtype is None else a.astype(dtype, copy=False)

    def item(self):
        if self.numel() != 1:
            raise RuntimeError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        return self._host().reshape(()).item()

    def tolist(self):
        return self._host().tolist()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self.dtype._kind > 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __bool__(self):
        if self.numel() != 1:
            raise RuntimeError("Boolean value of Tensor with "
                               + ("no values" if self.numel() == 0 else "more than one value") + " is ambiguous")
        return bool(self.item())

    def __complex__(self):
        return complex(self.item())

    def __contains__(self, x):
        return bool((self == x).any())

    def __format__(self, spec):
        return format(self.item(), spec) if not self._shape and spec else str(self)

    def __iter__(self):
        if not self._shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __repr__(self, *, tensor_contents=None):
        from ._repr import tensor_repr

        return tensor_repr(self)

    # --- copies ---
    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        if self._node is not None and self._rg:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
                               "protocol at the moment.")
        t = Tensor._make_subclass(type(self), self, self._rg)
        memo[id(self)] = t
        if self.grad is not None:
            t.grad = self.grad.__deepcopy__(memo)
        for k, v in self.__dict__.items():
            if k[0] != "_" and k not in ("grad", "dtype"):
                t.__dict__[k] = v
        return t

    def __reduce_ex__(self, protocol):
        from . import _utils

        a = to_bits_bf16(self) if self.dtype is bfloat16 else np.array(self._host())
        args = (a, self.dtype.name, self._rg)
        return (_utils._rebuild_parameter_from_numpy if type(self).__name__ == "Parameter" else
                _utils._rebuild_from_numpy, args)

    @staticmethod
    def _make_subclass(cls, data, require_grad=False):
        t = object.__new__(cls)
        t._v, t._shape, t.dtype = data._data(), data._shape, data.dtype
        if data._device is not CPU:
            t._device = data._device
        t._rg = bool(require_grad)
        return t

    def as_subclass(self, cls):
        return Tensor._make_subclass(cls, self, self._rg)

    # --- storage: enough for libraries that ask whether two tensors share memory ---
    def untyped_storage(self):
        from .storage import UntypedStorage

        return UntypedStorage._of(self)

    def storage(self):
        from .storage import TypedStorage

        return TypedStorage._of(self)

    _typed_storage = storage


_new = object.__new__


def mk(v, shape, dt, dev=CPU):
    """A fresh tensor around data ``v``."""
    t = _new(Tensor)
    t._v = v
    t._shape = shape if type(shape) is Size else Size(shape)
    t.dtype = dt
    if dev is not CPU:
        t._device = dev
    return t


def same_device(*tensors):
    """Raise PyTorch's RuntimeError where some of ``tensors`` are on the card and some on the CPU. None and tensors without
    data (meta) pass. Callers ask only where ``_device`` is not one object for all."""
    found = dict.fromkeys(str(t._device) for t in tensors if t is not None and t._device.type != "meta")
    if len(found) > 1:
        first, second = sorted(found, reverse=True)[:2]
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {first} and "
                           f"{second}!")


def from_numpy_copy(array, dtype=None):
    """A tensor with a copy of ``array``'s values. Unsigned 16/32/64-bit arrays raise TypeError, as in PyTorch."""
    a = np.array(array, order="C")
    if a.dtype.byteorder not in "=|" and a.dtype.newbyteorder("=") != a.dtype:
        a = a.astype(a.dtype.newbyteorder("="))
    dt = BY_NUMPY.get(a.dtype)
    if dt is None:
        raise TypeError(f"can't convert np.ndarray of type numpy.{a.dtype}")
    t = mk(host_or_var(a), a.shape, dt)
    return t if dtype is None or dtype is dt else t.to(dtype)


def host_or_var(a):
    """Where fresh data goes: tables, integers and single values stay on the host, the rest moves to Jittor."""
    if a.dtype.kind == "c" or a.size <= 64 or a.size == 0:
        return a
    if a.size <= _raw.HOST_MAX and (a.ndim < 2 or a.dtype.kind in "iub" or a.dtype.itemsize == 8):
        return a
    return _raw.to_var(a)


def from_bits_bf16(bits):
    """bfloat16 tensor from its raw 16-bit patterns (uint16 array)."""
    f = (np.ascontiguousarray(bits).astype(np.uint32) << 16).view(np.float32)
    v = _raw.jt.unary(_raw.to_var(f.reshape(f.shape or (1,))), "bfloat16") if f.size else f
    return mk(v, bits.shape, bfloat16)


def to_bits_bf16(t):
    """Raw 16-bit patterns (uint16 array) of a bfloat16 tensor."""
    f = np.ascontiguousarray(_raw.to_host(t._data(), t._shape).astype(np.float32))
    return (f.view(np.uint32) >> 16).astype(np.uint16).reshape(t._shape)


def method(*names, function=True, attach=True):
    """Register an operation as ``torch.<name>`` and ``Tensor.<name>`` under one or more names."""

    def deco(f):
        for n in names or (f.__name__,):
            if function:
                FUNCTIONS[n] = f
            if attach:
                setattr(Tensor, n, f)
        return f

    return deco


def scalar_dtype(s):
    """dtype of a Python number in torch's promotion rules."""
    if isinstance(s, (bool, np.bool_)):
        return bool_
    if isinstance(s, (int, np.integer)):
        return int64
    if isinstance(s, (float, np.floating)):
        return get_default_dtype()
    if isinstance(s, complex):
        return complex64
    raise TypeError(f"unsupported operand type: {type(s).__name__}")


__all__ = ["ALL", "BY_NAME", "FUNCTIONS", "META", "Tensor", "device", "float32", "from_bits_bf16", "from_numpy_copy",
           "method", "mk", "scalar_dtype", "to_bits_bf16"]
