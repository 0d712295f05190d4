"""Elementwise operations of several operands: arithmetic, comparison, logic, choice; type conversion; all in-place forms."""

import math

import numpy as np

from . import _engine, _raw
from ._dtype import bool_, float32, get_default_dtype
from ._elementwise import (
    _into,
    _other,
    binary,
    broadcast_shape,
    category_type,
    compute_dtype,
    finish,
    needs,
    operand,
    raw_scalar,
    record,
    sum_to,
    unary,
)
from ._ops_unary import sqrt
from ._tensor import Tensor, method, mk, scalar_dtype


class _BW:
    __slots__ = ("a", "b", "uses")

    def __init__(self, uses, a, b):
        self.uses, self.a, self.b = uses, a, b


_ADD = _BW("", lambda g, a, b, r: g, lambda g, a, b, r: g)
_SUB = _BW("", lambda g, a, b, r: g, lambda g, a, b, r: -g)
_MUL = _BW("ab", lambda g, a, b, r: g * b, lambda g, a, b, r: g * a)
_DIV = _BW("ab", lambda g, a, b, r: g / b, lambda g, a, b, r: -g * a / (b * b))
_MAX = _BW("ab", lambda g, a, b, r: g * _share(a, b, "gt"), lambda g, a, b, r: g * _share(b, a, "gt"))
_MIN = _BW("ab", lambda g, a, b, r: g * _share(a, b, "lt"), lambda g, a, b, r: g * _share(b, a, "lt"))
_REM = _BW("ab", lambda g, a, b, r: g, lambda g, a, b, r: -g * (a / b).floor())
_ATAN2 = _BW("ab", lambda g, a, b, r: g * b / (a * a + b * b), lambda g, a, b, r: -g * a / (a * a + b * b))


def _share(a, b, how):
    win = getattr(a, how)(b) if isinstance(a, Tensor) else getattr(mk(np.asarray(a), (), scalar_dtype(a)), how)(b)
    tie = (a == b) if isinstance(a, Tensor) else (b == a)
    return win.to(float32) + tie.to(float32) * 0.5


def _pow_a(g, a, b, r):
    if isinstance(b, Tensor):
        return g * where(b == 0, zeros_like_scalar(b), b * power(a, b - 1))
    return g * b * power(a, b - 1) if b != 0 else g * 0


def zeros_like_scalar(t):
    return mk(_raw.full((), 0, t.dtype), (), t.dtype)


def _pow_b(g, a, b, r):
    base = a if isinstance(a, Tensor) else mk(np.asarray(float(a), np.float32), (), float32)
    return g * r * base.log()


_POW = _BW("abr", _pow_a, _pow_b)


def _float_dt(a, b):
    dt = category_type(a, b)
    return dt if dt._kind >= 2 else get_default_dtype()


def _arith(name, rawf, bw, minus=False):
    def op(input, other, *, alpha=1, out=None):
        o = _other(other)
        if o is None:
            return NotImplemented
        if alpha != 1:
            o = o * alpha
        if minus and isinstance(input, Tensor) and input.dtype is bool_ and getattr(o, "dtype", None) is bool_:
            raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
                               "`logical_xor()` operator instead.")
        return _into(out, binary(name, rawf, input, o, bw))

    op.__name__ = name
    return op


add = method("add", "__add__")(_arith("add", _raw.add, _ADD))
sub = method("sub", "subtract", "__sub__")(_arith("sub", _raw.sub, _SUB, True))


@method("mul", "multiply", "__mul__")
def mul(input, other, *, out=None):
    o = _other(other)
    if o is None:
        return NotImplemented
    dt = None
    if isinstance(o, Tensor) and isinstance(input, Tensor) and input.dtype is o.dtype is bool_:
        return _into(out, binary("mul", _raw.logical_and, input, o, None, bool_, bool_))
    return _into(out, binary("mul", _raw.mul, input, o, _MUL, dt))


@method("div", "divide", "true_divide", "__truediv__")
def div(input, other, *, rounding_mode=None, out=None):
    o = _other(other)
    if o is None:
        return NotImplemented
    if rounding_mode == "floor":
        return _into(out, floor_divide(input, o))
    if rounding_mode == "trunc":
        dt = category_type(input, o)
        if dt._kind < 2:
            return _into(out, (input.double() / o).trunc().to(dt))
        return _into(out, (input / o).trunc())
    floating = isinstance(input, Tensor) and input.dtype._kind == 2
    if floating and out is None and type(o) in (float, int) and o == 1:  # the same bits: diffusers divides by 1 a lot
        r = mk(input._data(), input._shape, input.dtype, input._device)
        if input._rg and _engine.state.grad:
            record((r,), (input,), lambda g: (g,), "div")
        return r
    return _into(out, binary("div", _raw.div, input, o, _DIV, None if floating else _float_dt(input, o)))


@method("floor_divide", "__floordiv__")
def floor_divide(input, other, *, out=None):
    o = _other(other)
    if o is None:
        return NotImplemented
    if category_type(input, o)._kind < 2 and not isinstance(o, Tensor) and o == 0:
        raise RuntimeError("ZeroDivisionError")
    return _into(out, binary("floor_divide", _raw.floor_divide, input, o))


@method("remainder", "__mod__")
def remainder(input, other, *, out=None):
    o = _other(other)
    return NotImplemented if o is None else _into(out, binary("remainder", _raw.remainder, input, o, _REM))


@method("fmod")
def fmod(input, other, *, out=None):
    q = div(input, other, rounding_mode="trunc")
    return _into(out, input - q * other)


@method("pow", "__pow__")
def power(input, exponent, *, out=None):
    e = _other(exponent)
    if e is None:
        return NotImplemented
    if not isinstance(e, Tensor):
        # squares and roots are by far the most frequent powers and much cheaper as such
        if e == 2 and isinstance(input, Tensor) and input.dtype._kind >= 1:
            return _into(out, input * input)
        if e == 0.5 and isinstance(input, Tensor) and input.dtype._kind == 2:
            return _into(out, sqrt(input))
        if input.dtype._kind == 1 and isinstance(e, int) and e < 0:
            raise RuntimeError("Integers to negative integer powers are not allowed.")
    return _into(out, binary("pow", _raw.power, input, e, _POW))


@method("atan2", "arctan2")
def atan2(input, other):
    def raw(a, b):
        return np.asarray(np.arctan2(_raw.to_host(a), _raw.to_host(b)))

    return binary("atan2", raw, input, other, _ATAN2, _float_dt(input, other))


maximum = method("maximum")(lambda input, other, *, out=None: _into(
    out, binary("maximum", _raw.maximum, input, other, _MAX)))
minimum = method("minimum")(lambda input, other, *, out=None: _into(
    out, binary("minimum", _raw.minimum, input, other, _MIN)))
method("fmax")(lambda input, other: where(input.isnan(), other, where(other.isnan(), input, maximum(input, other))))
method("fmin")(lambda input, other: where(input.isnan(), other, where(other.isnan(), input, minimum(input, other))))


def _reflected(op):
    def r(self, other):
        o = _other(other)
        return NotImplemented if o is None else op(o, self)

    return r


Tensor.__radd__ = Tensor.__add__
Tensor.__rmul__ = Tensor.__mul__
Tensor.__rsub__ = _reflected(sub)
method("rsub")(lambda input, other, *, alpha=1: sub(_other(other), input, alpha=alpha))
Tensor.__rtruediv__ = Tensor.__rdiv__ = _reflected(div)
Tensor.__rfloordiv__ = _reflected(floor_divide)
Tensor.__rmod__ = _reflected(remainder)
Tensor.__rpow__ = _reflected(power)


def _compare(rawf, *names):
    def op(input, other, *, out=None):
        o = _other(other)
        if o is None:
            return NotImplemented
        return _into(out, binary(names[0], rawf, input, o, None, None, bool_))

    return method(*names)(op)


_compare(_raw.lt, "lt", "less", "__lt__")
_compare(_raw.le, "le", "less_equal", "__le__")
_compare(_raw.gt, "gt", "greater", "__gt__")
_compare(_raw.ge, "ge", "greater_equal", "__ge__")
eq = _compare(_raw.eq, "eq", "__eq__")
_compare(_raw.ne, "ne", "not_equal", "__ne__")


def _logical(rawf, *names):
    def op(input, other, *, out=None):
        o = _other(other)
        return _into(out, binary(names[0], rawf, input.bool(), o.bool() if isinstance(o, Tensor) else bool(o), None,
                                 bool_, bool_))

    return method(*names)(op)


_logical(_raw.logical_and, "logical_and")
_logical(_raw.logical_or, "logical_or")
_logical(_raw.logical_xor, "logical_xor")


def _bits(raw_int, raw_bool, name, dunder):
    def op(input, other, *, out=None):
        o = _other(other)
        if o is None:
            return NotImplemented
        dt = category_type(input, o)
        if dt._kind >= 2:
            raise RuntimeError(f'"{name}" not implemented for {dt.name}')
        return _into(out, binary(name, raw_bool if dt is bool_ else raw_int, input, o))

    method(name, f"__{dunder}__")(op)
    if dunder in ("and", "or", "xor"):
        setattr(Tensor, f"__r{dunder}__", op)


_bits(_raw.bitwise_and, _raw.logical_and, "bitwise_and", "and")
_bits(_raw.bitwise_or, _raw.logical_or, "bitwise_or", "or")
_bits(_raw.bitwise_xor, _raw.logical_xor, "bitwise_xor", "xor")
_bits(_raw.left_shift, _raw.left_shift, "bitwise_left_shift", "lshift")
_bits(_raw.right_shift, _raw.right_shift, "bitwise_right_shift", "rshift")


@method("where")
def where(condition, input=None, other=None):
    if input is None:
        return condition.nonzero(as_tuple=True)
    if isinstance(condition, Tensor) and condition.dtype is not bool_:
        condition = condition.bool()
    tens = [t for t in (input, other) if isinstance(t, Tensor)]
    dt = category_type(input, other)
    for t in (*tens, condition):
        if type(t._data()) is not np.ndarray:
            for u in (*tens, condition):
                u._var()
            break
    (ra, sa), (rb, sb) = operand(input, dt), operand(other, dt)
    c = condition._data()
    shape = broadcast_shape(condition._shape, broadcast_shape(sa, sb))
    places = [t._device for t in (condition, *tens) if t._device.type != "cpu"]
    r = finish(_raw.where(c, ra, rb), shape, dt, places[0] if places else condition._device)
    if needs(*tens):
        cs = condition.detach_copy()
        ga, gb = (isinstance(t, Tensor) and t.requires_grad for t in (input, other))
        da, db = getattr(input, "dtype", None), getattr(other, "dtype", None)
        record((r,), (input if ga else None, other if gb else None),
               lambda g: (sum_to(where(cs, g, 0), sa, da) if ga else None,
                          sum_to(where(cs, 0, g), sb, db) if gb else None), "where")
    return r


# `Tensor.where(self, condition, other)` has another order than torch.where
Tensor.where = lambda self, condition, other: where(condition, self, other)


@method("clamp", "clip")
def clamp(input, min=None, max=None, *, out=None):
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    r = input
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        r = r if min is None else maximum(r, min)
        return _into(out, r if max is None else minimum(r, max))

    def raw(v):
        dt = compute_dtype(r.dtype)
        if min is not None:
            v = _raw.maximum(v, raw_scalar(min, dt))
        return v if max is None else _raw.minimum(v, raw_scalar(max, dt))

    if input.dtype._kind < 2 and any(isinstance(m, float) for m in (min, max)):
        r = input = input.to(get_default_dtype())

    def bw(g, x, _):
        mask = None
        if min is not None:
            mask = x >= min
        if max is not None:
            mask = x <= max if mask is None else mask & (x <= max)
        return where(mask, g, 0)

    return _into(out, unary("clamp", raw, input, bw, "x", False))


method("clamp_min")(lambda input, min: clamp(input, min))
method("clamp_max")(lambda input, max: clamp(input, None, max))


@method("nan_to_num")
def nan_to_num(input, nan=0.0, posinf=None, neginf=None):
    from ._dtype import finfo

    if input.dtype._kind < 2:
        return input.clone()
    fi = finfo(input.dtype)
    r = where(input.isnan(), nan if nan is not None else 0.0, input)
    r = where(input == math.inf, fi.max if posinf is None else posinf, r)
    return where(input == -math.inf, fi.min if neginf is None else neginf, r)


method("addcmul")(lambda input, tensor1, tensor2, *, value=1: input + tensor1 * tensor2 * value)
method("addcdiv")(lambda input, tensor1, tensor2, *, value=1: input + tensor1 / tensor2 * value)


@method("lerp")
def lerp(input, end, weight):
    """``input + weight * (end - input)``, from the nearer end as PyTorch computes it."""
    if isinstance(weight, Tensor):
        near = weight.abs() < 0.5
        return where(near, input + weight * (end - input), end - (end - input) * (1 - weight))
    return input + weight * (end - input) if abs(weight) < 0.5 else end - (end - input) * (1 - weight)


@method("masked_fill")
def masked_fill(input, mask, value):
    v = value.to(input.dtype) if isinstance(value, Tensor) else value
    r = where(mask, v, input)
    return r if r.dtype is input.dtype else r.to(input.dtype)


method("logaddexp")(lambda input, other: maximum(input, other) + (-(input - other).abs()).exp().log1p())
method("hypot")(lambda input, other: (input * input + other * other).sqrt())
method("xlogy")(lambda input, other: where(input == 0, zeros_like_scalar(other), input * other.log()))


@method("relu")
def relu(input):
    zero = raw_scalar(0, compute_dtype(input.dtype))
    return unary("relu", lambda v: _raw.maximum(v, zero), input, lambda g, x, r: where(x > 0, g, 0), "x", False)


# --- type conversion -----------------------------------------------------------------------------------------------
def convert(x, dt):
    """``x`` in dtype ``dt`` (always a new tensor)."""
    r = finish(_raw.cast(x._data(), dt), x._shape, dt, x._device)
    if x.requires_grad and _engine.state.grad and dt._kind >= 2:
        src = x.dtype
        record((r,), (x,), lambda g: (g.to(src),), "to_copy")
    return r


IN_PLACE = """add sub subtract mul multiply div divide true_divide floor_divide remainder fmod pow neg negative abs exp log
    sqrt sin cos tan tanh sigmoid erf floor ceil trunc round rsqrt reciprocal square log2 log10 log1p expm1 exp2 erfc
    erfinv sign clamp clip clamp_min clamp_max nan_to_num addcmul addcdiv lerp masked_fill logical_not logical_and
    logical_or logical_xor bitwise_not bitwise_and bitwise_or bitwise_xor lt le gt ge eq ne atan asin acos sinh cosh relu
    frac atan2 xlogy"""


def _make_inplace(name):
    f = getattr(Tensor, name)

    def op(self, *args, **kw):
        with_comparison = name in ("lt", "le", "gt", "ge", "eq", "ne") or name.startswith("logical")
        self._check_inplace()
        r = f(self._snap() if self._rg else self, *args, **kw)
        return self._inplace(r.to(self.dtype) if with_comparison else r)

    op.__name__ = name + "_"
    return op


for _n in IN_PLACE.split():
    setattr(Tensor, _n + "_", _make_inplace(_n))
for _d, _n in (("iadd", "add_"), ("isub", "sub_"), ("imul", "mul_"), ("itruediv", "div_"), ("ipow", "pow_"),
               ("ifloordiv", "floor_divide_"), ("imod", "remainder_"), ("iand", "bitwise_and_"),
               ("ior", "bitwise_or_"), ("ixor", "bitwise_xor_")):
    setattr(Tensor, f"__{_d}__", getattr(Tensor, _n))
