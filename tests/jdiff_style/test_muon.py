"""Muon's update against NumPy in double precision, beside AdamW's for what is no matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jdiff_style.muon import COEFFICIENTS, Muon, orthogonalised


def five_steps(x):
    """The iteration as Jordan et al. 2024 write it."""
    a, b, c = COEFFICIENTS
    if x.shape[0] > x.shape[1]:
        return five_steps(x.T).T
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def matrices(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(st.integers(1, 3), st.integers(1, 24), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_two_steps_on_one_gram_matrix_are_two_steps(count, rows, columns, seed):
    given_ = matrices(seed, count, rows, columns)
    found = orthogonalised(torch.from_numpy(given_)).numpy()
    wanted = np.stack([five_steps(one.astype(np.float64)) for one in given_])
    assert np.abs(found - wanted).max() < 2e-4


def test_singular_values_end_near_one_in_bfloat16_too_and_their_directions_stay():
    uneven = matrices(0, 2, 24, 100) @ np.diag(np.logspace(0, -2, 100, dtype=np.float32))
    for dtype in (torch.float32, torch.bfloat16):
        found = orthogonalised(torch.from_numpy(uneven), dtype)
        assert found.dtype == torch.float32
        for one, given_ in zip(found.numpy(), uneven):
            values = np.linalg.svd(one, compute_uv=False)
            assert values.min() > 0.6 and values.max() < 1.25
            u, _, v = np.linalg.svd(given_, full_matrices=False)
            assert np.sum((u @ v) * one) / np.linalg.norm(u @ v) / np.linalg.norm(one) > 0.98


def test_nothing_stays_nothing():
    assert np.all(orthogonalised(torch.zeros(1, 3, 5)).numpy() == 0)


def optimizer_over(values, **options):
    """Muon over a matrix and a convolution, AdamW over a vector."""
    parameters = [torch.nn.Parameter(torch.from_numpy(value.copy())) for value in values]
    groups = [{"params": parameters[:2], "muon": True, "weight_decay": 0.1}, {"params": parameters[2:], "weight_decay": 0.0}]
    return parameters, Muon(groups, lr=0.02, betas=(0.9, 0.99), eps=1e-8, **options)


def give_gradients(parameters, step):
    for number, p in enumerate(parameters):
        p.grad = torch.from_numpy(matrices(100 * step + number, *p.shape))


def test_updates_are_those_of_the_papers():
    values = [matrices(1, 6, 10), matrices(2, 8, 3, 2, 2), matrices(3, 7)]
    parameters, optimizer = optimizer_over(values)
    alone = torch.nn.Parameter(torch.from_numpy(values[2].copy()))
    adamw = torch.optim.AdamW([alone], lr=0.02, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    momentum = [np.zeros(value.shape) for value in values[:2]]
    for step in range(4):
        give_gradients(parameters, step)
        alone.grad = parameters[2].grad.clone()
        gradients = [p.grad.numpy().astype(np.float64) for p in parameters[:2]]
        optimizer.step()
        adamw.step()
        for place, gradient in enumerate(gradients):
            momentum[place] = 0.95 * momentum[place] + 0.05 * gradient
            matrix = (0.05 * gradient + 0.95 * momentum[place]).reshape(len(gradient), -1)
            update = 0.2 * max(matrix.shape) ** 0.5 * five_steps(matrix).reshape(gradient.shape)
            values[place] = values[place] * (1 - 0.02 * 0.1) - 0.02 * update
            assert np.abs(parameters[place].detach().numpy() - values[place]).max() < 1e-5
    assert np.array_equal(parameters[2].detach().numpy(), alone.detach().numpy())


def test_a_stored_state_goes_on_bit_for_bit(tmp_path):
    from jdiff_style.checkpoint import load_optimizer, save_optimizer

    values = [matrices(1, 6, 10), matrices(2, 8, 3, 2, 2), matrices(3, 7)]
    parameters, optimizer = optimizer_over(values)
    for step in range(3):
        give_gradients(parameters, step)
        optimizer.step()
    save_optimizer(tmp_path, optimizer)
    others, second = optimizer_over([p.detach().numpy() for p in parameters])
    load_optimizer(tmp_path, second)
    for these, one in ((parameters, optimizer), (others, second)):
        give_gradients(these, 9)
        one.step()
    for p, q in zip(parameters, others):
        assert np.array_equal(p.detach().numpy(), q.detach().numpy())


def test_a_parameter_without_gradient_is_left_alone_and_a_vector_refused():
    parameters, optimizer = optimizer_over([matrices(1, 4, 4), matrices(2, 4, 4), matrices(3, 7)])
    parameters[0].grad = torch.ones(4, 4)
    optimizer.step()
    assert np.array_equal(parameters[1].detach().numpy(), matrices(2, 4, 4))
    assert not np.array_equal(parameters[0].detach().numpy(), matrices(1, 4, 4))
    with pytest.raises(ValueError, match="vectors into a group of their own"):
        Muon([{"params": [parameters[2]], "muon": True}], lr=0.1)
