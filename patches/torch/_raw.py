"""Data-level primitives: every function takes and returns NumPy arrays or Jittor variables.

A tensor's data is either a host array (0-dim values, integer and schedule tables: computed at once, no kernel to
compile) or a Jittor variable (everything heavy, lazy). A primitive stays on the host while all its inputs are there
and moves to Jittor as soon as one is not. Jittor has no 0-dim variables: here such a value is a variable of shape
``[1]``; the tensor above knows the difference. Nothing here knows about gradients.
"""

import numpy as np
from jtorch.kernels import active
from jtorch.startup import import_jittor

jt = import_jittor()
Var = jt.Var
ndarray = np.ndarray
# Jittor's Python wrappers around these look for other forms of the arguments, which takes longer than the work.
_jt_reshape, _jt_transpose, _jt_array = jt.core.ops.reshape, jt.core.ops.transpose, jt.core.ops.array

HOST_MAX = 1 << 16  # elements; larger results of host arithmetic move to Jittor


def is_host(x):
    return type(x) is ndarray


def to_var(x):
    """Upload a host array; a Jittor variable is returned as it is."""
    if type(x) is Var:
        return x
    if x.dtype.kind == "c":
        raise NotImplementedError("complex tensors of this backend live on the host and cannot be mixed with Jittor's")
    return _jt_array(np.ascontiguousarray(x))


def to_host(x, shape=None):
    """Fetch data as a NumPy array (bfloat16 comes back as float32). Waits for pending kernels."""
    if type(x) is ndarray:
        return x
    a = x.numpy()
    return a if shape is None or a.shape == tuple(shape) else a.reshape(shape)


def dtype_name(x):
    return x.dtype.name if type(x) is ndarray else str(x.dtype)


def cast(x, dt):
    """Convert to a `torch.dtype`; float to integer truncates towards zero, anything to bool tests for non-zero."""
    if type(x) is ndarray:
        if dt.np is not None:
            if x.dtype == dt.np:
                return x
            with np.errstate(all="ignore"):
                if dt.np.kind in "iu" and x.dtype.kind == "f":  # wrap instead of undefined behaviour, as PyTorch does
                    return np.asarray(np.trunc(x)).astype(np.int64).astype(dt.np)  # of a 0-dim array NumPy gives a scalar
                if x.dtype.kind == "c" and dt.np.kind != "c":
                    x = x.real
                return x.astype(dt.np)
        x = to_var(x.astype(np.float32))
    name = dt.jt
    if name is None:
        return to_host(x).astype(dt.np)
    if str(x.dtype) == name:
        return x
    if name == "bool":
        return x != 0 if str(x.dtype) != "bool" else x
    if name == "bfloat16":
        return active.to_bfloat16(x if str(x.dtype) == "float32" else jt.unary(x, "float32"))
    if name in ("uint8", "int8", "int16") and str(x.dtype).startswith(("float", "bfloat")):
        return jt.unary(jt.unary(x, "int32"), name)
    return jt.unary(x, name)


def full(shape, value, dt):
    """Constant data. 1-D, integer and 0-dim constants stay on the host."""
    n = 1
    for s in shape:
        n *= s
    if dt.np is not None and (dt.jt is None or n == 0 or n <= 64 or (n <= HOST_MAX and (
            len(shape) < 2 or dt._kind != 2 or dt.itemsize == 8))):
        return np.full(shape, value, dt.np)
    if not shape:
        return jt.unary(jt.array(np.asarray(value, np.float32).reshape(1)), dt.jt)
    v = jt.array(np.asarray(value, np.float64 if dt.itemsize == 8 and dt._kind == 2 else (
        np.float32 if dt._kind == 2 else dt.np)).reshape(1))
    return jt.broadcast(cast(v, dt), tuple(shape))


def settle(x):
    """Keep small host results on the host, move large ones to Jittor."""
    if type(x) is ndarray and x.size > HOST_MAX and x.dtype.kind != "c":
        return to_var(x)
    return x


def _pair(a, b):
    return to_var(a), to_var(b)


# --- elementwise ---------------------------------------------------------------------------------------------------
def _np_quiet(f):
    def run(*a):
        with np.errstate(all="ignore"):
            return np.asarray(f(*a))

    return run


def _binary(np_fn, jt_name):
    np_fn = _np_quiet(np_fn)
    jt_fn = getattr(jt, jt_name)

    def op(a, b):
        if type(a) is ndarray and type(b) is ndarray:
            return np_fn(a, b)
        return jt_fn(to_var(a), to_var(b))

    return op


add = _binary(np.add, "add")
sub = _binary(np.subtract, "subtract")
mul = _binary(np.multiply, "multiply")
logical_and = _binary(np.logical_and, "logical_and")
logical_or = _binary(np.logical_or, "logical_or")
logical_xor = _binary(np.logical_xor, "logical_xor")
bitwise_and = _binary(np.bitwise_and, "bitwise_and")
bitwise_or = _binary(np.bitwise_or, "bitwise_or")
bitwise_xor = _binary(np.bitwise_xor, "bitwise_xor")
left_shift = _binary(np.left_shift, "left_shift")
right_shift = _binary(np.right_shift, "right_shift")
eq = _binary(np.equal, "equal")
ne = _binary(np.not_equal, "not_equal")
lt = _binary(np.less, "less")
le = _binary(np.less_equal, "less_equal")
gt = _binary(np.greater, "greater")
ge = _binary(np.greater_equal, "greater_equal")
_div = _binary(np.divide, "divide")


def div(a, b):
    """True division of floating-point data."""
    return _div(a, b)


def _nan_through(a, b, r):
    # Jittor's max and min drop a NaN that stands second; PyTorch passes it on.
    return jt.ternary(a != a, a, jt.ternary(b != b, b, r))


def _extreme(np_fn, jt_fn):
    def op(a, b):
        if type(a) is ndarray and type(b) is ndarray:
            return np.asarray(np_fn(a, b))  # of two scalars NumPy makes a scalar, not an array
        a, b = _same_shape(*_pair(a, b))
        r = jt_fn(a, b)
        return _nan_through(a, b, r) if "float" in str(r.dtype) else r

    return op


maximum = _extreme(np.maximum, jt.maximum)
minimum = _extreme(np.minimum, jt.minimum)


def _same_shape(a, b):
    if tuple(a.shape) == tuple(b.shape):
        return a, b
    shape = np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
    return jt.broadcast(a, shape), jt.broadcast(b, shape)


def floor_divide(a, b):
    """Quotient rounded down (Python's ``//``); Jittor's own rounds towards zero."""
    if type(a) is ndarray and type(b) is ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(np.floor_divide(a, b))
    a, b = _pair(a, b)
    if "float" in str(a.dtype):
        return jt.floor(a / b)
    q = jt.floor_divide(a, b)
    return q - jt.logical_and(q * b != a, jt.logical_xor(a < 0, b < 0)).cast(a.dtype)


def remainder(a, b):
    """Remainder with the sign of the divisor (Python's ``%``)."""
    if type(a) is ndarray and type(b) is ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(np.remainder(a, b))
    a, b = _pair(a, b)
    return a - floor_divide(a, b) * b


def trunc(x):
    if type(x) is ndarray:
        return np.asarray(np.trunc(x))
    return jt.ternary(x < 0, jt.ceil(x), jt.floor(x))


def power(a, b):
    if type(a) is ndarray and type(b) is ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(np.power(a, b))
    a, b = _pair(a, b)
    return jt.pow(a, b)


def _unary(np_fn, jt_name):
    np_fn = _np_quiet(np_fn)
    jt_fn = getattr(jt, jt_name)

    def op(x):
        return np_fn(x) if type(x) is ndarray else jt_fn(x)

    return op


def _np_erf(x):
    import math

    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)


neg = _unary(np.negative, "negative")
abs_ = _unary(np.abs, "abs")
exp = _unary(np.exp, "exp")
log = _unary(np.log, "log")
sqrt = _unary(np.sqrt, "sqrt")
sin = _unary(np.sin, "sin")
cos = _unary(np.cos, "cos")
tan = _unary(np.tan, "tan")
asin = _unary(np.arcsin, "asin")
acos = _unary(np.arccos, "acos")
atan = _unary(np.arctan, "atan")
sinh = _unary(np.sinh, "sinh")
cosh = _unary(np.cosh, "cosh")
tanh = _unary(np.tanh, "tanh")
asinh = _unary(np.arcsinh, "asinh")
acosh = _unary(np.arccosh, "acosh")
atanh = _unary(np.arctanh, "atanh")
erf = _unary(_np_erf, "erf")
floor = _unary(np.floor, "floor")
ceil = _unary(np.ceil, "ceil")
logical_not = _unary(np.logical_not, "logical_not")
bitwise_not = _unary(np.bitwise_not, "bitwise_not")


def sigmoid(x):
    if type(x) is ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(1 / (1 + np.exp(-x)), dtype=x.dtype)
    return jt.sigmoid(x)


def round_(x):
    """Nearest integer, ties to even."""
    if type(x) is ndarray:
        return np.asarray(np.round(x))
    r = jt.floor(x + 0.5)
    odd = (r - jt.floor(r * 0.5) * 2) != 0
    return jt.ternary(jt.logical_and(r - x == 0.5, odd), r - 1, r)


def isnan(x):
    if type(x) is ndarray:
        return np.isnan(x) if x.dtype.kind in "fc" else np.zeros(x.shape, bool)
    return x != x


def where(c, a, b):
    """Elementwise choice; shapes broadcast, ``a`` and ``b`` share their dtype already."""
    if type(c) is ndarray and type(a) is ndarray and type(b) is ndarray:
        return np.where(c, a, b)
    c, a, b = to_var(c), to_var(a), to_var(b)
    shape = np.broadcast_shapes(tuple(c.shape), tuple(a.shape), tuple(b.shape))
    c, a, b = (v if tuple(v.shape) == shape else jt.broadcast(v, shape) for v in (c, a, b))
    return jt.ternary(c, a, b)


# --- shape ---------------------------------------------------------------------------------------------------------
def reshape(x, shape):
    if type(x) is ndarray:
        return x.reshape(shape)
    return _jt_reshape(x, tuple(shape) or (1,))


def transpose(x, dims):
    if type(x) is ndarray:
        return x.transpose(dims)
    if list(dims) == list(range(len(dims))):
        return x
    return _jt_transpose(x, tuple(dims))


def expand(x, shape):
    if type(x) is ndarray:
        return np.broadcast_to(x, shape)
    shape = tuple(shape) or (1,)
    if tuple(x.shape) == shape:
        return x
    x = jt.reshape(x, (1,) * (len(shape) - len(x.shape)) + tuple(x.shape)) if len(x.shape) < len(shape) else x
    return jt.broadcast(x, shape)


def concat(xs, dim):
    if all(type(x) is ndarray for x in xs):
        return np.concatenate(xs, dim)
    return jt.concat([to_var(x) for x in xs], dim)


# --- reductions ----------------------------------------------------------------------------------------------------
def _reduction(np_fn, jt_op):
    def op(x, dims, keepdim):
        if type(x) is ndarray:
            return np.asarray(np_fn(x, axis=tuple(dims), keepdims=keepdim))
        if not dims:
            return x
        return jt.reduce(x, jt_op, tuple(dims), keepdim)

    return op


_sum = _reduction(lambda x, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype), "add")
_LONG = 512  # values from which on float32 sums take our kernel


def sum_(x, dims, keepdim):
    """Sum over axes. Long float32 sums are added up in float64, on the CPU between blocks."""
    if type(x) is ndarray or not dims or str(x.dtype) != "float32":
        return _sum(x, dims, keepdim)
    shape = list(x.shape)
    count = 1
    for d in dims:
        count *= shape[d]
    if count < _LONG:
        return _sum(x, dims, keepdim)
    groups = []  # runs of neighbouring axes
    for d in dims:
        if groups and groups[-1][1] == d:
            groups[-1][1] = d + 1
        else:
            groups.append([d, d + 1])
    for lo, hi in reversed(groups):
        outer, mid, inner = (int(np.prod(part, dtype=np.int64)) for part in (shape[:lo], shape[lo:hi], shape[hi:]))
        x = active.sum_middle(jt.reshape(x, (outer, mid, inner)))
        shape[lo:hi] = [1] * (hi - lo)
    final = shape if keepdim else [s for d, s in enumerate(shape) if d not in dims]
    return jt.reshape(x, tuple(final) or (1,))


prod = _reduction(lambda x, axis, keepdims: np.prod(x, axis=axis, keepdims=keepdims, dtype=x.dtype), "multiply")
amax = _reduction(np.max, "maximum")
amin = _reduction(np.min, "minimum")
