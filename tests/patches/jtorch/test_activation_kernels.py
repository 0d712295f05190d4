"""Activations, gated activations and SiLU behind group norm: kernels (float32) against float64 and plain operations."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import _engine, _raw
from torch.nn._functional_activation import gated

QUICK = settings(max_examples=20, deadline=None)
KINDS = {"gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu}


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def in_jittor(values):
    """float32 [n / 8, 8] that the kernels take; short vectors stay on the host."""
    x = torch.from_numpy(values.astype(np.float32).reshape(-1, 8)).requires_grad_()
    assert type(x._data()) is _raw.Var
    return x


def both(f, *arrays, tol=2e-6):
    """Compare f's result and all gradients in float32 with float64, relative to the largest value."""
    found = []
    for dtype in (torch.float32, torch.float64):
        xs = [torch.from_numpy(a.copy()).to(dtype).requires_grad_() for a in arrays]
        y = f(*xs)
        y.backward(torch.from_numpy(draw(*y.shape, seed=9)).to(dtype))
        found.append([y.detach().double().numpy().copy()] + [x.grad.double().numpy().copy() for x in xs])
    for a, b in zip(*found, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tol * max(np.abs(b).max(), 1)


def exact(kind, x):
    """Value and slope in float64, each without cancellation."""
    erfc = np.vectorize(math.erfc)
    if kind == "gelu":
        phi = erfc(-x / math.sqrt(2)) / 2
        return x * phi, phi + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    a, b = (1, 0) if kind == "silu" else (2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715)
    s, other = 1 / (1 + np.exp(-(a * x + b * x**3))), 1 / (1 + np.exp(a * x + b * x**3))
    return x * s, s + x * s * other * (a + 3 * b * x * x)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_exact_to_a_few_roundings(kind):
    values = np.concatenate([np.linspace(-12, 12, 40002), np.geomspace(1e-30, 1, 999), -np.geomspace(1e-30, 1, 999)])
    x = in_jittor(values)
    y = KINDS[kind](x)
    y.sum().backward()
    x64 = x.detach().numpy().astype(np.float64)
    value, slope = exact(kind, x64)
    # relative to the value itself, also in the lower tail; the rounding of tanh's argument grows with that argument
    scale = 4e-7 * (1 + np.abs(x64 + 0.045 * x64**3) * (kind == "gelu_tanh"))
    assert (np.abs(y.detach().numpy() - value) <= scale * np.abs(value) + 1e-44).all()
    assert np.abs(x.grad.numpy() - slope).max() < 3e-7


@pytest.mark.parametrize("kind", KINDS)
def test_special_values(kind):
    x = in_jittor(np.array([math.nan, math.inf, 0.0, -0.0, 1e4, -1e4, 1e30, -1e30] * 20))
    y = KINDS[kind](x)
    y.sum().backward()
    want = [math.nan, math.inf, 0, 0, 1e4, 0, 1e30, 0]
    assert np.array_equal(y.detach().numpy()[0], np.float32(want), equal_nan=True)
    assert np.array_equal(x.grad.numpy()[0, 2:6], np.float32([0.5, 0.5, 1, 0]))
    assert np.isnan(x.grad.numpy()[0, 0])


@QUICK
@given(st.sampled_from(sorted(KINDS)), st.integers(1, 5), st.integers(14, 400))
def test_activations_of_any_size(kind, rows, width):
    both(KINDS[kind], 3 * draw(rows, 5, width))


@QUICK
@given(st.sampled_from(sorted(KINDS)), st.integers(1, 40), st.integers(1, 90))
def test_gated(kind, rows, width):
    x = 2 * draw(rows, 2, 2 * width)

    def plain(x):
        value, gate = x.chunk(2, -1)
        return value * KINDS[kind](gate)

    both(lambda x: gated(kind, x) if x.dtype is torch.float32 else plain(x), x)


@pytest.mark.parametrize("kind", KINDS)
def test_gated_twice(kind):
    """Second derivatives, against those of the halves."""
    found = []
    for f in (lambda x: gated(kind, x), lambda x: x[..., :50] * KINDS[kind](x[..., 50:])):
        x = torch.from_numpy(draw(4, 100)).requires_grad_()
        (g,) = torch.autograd.grad((f(x) ** 2).sum(), x, create_graph=True)
        (g * g).sum().backward()
        found.append(x.grad.numpy().copy())
    assert np.abs(found[0] - found[1]).max() <= 2e-5 * np.abs(found[1]).max()


def test_gated_of_a_view_and_of_an_odd_size():
    x = torch.from_numpy(draw(6, 8, 20))
    assert torch.allclose(gated("gelu", x[1:3, :, 4:16]), x[1:3, :, 4:10] * F.gelu(x[1:3, :, 10:16]))
    assert gated("silu", torch.zeros(0, 8)).shape == (0, 4)


# --- SiLU of a group norm ----------------------------------------------------------------------------------------------
@QUICK
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(9, 700), st.booleans())
def test_silu_of_group_norm(n, groups, per_group, size, frozen):
    c = groups * per_group
    w, b = draw(c, seed=1), draw(c, seed=2)
    if frozen:
        tw, tb = torch.from_numpy(w), torch.from_numpy(b)
        both(lambda x: F.silu(F.group_norm(x, groups, tw.to(x.dtype), tb.to(x.dtype))), 3 + draw(n, c, size), tol=2e-5)
    else:
        both(lambda x, w, b: F.silu(F.group_norm(x, groups, w, b)), 3 + draw(n, c, size), w, b, tol=2e-5)
        both(lambda x: F.silu(F.group_norm(x, groups)), draw(n, c, size), tol=2e-5)


def test_the_result_between_is_there_for_those_who_ask():
    """Hooks, retained gradients, gradients with respect to it and a second use, each as without the fusion."""
    found = []
    for dtype in (torch.float32, torch.float64):
        x = torch.from_numpy(draw(2, 6, 31)).to(dtype).requires_grad_()
        w = torch.linspace(0.5, 2, 6, dtype=dtype).requires_grad_()
        seen = []
        y = F.group_norm(x, 3, w)
        y.retain_grad()
        y.register_hook(lambda g, seen=seen: seen.append(g.detach().double().numpy().copy()))
        z = F.silu(y)
        ((z * z).sum() + (y * 3).sum()).backward()
        found.append([t.detach().double().numpy().copy() for t in (y, z, y.grad, x.grad, w.grad)] + seen)
    assert len(found[0]) == 6
    for a, b in zip(*found, strict=True):
        assert np.abs(a - b).max() <= 2e-5 * max(np.abs(b).max(), 1)


def test_a_hook_that_changes_the_gradient_between():
    found = []
    for dtype in (torch.float32, torch.float64):
        x = torch.from_numpy(draw(2, 6, 31)).to(dtype).requires_grad_()
        y = F.group_norm(x, 3)
        y.register_hook(lambda g: g * 2 + 1)
        (F.silu(y) ** 2).sum().backward()
        found.append(x.grad.double().numpy().copy())
    assert np.abs(found[0] - found[1]).max() <= 2e-5 * np.abs(found[1]).max()


def test_writing_into_the_result_between():
    x = torch.from_numpy(draw(2, 6, 31))
    y = F.group_norm(x, 3)
    y.mul_(2)
    assert torch.allclose(F.silu(y), F.silu(F.group_norm(x, 3) * 2), atol=1e-6)
    y = F.group_norm(x, 3)
    want = F.silu(F.group_norm(x.clone(), 3))
    x.zero_()
    assert torch.allclose(F.silu(y), want, atol=1e-6)


def test_second_derivatives_through_both():
    found = []
    for dtype in (torch.float32, torch.float64):
        x = torch.from_numpy(draw(2, 6, 31)).to(dtype).requires_grad_()
        y = F.group_norm(x, 3)
        gy, gx = torch.autograd.grad((F.silu(y) ** 2).sum(), [y, x], create_graph=True)
        (gy.sum() + (gx * gx).sum()).backward()
        found.append(x.grad.double().numpy().copy())
    assert np.abs(found[0] - found[1]).max() <= 1e-4 * np.abs(found[1]).max()


def test_backward_twice_over_a_retained_tape():
    x = torch.from_numpy(draw(2, 6, 31)).requires_grad_()
    z = F.silu(F.group_norm(x, 3)).sum()
    z.backward(retain_graph=True)
    first = x.grad.clone()
    z.backward()
    assert torch.allclose(x.grad, first * 2) and _engine.state.grad
