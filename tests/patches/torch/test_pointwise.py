"""Elementwise operations against NumPy, on the host and in Jittor."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import PLACES, floats, integers, tensor_at

quick = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))

UNARY = {
    "exp": np.exp, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "abs": np.abs, "neg": np.negative,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.round, "square": np.square, "sign": np.sign,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "relu": lambda a: np.maximum(a, 0), "sinh": np.sinh, "cosh": np.cosh,
    "atan": np.arctan, "exp2": np.exp2, "expm1": np.expm1, "isnan": np.isnan, "isfinite": np.isfinite,
    "logical_not": np.logical_not, "frac": lambda a: a - np.trunc(a),
}
POSITIVE = {"log": np.log, "sqrt": np.sqrt, "rsqrt": lambda a: 1 / np.sqrt(a), "log2": np.log2, "log10": np.log10,
            "log1p": np.log1p, "reciprocal": np.reciprocal}
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "maximum": np.maximum,
    "minimum": np.minimum, "floor_divide": np.floor_divide, "remainder": np.remainder, "fmod": np.fmod,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", sorted(UNARY))
@quick
@given(a=floats((2, 3)))
def test_unary_equals_numpy(name, place, a):
    got = getattr(torch, name)(tensor_at(a, place)).numpy()
    np.testing.assert_allclose(got, UNARY[name](a), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", sorted(POSITIVE))
@quick
@given(a=floats((2, 3), 1 / 64, 9.0))
def test_unary_of_positive_numbers_equals_numpy(name, place, a):
    got = getattr(tensor_at(a, place), name)().numpy()
    np.testing.assert_allclose(got, POSITIVE[name](a), rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", sorted(BINARY))
@quick
@given(a=floats((2, 3)), b=floats((3,), 0.5, 4.0), flip=st.booleans())
def test_binary_broadcasts_and_equals_numpy(name, place, a, b, flip):
    b = -b if flip else b
    got = getattr(torch, name)(tensor_at(a, place), tensor_at(b, place)).numpy()
    want = BINARY[name](a, b)
    assert got.dtype == want.dtype
    if name in ("floor_divide", "remainder", "fmod"):  # a quotient within rounding of an integer may fall either side
        q = a / b
        near = np.abs(q - np.round(q)) < 1e-5
        got, want = np.where(near, 0, got), np.where(near, 0, want)
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("op", ["floor_divide", "remainder", "add", "mul", "bitwise_and", "bitwise_or", "bitwise_xor"])
@quick
@given(a=integers((2, 3)), b=integers((2, 3), 1, 5), flip=st.booleans())
def test_integers_equal_numpy(op, place, a, b, flip):
    b = -b if flip else b
    got = getattr(torch, op)(tensor_at(a, place), tensor_at(b, place))
    assert got.dtype == torch.int64
    np.testing.assert_array_equal(got.numpy(), getattr(np, {"mul": "multiply"}.get(op, op))(a, b))


@pytest.mark.parametrize("place", PLACES)
def test_nan_and_infinity_behave(place):
    a = np.array([[np.nan, np.inf, -np.inf, 1.0]], np.float32)
    t = tensor_at(a, place)
    assert torch.isnan(t).tolist() == [[True, False, False, False]]
    assert torch.isinf(t).tolist() == [[False, True, True, False]]
    assert (t == t).tolist() == [[False, True, True, True]]
    assert torch.isnan(torch.maximum(t, torch.zeros_like(t))).tolist() == [[True, False, False, False]]
    assert torch.isnan(torch.maximum(torch.zeros_like(t), t)).tolist() == [[True, False, False, False]]
    np.testing.assert_array_equal(torch.nan_to_num(t, 7.0, 8.0, 9.0).numpy(), [[7, 8, 9, 1]])


@pytest.mark.parametrize("place", PLACES)
def test_round_takes_ties_to_even(place):
    a = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 2.4999998]], np.float32)
    assert tensor_at(a, place).round().tolist() == [[0, 2, 2, 0, -2, 2]]


PROMOTIONS = [
    (torch.float32, torch.float64, torch.float64), (torch.float16, torch.float32, torch.float32),
    (torch.float16, torch.bfloat16, torch.float32), (torch.int64, torch.float16, torch.float16),
    (torch.uint8, torch.int8, torch.int16), (torch.bool, torch.uint8, torch.uint8),
    (torch.int32, torch.int64, torch.int64), (torch.bool, torch.float32, torch.float32),
]


@pytest.mark.parametrize(("a", "b", "want"), PROMOTIONS)
def test_promotion_of_two_tensors(a, b, want):
    assert (torch.ones(2, dtype=a) + torch.ones(2, dtype=b)).dtype == want
    assert (torch.ones(2, dtype=b) + torch.ones(2, dtype=a)).dtype == want


def test_promotion_with_numbers_and_zero_dim_tensors():
    i, f, h = torch.ones(2, dtype=torch.int32), torch.ones(2), torch.ones(2, dtype=torch.float16)
    assert (i + 1).dtype == torch.int32
    assert (i + 1.0).dtype == torch.float32
    assert (h * 2.5).dtype == torch.float16
    assert (i / 2).dtype == torch.float32
    assert (torch.ones(2, dtype=torch.bool) + 1).dtype == torch.int64
    assert (f * torch.tensor(2.0, dtype=torch.float64)).dtype == torch.float32
    assert (i * torch.tensor(2.0, dtype=torch.float64)).dtype == torch.float64
    assert (torch.tensor(3) + 0.5).dtype == torch.float32
    assert (torch.ones(2, dtype=torch.uint8) * 3).dtype == torch.uint8


@pytest.mark.parametrize("place", PLACES)
def test_small_integers_wrap(place):
    t = tensor_at(np.array([[200, 100]], np.uint8), place)
    assert (t + t).tolist() == [[144, 200]]
    assert t.float().tolist() == [[200, 100]]
    assert tensor_at(np.array([[-1.7, 1.7, 2.9]], np.float32), place).long().tolist() == [[-1, 1, 2]]


@pytest.mark.parametrize("place", PLACES)
def test_in_place_forms_change_the_tensor_itself(place):
    t = tensor_at(np.ones((2, 3), np.float32), place)
    keep = t
    t += 1
    t.mul_(3).sub_(torch.ones(3)).clamp_(max=4)
    assert keep is t
    assert t.tolist() == [[4, 4, 4]] * 2
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        torch.ones(3).add_(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.ones(3, dtype=torch.int64).add_(0.5)


def test_unknown_names_say_so():
    with pytest.raises(NotImplementedError, match=r"torch\.no_such_function"):
        torch.no_such_function  # noqa: B018
    with pytest.raises(NotImplementedError, match="no_such_method"):
        torch.ones(1).no_such_method  # noqa: B018
    assert not hasattr(torch, "no_such_function")


GRADS = ["exp", "sin", "cos", "tanh", "sigmoid", "log", "sqrt", "rsqrt", "reciprocal", "square", "erf", "atan", "abs",
         "log1p", "expm1", "tan", "asin", "acos", "sinh", "cosh"]


@pytest.mark.parametrize("name", GRADS)
def test_gradient_equals_finite_differences(name):
    x = torch.tensor([[0.3, 0.7, 0.45]], dtype=torch.float64, requires_grad=True)
    f = getattr(torch, name)
    f(x).sum().backward()
    h = 1e-6
    with torch.no_grad():
        want = (f(x + h) - f(x - h)) / (2 * h)
    np.testing.assert_allclose(x.grad.numpy(), want.numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "maximum", "minimum", "atan2", "remainder"])
def test_gradient_of_broadcast_pairs(name):
    f = getattr(torch, name)
    a = torch.tensor([[0.3, 1.7, 0.45], [2.4, 0.2, 0.9]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([0.5, 0.6, 0.7], dtype=torch.float64, requires_grad=True)
    f(a, b).sum().backward()
    h = 1e-6
    with torch.no_grad():
        da = (f(a + h, b) - f(a - h, b)) / (2 * h)
        db = ((f(a, b + h) - f(a, b - h)) / (2 * h)).sum(0)
    np.testing.assert_allclose(a.grad.numpy(), da.numpy(), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(b.grad.numpy(), db.numpy(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("value, expected", [(1.5, 1.5), (-3.0, -2.0), (7.0, 2.0)])
def test_clamp_of_a_scalar_tensor(value, expected):
    """A 0-d tensor stays a tensor: its value, its shape and its gradient can be read."""
    x = torch.tensor(value, requires_grad=True)
    y = x.clamp(-2.0, 2.0)
    y.backward()
    assert y.item() == expected and y.shape == () and x.grad.item() == float(abs(value) <= 2)
    assert torch.maximum(torch.tensor(value), torch.tensor(0.0)).item() == max(value, 0.0)


def test_division_by_one_keeps_the_bits_and_the_gradient():
    x = torch.tensor([[1.5, -0.0, float("inf"), float("nan")]], requires_grad=True)
    x._var()
    y = x / 1
    assert y is not x and y.detach().numpy().tobytes() == x.detach().numpy().tobytes()
    (y / 1.0 * 3).sum().backward()
    assert x.grad.tolist() == [[3.0] * 4]
    z = x.detach() / 1.0
    z.add_(1)
    assert x[0, 0] == 1.5
    assert (torch.tensor([3]) / 1).dtype is torch.float32
