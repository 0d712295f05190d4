"""`nn.init`: what must hold for every seed and shape, errors, and the old names."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=4)


@given(SHAPES)
@settings(max_examples=30, deadline=None)
def test_fans_count_the_connections_of_one_unit(shape):
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    weight = np.zeros(shape)
    assert fan_in == weight[0].size
    assert fan_out == weight[:, 0].size


@given(SHAPES, st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_uniform_bounds_hold(shape, seed):
    torch.manual_seed(seed)
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    xavier = nn.init.xavier_uniform_(torch.empty(shape), gain=2.0).numpy()
    assert np.abs(xavier).max() <= 2 * math.sqrt(6 / (fan_in + fan_out)) * (1 + 1e-6)
    kaiming = nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5)).numpy()
    assert np.abs(kaiming).max() <= 1 / math.sqrt(fan_in) * (1 + 1e-6)


def test_normal_variants_have_the_stated_standard_deviation():
    torch.manual_seed(0)
    shape = (200, 300)
    assert abs(nn.init.xavier_normal_(torch.empty(shape)).std().item() / math.sqrt(2 / 500) - 1) < 0.02
    kaiming = nn.init.kaiming_normal_(torch.empty(shape), mode="fan_out")
    assert abs(kaiming.std().item() / math.sqrt(2 / 200) - 1) < 0.02


@given(st.floats(-1, 1), st.floats(0.1, 3), st.floats(-1, 1), st.floats(0.1, 2), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_trunc_normal_keeps_its_bounds(mean, std, low, width, seed):
    torch.manual_seed(seed)
    filled = nn.init.trunc_normal_(torch.empty(6, 5), mean, std, low, low + width).numpy()
    assert low - 1e-6 <= filled.min() and filled.max() <= low + width + 1e-6


def test_trunc_normal_far_outside_its_bounds_warns():
    with pytest.warns(UserWarning, match="2 std"):
        nn.init.trunc_normal_(torch.empty(3), mean=10.0, std=1.0)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (6, 2, 2)])
def test_orthogonal_rows_or_columns(shape):
    torch.manual_seed(0)
    matrix = nn.init.orthogonal_(torch.empty(shape), gain=3.0).numpy().reshape(shape[0], -1) / 3
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "param", "expected"),
    [
        ("linear", None, 1),
        ("conv2d", None, 1),
        ("sigmoid", None, 1),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("leaky_relu", None, math.sqrt(2 / (1 + 0.01**2))),
        ("leaky_relu", 0.3, math.sqrt(2 / 1.09)),
        ("selu", None, 0.75),
    ],
)
def test_gains(name, param, expected):
    assert nn.init.calculate_gain(name, param) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.init.calculate_gain("swish"), "Unsupported nonlinearity swish"),
        (lambda: nn.init.calculate_gain("leaky_relu", "x"), "negative_slope x not a valid number"),
        (lambda: nn.init.xavier_uniform_(torch.empty(3)), "fewer than 2 dimensions"),
        (lambda: nn.init.kaiming_uniform_(torch.empty(3, 3), mode="fan"), "Mode fan not supported"),
        (lambda: nn.init.eye_(torch.empty(3)), "Only tensors with 2 dimensions are supported"),
        (lambda: nn.init.sparse_(torch.empty(3), 0.1), "Only tensors with 2 dimensions are supported"),
        (lambda: nn.init.dirac_(torch.empty(3, 3)), "Only tensors with 3, 4, or 5 dimensions are supported"),
        (lambda: nn.init.dirac_(torch.empty(3, 3, 3), groups=2), "dim 0 must be divisible by groups"),
        (lambda: nn.init.orthogonal_(torch.empty(3)), "Only tensors with 2 or more dimensions are supported"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_parameters_are_filled_in_place_and_keep_requiring_gradients():
    parameter = nn.Parameter(torch.zeros(3, 4))
    assert nn.init.normal_(parameter) is parameter
    assert parameter.requires_grad and parameter.grad_fn is None and parameter.is_leaf
    assert parameter.abs().sum().item() > 0


def test_old_names_warn_and_do_the_same():
    torch.manual_seed(5)
    with pytest.warns(Warning, match="xavier_uniform`? is now deprecated"):
        old = nn.init.xavier_uniform(torch.empty(3, 3))
    torch.manual_seed(5)
    assert torch.equal(old, nn.init.xavier_uniform_(torch.empty(3, 3)))


def test_layers_call_this_module_so_that_initialisation_can_be_skipped(monkeypatch):
    # transformers replaces these functions while it loads a checkpoint
    for name in ("kaiming_uniform_", "uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    nn.Linear(3, 4)
    nn.Conv2d(3, 4, 3)
    assert torch.equal(before, torch.get_rng_state())
