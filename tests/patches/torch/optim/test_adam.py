"""Adam and AdamW in one launch: against the same rule in float64 tensor operations, and who may see the change."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import Adam, AdamW

SHAPES = ((), (5,), (3, 4), (70, 9), (33000,), (150, 450))  # host arrays and Jittor's variables, whole blocks and ends


def draw(shape, seed):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def parameters(dtype=torch.float32, shapes=SHAPES):
    return [torch.nn.Parameter(torch.from_numpy(np.array(draw(s, 1))).to(dtype)) for s in shapes]


def steps(optimizer, params, numbers):
    for k in numbers:
        for i, p in enumerate(params):
            p.grad = None if (k + i) % 4 == 3 else torch.from_numpy(np.array(draw(p.shape, 10 + k))).to(p.dtype)
        optimizer.step()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([Adam, AdamW]), st.sampled_from([(0.9, 0.999), (0.4, 0.9), (0.0, 0.0)]),
       st.sampled_from([0, 0.1]), st.booleans(), st.booleans())
def test_against_float64(kind, betas, decay, amsgrad, maximize):
    found = []
    for dtype in (torch.float32, torch.float64):
        params = parameters(dtype)
        groups = [{"params": params[:3], "lr": 0.05, "weight_decay": 0.3}, {"params": params[3:]}]
        optimizer = kind(groups, lr=0.01, betas=betas, eps=1e-6, weight_decay=decay, amsgrad=amsgrad, maximize=maximize)
        steps(optimizer, params, range(5))
        found.append([t.detach().double().numpy() for p in params for t in (p, *optimizer.state[p].values())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_one_launch_takes_all_float32_tensors(monkeypatch):
    params = parameters()
    optimizer = AdamW(params)
    monkeypatch.setattr(Adam, "_update", None)
    steps(optimizer, params, range(2))
    half = torch.nn.Parameter(torch.ones(3, dtype=torch.float16))
    half.grad = torch.ones(3, dtype=torch.float16)
    with pytest.raises(TypeError):
        AdamW([half]).step()


def test_the_number_of_threads_changes_no_bit():
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            params = parameters()
            steps(AdamW(params, weight_decay=0.1, amsgrad=True), params, range(3))
            found.append([p.detach().numpy() for p in params])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_memory_of_large_tensors_is_reused():
    params = parameters(shapes=((70, 9), (150, 450)))
    optimizer = AdamW(params)
    steps(optimizer, params, range(2))
    tensors = [t for p in params for t in (p, optimizer.state[p]["exp_avg"], optimizer.state[p]["exp_avg_sq"])]
    places = [t._var().raw_ptr for t in tensors]
    steps(optimizer, params, range(4, 6))
    assert [t._var().raw_ptr for t in tensors] == places


@pytest.mark.parametrize("shape", [(5,), (70, 9)])
@pytest.mark.parametrize("late", [False, True])
def test_what_was_taken_before_the_step_keeps_its_value(shape, late):
    """Also where it was not computed yet (``late``)."""
    (p,) = parameters(shapes=(shape,))
    optimizer = AdamW([p], lr=0.5)
    steps(optimizer, [p], range(2))
    old = p.detach().numpy()
    mean = optimizer.state[p]["exp_avg"].numpy()
    array = p.detach().numpy()
    saved = copy.deepcopy(optimizer.state_dict())["state"][0]["exp_avg"]
    taken = [p.detach().clone(), p.detach_copy(), p._snap(), torch.nn.Parameter(p.detach_copy()), copy.deepcopy(p),
             p.detach().clone().view(-1).reshape(shape), (p.detach() * 1).clone()]
    doubled, loss = p.detach() * 2, (p * p).sum()
    if not late:
        for t in (*taken, doubled, loss):
            t.tolist()
    p.grad = torch.ones(shape)
    optimizer.step()
    assert np.abs(p.detach().numpy() - old).max() > 0.01
    for t in taken:
        np.testing.assert_array_equal(t.detach().numpy(), old)
    np.testing.assert_array_equal(doubled.numpy(), old * 2)
    np.testing.assert_array_equal(array, old)
    np.testing.assert_array_equal(saved.numpy(), mean)
    assert np.abs(optimizer.state[p]["exp_avg"].numpy() - mean).max() > 0
    loss.backward()
    np.testing.assert_allclose(p.grad.numpy(), 1 + 2 * old, rtol=1e-6)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("take", [
    lambda p: p.detach().clone(),
    lambda p: p.detach().clone().view(-1),  # another variable on the same memory
    lambda p: p.detach().clone()[3:].reshape(-1),
    lambda p: p.detach() * 2,
    lambda p: p.detach().sum(1),
    lambda p: torch.from_numpy(p._var().data),  # NumPy's own view of the memory
])
def test_one_thing_alone_is_enough_to_protect_the_old_value(take, late):
    (p,) = parameters(shapes=((70, 9),))
    optimizer = AdamW([p], lr=0.5)
    steps(optimizer, [p], range(2))
    before = torch.from_numpy(p.detach().numpy())
    optimizer.step()
    expected = take(p).numpy()
    taken = take(p)
    if not late:
        taken.tolist()
    optimizer.step()
    np.testing.assert_array_equal(taken.numpy(), expected)
    assert np.abs(p.detach().numpy() - before.numpy()).max() > 0.01


@pytest.mark.parametrize("shape", [(6,), (70, 9)])
def test_views_see_the_step(shape):
    (p,) = parameters(shapes=(shape,))
    optimizer = AdamW([p], lr=0.5)
    steps(optimizer, [p], range(1))
    views = [p.detach(), p.data, p.detach().view(-1).view(shape), p.detach()[:]]
    row = p.detach()[0]
    old = [t.numpy() for t in views]
    version = p._version
    steps(optimizer, [p], range(1, 2))
    for before, t in zip(old, views, strict=True):
        np.testing.assert_array_equal(t.numpy(), p.detach().numpy())
        assert np.abs(before - t.numpy()).max() > 0.01
    np.testing.assert_array_equal(row.numpy(), p.detach().numpy()[0])
    assert p._version > version


def test_tensors_that_share_their_data():
    """Two parameters made of one tensor, and a gradient that is the parameter itself."""
    t = torch.from_numpy(draw((70, 9), 1))
    a, b = torch.nn.Parameter(t), torch.nn.Parameter(t)
    a.grad, b.grad = torch.ones(70, 9), a.detach_copy()
    AdamW([a, b], lr=0.5, weight_decay=0).step()
    np.testing.assert_array_equal(t.numpy(), draw((70, 9), 1))
    np.testing.assert_allclose(a.detach().numpy(), draw((70, 9), 1) - 0.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(b.detach().numpy(), t.numpy() - 0.5 * np.sign(t.numpy()), rtol=1e-4, atol=1e-4)


def test_a_parameter_given_twice_is_updated_twice():
    p, q = parameters(shapes=((70, 9), (70, 9)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twice = AdamW([p, p], lr=0.5)
    p.grad = q.grad = torch.ones(70, 9)
    twice.step()
    once = AdamW([q], lr=0.5)
    once.step()
    once.step()
    assert twice.state[p]["step"].item() == 2
    np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-6)


def test_a_parameter_that_is_a_view_writes_to_its_base():
    base = torch.from_numpy(draw((140, 9), 1))
    p = base[70:].requires_grad_()
    p.grad = torch.ones(70, 9)
    AdamW([p], lr=0.5, weight_decay=0).step()
    np.testing.assert_allclose(base.detach().numpy()[70:], draw((140, 9), 1)[70:] - 0.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(base.detach().numpy()[:70], draw((140, 9), 1)[:70])


def test_a_reloaded_run_is_equal_to_the_bit():
    def make(params):
        return AdamW([{"params": params[:2], "lr": 0.05}, {"params": params[2:]}], weight_decay=0.1, amsgrad=True)

    params = parameters()
    optimizer = make(params)
    steps(optimizer, params, range(3))
    values = [p.detach().numpy() for p in params]
    state = optimizer.state_dict()
    state = {"param_groups": copy.deepcopy(state["param_groups"]), "state": {
        i: {k: torch.from_numpy(np.array(v.numpy())) for k, v in row.items()} for i, row in state["state"].items()}}
    steps(optimizer, params, range(3, 6))
    again = [torch.nn.Parameter(torch.from_numpy(v)) for v in values]
    fresh = make(again)
    fresh.load_state_dict(state)
    steps(fresh, again, range(3, 6))
    for p, q in zip(params, again, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
        for name, value in optimizer.state[p].items():
            np.testing.assert_array_equal(value.numpy(), fresh.state[q][name].numpy())


@pytest.mark.parametrize("shape", [(5,), (70, 9)])
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_what_is_not_finite_stays_in_its_place(kind, shape):
    p = torch.nn.Parameter(torch.ones(shape))
    with torch.no_grad():
        p.view(-1)[0] = math.inf
    p.grad = torch.ones(shape)
    p.grad.view(-1)[1] = math.nan
    optimizer = kind([p], lr=0.5, weight_decay=0, amsgrad=True)
    optimizer.step()
    values, mean = p.detach().numpy().ravel(), optimizer.state[p]["exp_avg"].numpy().ravel()
    largest = optimizer.state[p]["max_exp_avg_sq"].numpy().ravel()
    assert values[0] == math.inf and math.isnan(values[1]) and np.all(np.abs(values[2:] - 0.5) < 1e-5)
    assert math.isnan(mean[1]) and np.isfinite(mean[[0, 2, 3, 4]]).all()
    assert math.isnan(largest[1]) and np.isfinite(largest[[0, 2, 3, 4]]).all()
