"""Clipping by the joint norm of many tensors: against float64, and which tensors see the change."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import clip_grad_norm_, clip_grads_with_norm_, get_total_norm

SHAPES = ((), (5,), (0, 3), (3, 4), (70, 9), (150, 450), (33000,))


def parameters(dtype=torch.float32, size=1.0, shapes=SHAPES):
    found = []
    for i, shape in enumerate(shapes):
        p = torch.nn.Parameter(torch.zeros(shape, dtype=dtype))
        p.grad = torch.from_numpy(np.array(size * np.random.default_rng(i).standard_normal(shape))).to(dtype)
        found.append(p)
    return found


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1.0, 2.0, 3.0, math.inf]), st.floats(1e-3, 1e6), st.sampled_from([1e-18, 1.0, 1e16]))
def test_against_float64(kind, part, size):
    if kind == 3:
        size = 1.0  # the third power of the others is outside of float32
    shapes = SHAPES if kind != math.inf else [s for s in SHAPES if 0 not in s]  # no values have no largest one
    exact = parameters(torch.float64, size, shapes)
    norm = get_total_norm([p.grad for p in exact], kind).item()
    flat = np.concatenate([p.grad.numpy().ravel() for p in exact])
    assert norm == pytest.approx(np.linalg.norm(flat, kind), rel=1e-12)
    params = parameters(size=size, shapes=shapes)
    total = clip_grad_norm_(params, part * norm, kind)
    assert total.shape == () and total.dtype is torch.float32 and total.item() == pytest.approx(norm, rel=1e-5)
    factor = min(1.0, part * norm / (norm + 1e-6))
    for p, q in zip(params, exact, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy() * factor, rtol=1e-5, atol=1e-38)


def test_squares_may_leave_the_range_of_float32():
    for size in (1e-30, 1e30):
        grads = [torch.full((70, 9), size), torch.full((8,), size)]
        assert get_total_norm(grads).item() == pytest.approx(size * math.sqrt(638), rel=1e-6)
    assert get_total_norm([torch.full((70, 9), 3e38)]).item() == math.inf
    assert get_total_norm([]).item() == 0


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_what_is_not_finite(bad):
    params = parameters()
    params[1].grad[2] = bad
    kept = [p.grad.numpy() for p in params]
    with pytest.raises(RuntimeError, match="non-finite"):
        clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    for p, g in zip(params, kept, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g)
    total = clip_grad_norm_(params, 1.0).item()
    assert math.isnan(total) if math.isnan(bad) else total == bad
    assert math.isnan(params[1].grad[2].item())
    others = params[4].grad.numpy()
    assert np.isnan(others).all() if math.isnan(bad) else not others.any()


def test_copies_keep_their_values_and_views_follow():
    (p, q) = parameters(shapes=((70, 9), (5,)))
    for _ in range(2):  # the second time memory is reused
        for r in (p, q):
            old = r.grad.numpy()
            copies = [r.grad.clone(), r.grad.clone().view(-1), r.grad * 1]
            view, whole = r.grad[0], r.grad.detach()
            clip_grad_norm_([p, q], 1.0)
            clip_grad_norm_([p, q], 0.1)
            new = r.grad.numpy()
            assert np.abs(new).max() < np.abs(old).max()
            for t in copies:
                np.testing.assert_array_equal(t.numpy().ravel(), old.ravel())
            np.testing.assert_array_equal(view.numpy(), new[0])
            np.testing.assert_array_equal(whole.numpy(), new)
            p.grad, q.grad = p.grad * 100, q.grad * 100


def test_memory_of_large_gradients_is_reused():
    (p,) = parameters(shapes=((70, 9),))
    p.grad = p.grad * 10
    place = p.grad._var().raw_ptr
    clip_grad_norm_(p, 1.0)
    assert p.grad._var().raw_ptr == place
    assert p.grad.norm().item() == pytest.approx(1, rel=1e-5)


def test_one_gradient_of_two_parameters_and_a_view_as_gradient():
    p, q = parameters(shapes=((70, 9), (70, 9)))
    q.grad = p.grad = torch.ones(70, 9)
    clip_grads_with_norm_([p, q], 1.0, torch.tensor(2.0))
    np.testing.assert_allclose(p.grad.numpy(), 0.25, rtol=1e-5)
    base = torch.ones(140, 9)
    p.grad = base[:70]
    clip_grads_with_norm_(p, 1.0, torch.tensor(2.0))
    np.testing.assert_allclose(base.numpy(), [[0.5] * 9] * 70 + [[1] * 9] * 70, rtol=1e-5)


def test_the_number_of_threads_changes_no_bit():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            params = parameters()
            found.append((clip_grad_norm_(params, 1.0).item(), [p.grad.numpy() for p in params]))
    finally:
        torch.set_num_threads(before)
    for total, grads in found[1:]:
        assert total == found[0][0]
        for a, b in zip(grads, found[0][1], strict=True):
            np.testing.assert_array_equal(a, b)
