"""The hand-written kernels, through the functions that use them: float32 (kernel) against float64 (host arithmetic)."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=25, deadline=None)


def both(f, *arrays, tol=2e-6):
    """Compare f's result and all gradients in float32 with float64."""
    found = []
    for dtype in (torch.float32, torch.float64):
        xs = [torch.from_numpy(a).to(dtype).requires_grad_() for a in arrays]
        y = f(*xs)
        g = torch.from_numpy(np.cos(np.arange(y.numel())).reshape(tuple(y.shape))).to(dtype)
        y.backward(g)
        found.append([y.detach().double().numpy()] + [x.grad.double().numpy() for x in xs])
    for a, b in zip(*found, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tol * max(np.abs(b).max(), 1)


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


@QUICK
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(9, 700))
def test_group_norm(n, groups, per_group, size):
    c = groups * per_group
    both(lambda x, w, b: F.group_norm(x, groups, w, b), 3 + draw(n, c, size), draw(c, seed=1), draw(c, seed=2), tol=2e-5)


@QUICK
@given(st.integers(1, 9), st.integers(66, 1300), st.sampled_from(["", "w", "wb"]))
def test_layer_norm(rows, width, given_):
    weights = [draw(width, seed=i) for i in range(len(given_))]
    both(lambda x, *wb: F.layer_norm(x, (width,), *wb), draw(rows, width), *weights, tol=5e-6)


@QUICK
@given(st.integers(2, 4), st.integers(1, 6), st.integers(40, 300))
def test_batch_norm_and_instance_norm(n, c, size):
    x, w, b = draw(n, c, size), draw(c, seed=1), draw(c, seed=2)
    both(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), x, w, b, tol=2e-5)
    both(lambda x, w, b: F.instance_norm(x, weight=w, bias=b), x, w, b, tol=2e-5)


def test_norm_without_an_offset_of_its_own():
    """A constant row has no variance: the result is the bias, not noise divided by a rounding error."""
    x = torch.full((2, 4, 300), 1000.1)
    assert np.abs(F.group_norm(x, 2, torch.ones(4), torch.ones(4)).numpy() - 1).max() < 1e-6


@QUICK
@given(st.integers(1, 40), st.integers(2, 1100), st.sampled_from([0.1, 3.0, 40.0]))
def test_softmax(rows, width, scale):
    both(lambda x: F.softmax(x, -1), draw(rows, width) * np.float32(scale), tol=1e-5)


def test_softmax_of_infinities():
    x = torch.full((3, 70), -np.inf)
    x[0, 5], x[1, :2] = 1.0, torch.tensor([2.0, 2.0])
    y = F.softmax(x, -1).numpy()
    assert y[0, 5] == 1 and y[0].sum() == 1 and (y[1, :2] == 0.5).all() and np.isnan(y[2]).all()


@QUICK
@given(st.integers(1, 5), st.integers(1, 70), st.integers(1, 90), st.integers(66, 80), st.integers(66, 80), st.booleans())
def test_attention(batch, rows, cols, width, out, causal):
    both(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.1),
         draw(batch, rows, width), draw(batch, cols, width, seed=1), draw(batch, cols, out, seed=2), tol=1e-5)


@pytest.mark.parametrize("shape", [(30, 40), (1, 40), (30, 1), (2, 1, 30, 40), (2, 1, 1, 40), (1, 3, 30, 40), (2, 3, 1, 40)])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_attention_masks_of_every_shape(shape, kind):
    mask = draw(*shape, seed=9)
    mask = torch.from_numpy(mask > -0.8 if kind == "bool" else mask)
    if kind == "bool":
        mask[..., 0] = True
    both(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask if kind == "bool" else mask.to(q.dtype)),
         draw(2, 3, 30, 16), draw(2, 3, 40, 16, seed=1), draw(2, 3, 40, 8, seed=2), tol=1e-5)


def test_attention_of_many_blocks():
    """More scores than one block of rows holds; one matrix, so that all threads share it in the backward pass."""
    both(lambda q, k, v: F.scaled_dot_product_attention(q, k, v), draw(1, 150, 8), draw(1, 3000, 8, seed=1),
         draw(1, 3000, 8, seed=2), tol=1e-5)
    both(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), draw(3, 400, 8), draw(3, 400, 8, seed=1),
         draw(3, 400, 8, seed=2), tol=1e-5)


def test_gradient_of_a_mask_is_not_lost():
    m = torch.zeros(10, 12, requires_grad=True)
    q, k = (torch.from_numpy(draw(2, n, 16, seed=n)) for n in (10, 12))
    F.scaled_dot_product_attention(q, k, k, m).square().sum().backward()
    assert bool((m.grad != 0).any())


def test_a_kernels_source_is_a_short_line_that_changes_with_it():
    from jtorch.kernels import norm, sources

    one, other = sources.include("int a;\n", "trial"), sources.include("int b;\n", "trial")
    assert one == sources.include("int a;\n", "trial") != other and len(one) < 300
    path = one.partition("<")[2].partition(">")[0]
    with open(path, encoding="utf-8") as file:
        assert file.read() == "int a;\n"
    os.remove(path)  # what a cleared cache does; a new process writes it again
    sources.include.cache_clear()
    assert sources.include("int a;\n", "trial") == one and os.path.exists(path)
    assert len(norm._header(1, 2, True)) < 1500
