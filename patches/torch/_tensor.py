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
    contiguous_format,
    device,
    float32,
    get_default_dtype,
    int64,
    strided,
)
from ._missing import TorchNameError

DEFAULT_DEVICES = []  # devices entered as context managers
FUNCTIONS = {}  # what `torch` exports from the operation modules


class TensorMeta(type):
    """Lets ``isinstance(x, torch.FloatTensor)``-style classes and ``Tensor`` share one implementation class."""


class Tensor(metaclass=TensorMeta):
    """A multi-dimensional array with the behaviour of `torch.Tensor`.

    Calling ``torch.Tensor(...)`` builds float32 data from sizes or a sequence, as PyTorch's legacy constructor does.
    """

    _v = None  # numpy.ndarray or jittor.Var
    _shape = None
    dtype = None
    _device = CPU
    _rg = False
    _node = None
    _out_nr = 0
    _acc = None
    grad = None
    _base = None
    _view = None  # (make(base) -> tensor, put(base, new) -> tensor or None where writing is impossible, is_detach)
    _vc = None  # [version], shared by a base and its views
    _seen = 0
    _strides = None  # None: contiguous
    _hooks = None
    _post_hooks = None
    _version = 0
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

    # --- data, views, versions ---
    def _data(self):
        if self._base is not None:
            self._sync_view()
        return self._v

    def _sync_view(self):
        if self._base is not None and self._seen != self._vc[0]:
            seen = self._vc[0]
            base = self._base
            base._sync_view()
            if self._view[2]:
                self._v = base._v
            else:
                new = self._view[0](base)
                self._v = new._v
                if self._rg or new._rg:
                    self._rg, self._node, self._out_nr = new._rg, new._node, new._out_nr
            self._seen = seen

    def _var(self):
        """The data as a Jittor variable; a host array moves there for good."""
        v = self._data()
        if type(v) is not _raw.Var:
            v = _raw.to_var(v)
            if self.numel() > 1:
                self._v = v
        return v

    def _rebind(self, v):
        self._v = v
        self._version += 1
        if self._base is None and self._vc is not None:
            self._vc[0] += 1

    def _mark_view(self, base, make, put, detach=False, strides=None):
        if base._vc is None:
            base._vc = [0]
        self._base, self._view, self._vc, self._strides = base, (make, put, detach), base._vc, strides
        self._seen = base._vc[0]
        return self

    def _snap(self):
        """The same value and tape position, unaffected by later in-place writes."""
        self._sync_view()
        if self._node is None and self._rg:
            _engine.edge_of(self)
        t = mk(self._v, self._shape, self.dtype, self._device)
        t._rg, t._node, t._out_nr, t._acc = self._rg, self._node, self._out_nr, self._acc
        return t

    def _check_inplace(self):
        if self._rg and _engine.state.grad:
            self._sync_view()
            if self._node is None:
                raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        if self._base is not None and _engine.state.grad and not self._view[2]:
            root = self._base
            if root._rg and root._node is None and root._base is None:
                raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place "
                                   "operation.")
        if self._view is not None and self._view[1] is None and not self._view[2]:
            raise RuntimeError("unsupported operation: this view cannot be written through; clone() it first")

    def _inplace(self, new):
        """Make ``new`` (same shape) the value of this tensor, its base and their views. Returns self."""
        self._check_inplace()
        if new._shape != self._shape:
            raise RuntimeError(f"output with shape {list(self._shape)} doesn't match the broadcast shape "
                               f"{list(new._shape)}")
        if new.dtype is not self.dtype:
            if new.dtype._kind > self.dtype._kind:
                raise RuntimeError(f"result type {new.dtype.name} can't be cast to the desired output type "
                                   f"{self.dtype.name}")
            new = new.to(self.dtype)
        self._assign(new)
        return self

    def _assign(self, new):
        v = new._data()
        base = self._base
        if base is not None:
            if self._view[2]:
                with _engine.set_grad_mode(False):
                    base._assign(new)
            else:
                base._sync_view()
                base._assign(self._view[1](base, new))
            self._seen = self._vc[0]
        elif self._vc is not None:
            self._vc[0] += 1
        self._v = v
        self._version += 1
        if _engine.state.grad and not (base is not None and self._view[2]):
            if new._rg or self._node is not None:
                self._rg, self._node, self._out_nr = new._rg, new._node, new._out_nr

    # --- identity ---
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
    def shape(self):
        return self._shape

    @property
    def ndim(self):
        return len(self._shape)

    @property
    def device(self):
        return self._device

    @property
    def is_cuda(self):
        return self._device.type == "cuda"

    @property
    def is_cpu(self):
        return self._device.type == "cpu"

    @property
    def is_meta(self):
        return self._device.type == "meta"

    @property
    def nbytes(self):
        return self.numel() * self.dtype.itemsize

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

    def dim(self):
        return len(self._shape)

    def numel(self):
        n = 1
        for s in self._shape:
            n *= s
        return n

    nelement = numel
    ndimension = dim

    def size(self, dim=None):
        return self._shape if dim is None else self._shape[dim]

    def element_size(self):
        return self.dtype.itemsize

    def stride(self, dim=None):
        st = self._strides
        if st is None:
            st = contiguous_strides(self._shape)
        return st if dim is None else st[dim]

    def is_contiguous(self, memory_format=contiguous_format):
        if memory_format is not contiguous_format:
            return False
        if self._strides is None:
            return True
        n = 1
        for s, st in zip(reversed(self._shape), reversed(self._strides)):
            if s != 1 and st != n:
                return False
            n *= s
        return True

    def is_floating_point(self):
        return self.dtype.is_floating_point

    def is_complex(self):
        return self.dtype.is_complex

    def is_signed(self):
        return self.dtype.is_signed

    def get_device(self):
        return -1 if self._device.type == "cpu" else (self._device.index or 0)

    def is_inference(self):
        return False

    def is_pinned(self, device=None):
        return False

    def is_shared(self):
        return False

    def share_memory_(self):
        return self

    def __hash__(self):
        return id(self)

    def __len__(self):
        if not self._shape:
            raise TypeError("len() of a 0-d tensor")
        return self._shape[0]

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
    def _root(self):
        t = self
        while t._base is not None:
            t = t._base
        return t

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


def contiguous_strides(shape):
    """Strides of numbers that lie in the order of the axes."""
    strides, n = [], 1
    for s in reversed(shape):
        strides.append(n)
        n *= max(s, 1)
    return tuple(reversed(strides))


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
