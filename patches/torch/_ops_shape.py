"""Shape operations. Those that are views in PyTorch are views here: writes through them reach their base."""

import numpy as np

from . import _engine, _raw
from ._dtype import CPU, Size, bool_, contiguous_format, device, dtype, preserve_format
from ._ops_pointwise import convert, finish, promote_types
from ._tensor import Tensor, method, mk

record = _engine.record


def dims_arg(args):
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    if len(args) == 1 and isinstance(args[0], (tuple, list, Size)):
        args = args[0]
    return tuple(int(a) for a in args)


def wrap_dim(d, n):
    """Axis number from 0 of a possibly negative axis. Raises IndexError out of range."""
    lim = max(n, 1)
    if not -lim <= d < lim:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-lim}, {lim - 1}], but got {d})")
    return d % lim


def view_op(x, v, shape, bw, make, put, name, strides=None):
    """A result that shares its data with ``x``."""
    r = mk(v, shape, x.dtype, x._device)
    if x._rg and _engine.state.grad:
        record((r,), (x,), bw, name)
    return r._mark_view(x, make, put, False, strides)


def _full_shape(shape, n):
    shape = list(shape)
    if -1 in shape:
        i = shape.index(-1)
        rest = 1
        for k, s in enumerate(shape):
            if k != i:
                rest *= s
        if rest == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {shape} because the unspecified "
                               "dimension size -1 can be any value and is ambiguous")
        shape[i] = n // rest
    total = 1
    for s in shape:
        total *= s
    if total != n:
        raise RuntimeError(f"shape '{shape}' is invalid for input of size {n}")
    return Size(shape)


def _view_strides(x, shape):
    """Strides of a reshape of a non-contiguous tensor, or None where PyTorch would have to copy."""
    if x._strides is None:
        return None
    dummy = np.lib.stride_tricks.as_strided(np.empty(1, np.int8), x._shape, x._strides)
    try:
        dummy.shape = shape
    except AttributeError:
        return False
    return tuple(dummy.strides)


def _reshape(x, shape, copy_ok=True):
    x._sync_view()
    shape = _full_shape(shape, x.numel())
    old = x._shape
    v = _raw.reshape(x._v, shape)
    strides = _view_strides(x, shape)
    if strides is False:
        r = mk(v, shape, x.dtype, x._device)
        if x._rg and _engine.state.grad:
            record((r,), (x,), lambda g: (g.reshape(old),), "reshape")
        return r
    return view_op(x, v, shape, lambda g: (g.reshape(old),), lambda b: _reshape(b, shape),
                   lambda b, new: _plain(new, old), "view", strides)


def _plain(t, shape):
    """Reshape without view bookkeeping, on the tape."""
    r = mk(_raw.reshape(t._data(), shape), shape, t.dtype, t._device)
    old = t._shape
    if t._rg and _engine.state.grad:
        record((r,), (t,), lambda g: (g.reshape(old),), "view")
    return r


@method("reshape")
def reshape(input, *dims, shape=None):
    return _reshape(input, dims_arg(dims if shape is None else (shape,)))


@method("view", function=False)
def view(self, *shape):
    if shape and isinstance(shape[0], dtype):
        return _view_dtype(self, shape[0])
    return _reshape(self, dims_arg(shape))


def _view_dtype(x, dt):
    if dt is x.dtype:
        return x
    from ._dtype import bfloat16
    from ._tensor import from_bits_bf16, from_numpy_copy, to_bits_bf16

    a = to_bits_bf16(x) if x.dtype is bfloat16 else np.ascontiguousarray(x._host())
    r = from_bits_bf16(a.view(np.uint16)) if dt is bfloat16 else from_numpy_copy(a.view(dt.np))
    return r._mark_view(x, lambda b: _view_dtype(b, dt), None)


method("view_as", function=False)(lambda self, other: _reshape(self, other._shape))
method("reshape_as", function=False)(lambda self, other: _reshape(self, other._shape))


@method("flatten")
def flatten(input, start_dim=0, end_dim=-1):
    n = len(input._shape)
    if n == 0:
        return _reshape(input, (1,))
    s, e = wrap_dim(start_dim, n), wrap_dim(end_dim, n)
    sh = input._shape
    return _reshape(input, (*sh[:s], Size(sh[s:e + 1]).numel(), *sh[e + 1:]))


@method("unflatten")
def unflatten(input, dim, sizes):
    d = wrap_dim(dim, input.ndim)
    inner = _full_shape(sizes, input._shape[d])
    return _reshape(input, (*input._shape[:d], *inner, *input._shape[d + 1:]))


@method("ravel")
def ravel(input):
    return _reshape(input, (-1,)) if input.numel() else _reshape(input, (0,))


@method("squeeze")
def squeeze(input, dim=None):
    sh = input._shape
    if dim is None:
        keep = [s for s in sh if s != 1]
    else:
        ds = {wrap_dim(d, len(sh)) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))}
        keep = [s for i, s in enumerate(sh) if not (i in ds and s == 1)]
    return _reshape(input, keep)


@method("unsqueeze")
def unsqueeze(input, dim):
    d = wrap_dim(dim, len(input._shape) + 1)
    return _reshape(input, (*input._shape[:d], 1, *input._shape[d:]))


@method("permute")
def permute(input, *dims):
    dims = dims_arg(dims)
    x = input
    n = len(x._shape)
    if len(dims) != n:
        raise RuntimeError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of"
                           f" the desired ordering of dimensions i.e. input.dim() = {n} is not equal to len(dims) = "
                           f"{len(dims)}")
    dims = tuple(wrap_dim(d, n) for d in dims)
    inv = tuple(sorted(range(n), key=dims.__getitem__))
    st = x.stride()
    v = _raw.transpose(x._data(), dims) if n else x._data()
    return view_op(x, v, [x._shape[d] for d in dims], lambda g: (g.permute(inv),), lambda b: permute(b, dims),
                   lambda b, new: permute(new, inv), "permute", tuple(st[d] for d in dims))


@method("transpose", "swapaxes", "swapdims")
def transpose(input, dim0, dim1):
    n = len(input._shape)
    a, b = wrap_dim(dim0, n), wrap_dim(dim1, n)
    order = list(range(n))
    if n:
        order[a], order[b] = order[b], order[a]
    return permute(input, *order) if n != 1 else permute(input, 0)


@method("t")
def t(input):
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return transpose(input, 0, 1) if input.ndim == 2 else input


Tensor.T = property(lambda self: permute(self, *reversed(range(self.ndim))))
Tensor.mT = property(lambda self: transpose(self, -2, -1))
Tensor.H = property(lambda self: transpose(self, -2, -1))


@method("movedim", "moveaxis")
def movedim(input, source, destination):
    n = input.ndim
    src = [wrap_dim(d, n) for d in (source if isinstance(source, (tuple, list)) else (source,))]
    dst = [wrap_dim(d, n) for d in (destination if isinstance(destination, (tuple, list)) else (destination,))]
    order = [d for d in range(n) if d not in src]
    for d, s in sorted(zip(dst, src)):
        order.insert(d, s)
    return permute(input, *order)


def expand_to(x, shape):
    sh = x._shape
    lead = len(shape) - len(sh)
    out = []
    for i, s in enumerate(shape):
        have = sh[i - lead] if i >= lead else 1
        if s == -1:
            s = have
        if have != s and have != 1:
            raise RuntimeError(f"The expanded size of the tensor ({s}) must match the existing size ({have}) at "
                               f"non-singleton dimension {i}.  Target sizes: {list(shape)}.  Tensor sizes: {list(sh)}")
        out.append(s)
    from ._ops_pointwise import sum_to

    st = x.stride()
    strides = tuple(0 if i < lead or (sh[i - lead] == 1 and s != 1) else st[i - lead] for i, s in enumerate(out))
    out = Size(out)
    if out == sh:
        return view_op(x, x._data(), sh, lambda g: (g,), lambda b: expand_to(b, out), lambda b, new: new, "expand",
                       x._strides)
    return view_op(x, _raw.expand(x._data(), out), out, lambda g: (sum_to(g, sh),), lambda b: expand_to(b, out),
                   None if out.numel() != x.numel() else lambda b, new: _plain(new, sh), "expand", strides)


method("expand", function=False)(lambda self, *size: expand_to(self, dims_arg(size)))
method("expand_as", function=False)(lambda self, other: expand_to(self, other._shape))
method("broadcast_to")(lambda input, size: expand_to(input, tuple(size)))


@method("broadcast_tensors", attach=False)
def broadcast_tensors(*tensors):
    from ._ops_pointwise import broadcast_shape

    shape = tensors[0]._shape
    for x in tensors[1:]:
        shape = broadcast_shape(shape, x._shape)
    return tuple(expand_to(x, shape) for x in tensors)


@method("broadcast_shapes", attach=False)
def broadcast_shapes(*shapes):
    from ._ops_pointwise import broadcast_shape

    out = Size(())
    for s in shapes:
        out = broadcast_shape(out, Size((s,) if isinstance(s, int) else s))
    return out


@method("repeat", function=False)
def repeat(self, *sizes):
    sizes = dims_arg(sizes)
    if len(sizes) < self.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    sh = (1,) * (len(sizes) - self.ndim) + tuple(self._shape)
    x = _reshape(self, sh)
    inter = [v for s in sh for v in (1, s)]
    big = [v for r, s in zip(sizes, sh) for v in (r, s)]
    return _reshape(expand_to(_reshape(x, inter), big), [r * s for r, s in zip(sizes, sh)]).detach_view()


def _detach_view(self):
    """Cut the link to the base: the result counts as a copy."""
    self._sync_view()
    self._base = self._view = self._vc = self._strides = None
    return self


Tensor.detach_view = _detach_view


@method("tile")
def tile(input, *dims):
    dims = dims_arg(dims)
    return repeat(input, *((1,) * (input.ndim - len(dims)) + dims))


@method("repeat_interleave")
def repeat_interleave(input, repeats, dim=None, *, output_size=None):
    x = flatten(input) if dim is None else input
    d = 0 if dim is None else wrap_dim(dim, x.ndim)
    if isinstance(repeats, Tensor) and repeats.numel() > 1:
        idx = np.repeat(np.arange(x._shape[d]), repeats._host())
        return x.index_select(d, mk(idx, idx.shape, _int64()))
    r = int(repeats)
    y = expand_to(unsqueeze(x, d + 1), (*x._shape[:d + 1], r, *x._shape[d + 1:]))
    return _reshape(y, (*x._shape[:d], x._shape[d] * r, *x._shape[d + 1:])).detach_view()


def _int64():
    from ._dtype import int64

    return int64


@method("cat", "concat", "concatenate", attach=False)
def cat(tensors, dim=0, *, out=None):
    ts = [x for x in tensors if x._shape != (0,)] or [tensors[0]]
    n = ts[0].ndim
    d = wrap_dim(dim, n)
    dt = tensors[0].dtype
    for x in tensors:
        dt = promote_types(dt, x.dtype)
    for x in ts[1:]:
        if x.ndim != n or any(i != d and a != b for i, (a, b) in enumerate(zip(x._shape, ts[0]._shape))):
            raise RuntimeError(f"Sizes of tensors must match except in dimension {d}. Expected {list(ts[0]._shape)} but "
                               f"got {list(x._shape)}")
    ts = [x if x.dtype is dt else convert(x, dt) for x in ts]
    sizes = [x._shape[d] for x in ts]
    shape = (*ts[0]._shape[:d], sum(sizes), *ts[0]._shape[d + 1:])
    live = [x for x in ts if x.numel()] or ts[:1]
    r = finish(_raw.concat([x._data() for x in live], d) if len(live) > 1 else live[0]._data(), shape, dt,
               ts[0]._device)
    if _engine.needs(*ts):
        need = [x.requires_grad for x in ts]

        def backward(g):
            outs, at = [], 0
            for nd, s in zip(need, sizes):
                outs.append(narrow(g, d, at, s) if nd else None)
                at += s
            return tuple(outs)

        record((r,), tuple(x if nd else None for x, nd in zip(ts, need)), backward, "cat")
    return r if out is None else out._inplace(r)


@method("stack", attach=False)
def stack(tensors, dim=0, *, out=None):
    d = wrap_dim(dim, tensors[0].ndim + 1)
    for x in tensors:
        if x._shape != tensors[0]._shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(tensors[0]._shape)} at entry "
                               f"0 and {list(x._shape)} at entry {list(tensors).index(x)}")
    return cat([unsqueeze(x, d) for x in tensors], d, out=out)


method("hstack", attach=False)(lambda tensors: cat([atleast_1d(x) for x in tensors], 0 if tensors[0].ndim < 2 else 1))
method("vstack", "row_stack", attach=False)(
    lambda tensors: cat([x if x.ndim > 1 else _reshape(x, (1, -1)) for x in tensors], 0))
atleast_1d = method("atleast_1d", attach=False)(lambda x: x if x.ndim else _reshape(x, (1,)))


@method("narrow")
def narrow(input, dim, start, length):
    d = wrap_dim(dim, input.ndim)
    start = int(start)
    if start < 0:
        start += input._shape[d]
    if start + length > input._shape[d]:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({input._shape[d]}).")
    return input[(slice(None),) * d + (slice(start, start + length),)]


@method("select")
def select(input, dim, index):
    return input[(slice(None),) * wrap_dim(dim, input.ndim) + (int(index),)]


@method("split")
def split(input, split_size_or_sections=None, dim=0, *, split_size=None):
    s = split_size_or_sections if split_size is None else split_size
    d = wrap_dim(dim, input.ndim)
    n = input._shape[d]
    if isinstance(s, int):
        sizes = [min(s, n - i) for i in range(0, n, s)] or [0]
    else:
        sizes = list(s)
        if sum(sizes) != n:
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                               f"dimension {d}), but got split_sizes={sizes}")
    out, at = [], 0
    for k in sizes:
        out.append(narrow(input, d, at, k))
        at += k
    return tuple(out)


method("split_with_sizes")(lambda input, split_sizes, dim=0: split(input, list(split_sizes), dim))


@method("chunk")
def chunk(input, chunks, dim=0):
    n = input._shape[wrap_dim(dim, input.ndim)]
    return split(input, max(1, -(-n // chunks)), dim)


@method("tensor_split")
def tensor_split(input, indices_or_sections, dim=0):
    n = input._shape[wrap_dim(dim, input.ndim)]
    if isinstance(indices_or_sections, int):
        k = indices_or_sections
        sizes = [n // k + (i < n % k) for i in range(k)]
    else:
        cuts = [0, *indices_or_sections, n]
        sizes = [b - a for a, b in zip(cuts, cuts[1:])]
    return split(input, sizes, dim)


@method("unbind")
def unbind(input, dim=0):
    d = wrap_dim(dim, input.ndim)
    return tuple(input[(slice(None),) * d + (i,)] for i in range(input._shape[d]))


@method("flip")
def flip(input, *dims):
    ds = {wrap_dim(d, input.ndim) for d in dims_arg(dims)}
    from ._ops_index import get_basic

    return get_basic(input, tuple(slice(None, None, -1) if i in ds else slice(None) for i in range(input.ndim)),
                     ).detach_view()


method("fliplr")(lambda input: flip(input, 1))
method("flipud")(lambda input: flip(input, 0))


@method("roll")
def roll(input, shifts, dims=None):
    if dims is None:
        return _reshape(roll(flatten(input), shifts, 0), input._shape)
    x = input
    for s, d in zip(*((v if isinstance(v, (tuple, list)) else (v,)) for v in (shifts, dims))):
        n = x._shape[wrap_dim(d, x.ndim)]
        s = s % n if n else 0
        if s:
            x = cat([narrow(x, d, n - s, s), narrow(x, d, 0, n - s)], d)
    return x if x is not input else input.clone()


@method("rot90")
def rot90(input, k=1, dims=(0, 1)):
    a, b = dims
    k %= 4
    if k == 0:
        return input.clone()
    if k == 2:
        return flip(input, a, b)
    return flip(transpose(input, a, b), a) if k == 1 else transpose(flip(input, a), a, b)


@method("meshgrid", attach=False)
def meshgrid(*tensors, indexing="ij"):
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tensors[0]
    n = len(tensors)
    order = list(range(n))
    if indexing == "xy" and n > 1:
        order[0], order[1] = 1, 0
    shape = [tensors[o].numel() for o in order]
    return tuple(expand_to(_reshape(x, [-1 if order[k] == i else 1 for k in range(n)]), shape)
                 for i, x in enumerate(tensors))


@method("unfold", function=False)
def unfold(self, dimension, size, step):
    d = wrap_dim(dimension, self.ndim)
    n = (self._shape[d] - size) // step + 1
    parts = [narrow(self, d, i * step, size) for i in range(n)]
    return movedim(stack(parts, d), d + 1, -1)


@method("diagonal")
def diagonal(input, offset=0, dim1=0, dim2=1):
    x = movedim(input, (dim1, dim2), (-2, -1))
    n, m = x._shape[-2:]
    k = max(0, min(n, m - offset) if offset >= 0 else min(n + offset, m))
    i = np.arange(k) + max(0, -offset)
    j = np.arange(k) + max(0, offset)
    flat = _reshape(x, (*x._shape[:-2], n * m))
    r = flat.index_select(-1, mk(i * m + j, (k,), _int64()))
    return r._mark_view(input, lambda b: diagonal(b, offset, dim1, dim2), None)


@method("diag")
def diag(input, diagonal=0):
    if input.ndim == 2:
        return Tensor.diagonal(input, diagonal).clone()
    return diag_embed(input, diagonal)


@method("diag_embed")
def diag_embed(input, offset=0):
    n = input._shape[-1] + abs(offset)
    eye = np.eye(input._shape[-1], n, offset) if offset >= 0 else np.eye(n, n)[:, :input._shape[-1]]
    if offset >= 0:
        eye = np.concatenate([eye, np.zeros((n - input._shape[-1], n))]) if offset else eye
        x = cat([input, input.new_zeros((*input._shape[:-1], offset))], -1) if offset else input
        return unsqueeze(x, -1) * mk(eye.astype(bool), eye.shape, bool_)
    k = -offset
    x = cat([input.new_zeros((*input._shape[:-1], k)), input], -1)
    m = np.eye(n, n, -k).astype(bool)
    return unsqueeze(x, -1) * mk(m, m.shape, bool_)


@method("block_diag", attach=False)
def block_diag(*tensors):
    """Matrices (or vectors, or numbers) along the diagonal of a larger one, zeros elsewhere."""
    mats = [_reshape(x, (1, -1)) if x.ndim < 2 else x for x in tensors]
    width = sum(m._shape[1] for m in mats)
    rows, at = [], 0
    for m in mats:
        n, k = m._shape
        rows.append(cat([m.new_zeros((n, at)), m, m.new_zeros((n, width - at - k))], 1))
        at += k
    return cat(rows, 0)


# --- copies and conversion -----------------------------------------------------------------------------------------
@method("clone")
def clone(input, *, memory_format=preserve_format):
    r = mk(input._data(), input._shape, input.dtype, input._device)
    if input._rg and _engine.state.grad:
        record((r,), (input,), lambda g: (g,), "clone")
    return r


@method("contiguous", function=False)
def contiguous(self, memory_format=contiguous_format):
    return self if self.is_contiguous() else clone(self)


@method("to", function=False)
def to(self, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    for a in args:
        if isinstance(a, _dtype_class):
            dtype = a
        elif isinstance(a, Tensor):
            dtype, device = a.dtype, a._device
        elif isinstance(a, (str, _device_class, int)) and not isinstance(a, bool):
            device = a
    r = self
    if device is not None:
        dev = device if isinstance(device, _device_class) else _device_class(device)
        if dev.type != self._device.type:
            r = _move(self, dev)
    if dtype is not None and dtype is not r.dtype:
        return convert(r, dtype)
    return clone(r) if copy and r is self else r


_dtype_class, _device_class = dtype, device


def _move(x, dev):
    if x._device.type == "meta":
        raise NotImplementedError("Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() "
                                  "instead of torch.nn.Module.to() when moving module from meta to a different device.")
    if dev.type == "meta":
        from ._ops_create import meta_data

        return mk(meta_data(x._shape, x.dtype), x._shape, x.dtype, dev)
    from . import cuda

    if dev.type not in ("cpu", "cuda"):
        raise RuntimeError(f"device type {dev.type!r} is not available in torch on Jittor")
    if dev.type == "cuda":
        cuda._require()
    r = mk(x._data(), x._shape, x.dtype, dev if dev.type != "cpu" else CPU)
    if x._rg and _engine.state.grad:
        src = x._device
        record((r,), (x,), lambda g: (g.to(src),), "to_copy")
    return r


def _typed(name, dt):
    method(name, function=False)(lambda self, memory_format=None: self if self.dtype is dt else convert(self, dt))


def _register_types():
    from ._dtype import ALIASES, BY_NAME

    for n in ("half", "float", "double", "short", "int", "long", "cfloat", "cdouble"):
        _typed(n, ALIASES[n])
    _typed("bool", bool_)
    _typed("bfloat16", BY_NAME["bfloat16"])
    _typed("char", BY_NAME["int8"])
    _typed("byte", BY_NAME["uint8"])


_register_types()
method("cpu", function=False)(lambda self, memory_format=None: to(self, "cpu"))
method("cuda", function=False)(lambda self, device=None, non_blocking=False, memory_format=None: to(
    self, "cuda" if device is None else device))
method("type_as", function=False)(lambda self, other: to(self, other.dtype))
method("pin_memory", function=False)(lambda self, device=None: self)


@method("type", function=False)
def type_(self, dtype=None, non_blocking=False):
    names = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long",
             "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool",
             "complex64": "ComplexFloat", "complex128": "ComplexDouble"}
    if dtype is None:
        return f"torch.{'cuda.' if self.is_cuda else ''}{names[self.dtype.name]}Tensor"
    if isinstance(dtype, str):
        short = dtype.rsplit(".", 1)[-1]
        match = [k for k, v in names.items() if f"{v}Tensor" == short]
        if not match:
            raise ValueError(f"invalid type: {dtype!r}")
        from ._dtype import BY_NAME

        dtype = BY_NAME[match[0]]
    return to(self, dtype)


@method("copy_", function=False)
def copy_(self, src, non_blocking=False):
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_(): argument 'other' must be Tensor, not {type(src).__name__}")
    if src.dtype is not self.dtype:
        src = convert(src, self.dtype)
    if self._device.type == "meta":
        return self
    if src._shape != self._shape:
        src = expand_to(src, self._shape)
    if src._device.type != self._device.type:
        src = _move(src, self._device)
    return self._inplace(clone(src))


@method("set_", function=False)
def set_(self, source=None):
    self.data = source
    return self


@method("resize_", function=False)
def resize_(self, *shape):
    shape = Size(dims_arg(shape))
    if shape.numel() != self.numel():
        raise NotImplementedError("Tensor.resize_ to another number of elements is not implemented in torch on Jittor")
    self._v, self._shape = _raw.reshape(self._data(), shape), shape
    return self


for _n in ("squeeze", "unsqueeze", "transpose", "t"):
    def _shape_inplace(self, *a, _f=getattr(Tensor, _n)):
        r = _f(self.detach_copy() if not self._rg else self._snap(), *a)
        self._v, self._shape = r._data(), r._shape
        if r._rg:
            self._rg, self._node, self._out_nr = True, r._node, r._out_nr
        return self

    setattr(Tensor, _n + "_", _shape_inplace)


def _real(x):
    if not x.dtype.is_complex:
        return x
    return mk(np.ascontiguousarray(x._v.real), x._shape, x.dtype.to_real())


method("real", attach=False)(_real)
Tensor.real = property(_real)
Tensor.imag = property(lambda x: mk(np.ascontiguousarray(x._v.imag), x._shape, x.dtype.to_real()))
method("view_as_real", attach=False)(lambda x: stack([x.real, x.imag], -1))


@method("view_as_complex", attach=False)
def view_as_complex(x):
    a = x._host()
    c = a[..., 0] + 1j * a[..., 1]
    return mk(np.asarray(c), c.shape, x.dtype.to_complex())


method("conj")(lambda input: mk(np.conj(input._v), input._shape, input.dtype) if input.dtype.is_complex else input)
method("is_tensor", attach=False)(lambda obj: isinstance(obj, Tensor))
method("numel", attach=False)(lambda input: input.numel())
method("is_floating_point", attach=False)(lambda input: input.dtype.is_floating_point)
method("is_complex", attach=False)(lambda input: input.dtype.is_complex)
method("detach", attach=False)(lambda input: input.detach())
