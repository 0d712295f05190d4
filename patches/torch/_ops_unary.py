"""Functions of one variable: arithmetic and transcendental ones, tests for nan and infinity, not."""

import math

import numpy as np

from . import _raw
from ._dtype import bool_, uint8
from ._elementwise import _into, unary
from ._tensor import method


def _def(name, rawf, bw=None, uses="x", to_float=True, aliases=()):
    def op(input, *, out=None):
        return _into(out, unary(name, rawf, input, bw, uses, to_float))

    op.__name__ = name
    return method(name, *aliases)(op)


neg = _def("neg", _raw.neg, lambda g, x, r: -g, "", False, ("negative", "__neg__"))
abs_ = _def("abs", _raw.abs_, lambda g, x, r: g * x.sign(), "x", False, ("absolute", "__abs__"))
exp = _def("exp", _raw.exp, lambda g, x, r: g * r, "r")
log = _def("log", _raw.log, lambda g, x, r: g / x)
sqrt = _def("sqrt", _raw.sqrt, lambda g, x, r: g / (r * 2), "r")
sin = _def("sin", _raw.sin, lambda g, x, r: g * x.cos())
cos = _def("cos", _raw.cos, lambda g, x, r: -g * x.sin())
tan = _def("tan", _raw.tan, lambda g, x, r: g * (r * r + 1), "r")
_def("asin", _raw.asin, lambda g, x, r: g / (1 - x * x).sqrt(), aliases=("arcsin",))
_def("acos", _raw.acos, lambda g, x, r: -g / (1 - x * x).sqrt(), aliases=("arccos",))
_def("atan", _raw.atan, lambda g, x, r: g / (x * x + 1), aliases=("arctan",))
_def("sinh", _raw.sinh, lambda g, x, r: g * x.cosh())
_def("cosh", _raw.cosh, lambda g, x, r: g * x.sinh())
tanh = _def("tanh", _raw.tanh, lambda g, x, r: g * (1 - r * r), "r")
_def("asinh", _raw.asinh, lambda g, x, r: g / (x * x + 1).sqrt(), aliases=("arcsinh",))
_def("acosh", _raw.acosh, lambda g, x, r: g / (x * x - 1).sqrt(), aliases=("arccosh",))
_def("atanh", _raw.atanh, lambda g, x, r: g / (1 - x * x), aliases=("arctanh",))
erf = _def("erf", _raw.erf, lambda g, x, r: g * (2 / math.sqrt(math.pi)) * (-x * x).exp())
sigmoid = _def("sigmoid", _raw.sigmoid, lambda g, x, r: g * r * (1 - r), "r")
floor = _def("floor", _raw.floor, lambda g, x, r: g * 0, "", False)
_def("ceil", _raw.ceil, lambda g, x, r: g * 0, "", False)
_def("trunc", _raw.trunc, lambda g, x, r: g * 0, "", False, ("fix",))


@method("round")
def round_(input, *, decimals=0):
    if input.dtype._kind < 2:
        return input.clone()
    if decimals:
        return round_(input * 10.0**decimals) / 10.0**decimals
    return unary("round", _raw.round_, input, lambda g, x, r: g * 0, "", False)


method("frac")(lambda input: input - input.trunc())
method("rsqrt")(lambda input: 1 / sqrt(input))
method("reciprocal")(lambda input: 1 / input)
method("square")(lambda input: input * input)
method("log2")(lambda input: log(input) * (1 / math.log(2)) if not _on_host(input) else _host_unary(np.log2, input))
method("log10")(lambda input: log(input) * (1 / math.log(10)) if not _on_host(input) else _host_unary(np.log10, input))
method("log1p")(lambda input: _precise(np.log1p, input, lambda g, x, r: g / (x + 1)))
method("expm1")(lambda input: _precise(np.expm1, input, lambda g, x, r: g * x.exp()))
method("exp2")(lambda input: exp(input * math.log(2)))
method("erfc")(lambda input: 1 - erf(input))
method("deg2rad")(lambda input: input * (math.pi / 180))
method("rad2deg")(lambda input: input * (180 / math.pi))
method("positive", "__pos__")(lambda input: input)


def _on_host(x):
    return type(x._data()) is np.ndarray and not x.requires_grad


def _host_unary(f, x):
    return unary(f.__name__, lambda v: np.asarray(f(v)), x)


def _precise(f, x, bw):
    """A function Jittor has no accurate kernel for: computed on the host."""
    return unary(f.__name__, lambda v: np.asarray(f(_raw.to_host(v)), dtype=_raw.to_host(v).dtype), x, bw)


@method("erfinv")
def erfinv(input):
    """Inverse error function: Giles' single-precision start, two Newton steps in float64 on the host."""

    def raw(v):
        a = _raw.to_host(v)
        y = a.astype(np.float64)
        with np.errstate(all="ignore"):
            w = -np.log((1 - y) * (1 + y))
            x = _giles(w, y)
            for _ in range(2):
                e = _raw._np_erf(x) - y
                x = np.where(np.isfinite(x), x - e / (2 / math.sqrt(math.pi) * np.exp(-x * x)), x)
            x = np.where(np.abs(y) == 1, np.copysign(np.inf, y), np.where(np.abs(y) > 1, np.nan, x))
        return np.asarray(x, a.dtype)

    return unary("erfinv", raw, input, lambda g, x, r: g * (math.sqrt(math.pi) / 2) * (r * r).exp(), "r")


def _giles(w, y):
    """M. Giles, Approximating the erfinv function (2010), table 5."""
    c1 = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
          -0.00417768164, 0.246640727, 1.50140941)
    c2 = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
          0.00943887047, 1.00167406, 2.83297682)
    return np.where(w < 5, np.polyval(c1, w - 2.5), np.polyval(c2, np.sqrt(np.maximum(w, 0)) - 3)) * y


@method("sign", "sgn")
def sign(input):
    if input.dtype is bool_:
        return input.clone()
    if input.dtype is uint8:
        return (input != 0).to(uint8)
    return ((input > 0).to(input.dtype) - (input < 0).to(input.dtype)).detach_copy()


@method("isnan")
def isnan(input):
    return unary("isnan", _raw.isnan, input, to_float=False, out_dt=bool_)


@method("isinf")
def isinf(input):
    return input.abs() == math.inf if input.dtype._kind >= 2 else input != input


@method("isfinite")
def isfinite(input):
    return (input.abs() != math.inf) & (input == input) if input.dtype._kind >= 2 else input == input


method("isposinf")(lambda input: input == math.inf)
method("isneginf")(lambda input: input == -math.inf)


@method("logical_not")
def logical_not(input):
    return unary("logical_not", _raw.logical_not, input.bool(), to_float=False, out_dt=bool_)


@method("bitwise_not", "__invert__")
def bitwise_not(input):
    if input.dtype is bool_:
        return logical_not(input)
    return unary("bitwise_not", _raw.bitwise_not, input, to_float=False)
