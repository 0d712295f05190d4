"""`nn.utils`: clipping, vectors, padding, weight normalisation, skipped initialisation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


def _with_gradients(*gradients):
    parameters = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros(len(gradient)))
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        parameters.append(parameter)
    return parameters


NUMBERS = st.lists(st.floats(-100, 100, width=32, allow_subnormal=False), min_size=1, max_size=4)


@given(st.lists(NUMBERS, min_size=1, max_size=3), st.floats(0.1, 50), st.sampled_from([1.0, 2.0, math.inf]))
@settings(max_examples=40, deadline=None)
def test_clipping_scales_all_gradients_alike(gradients, max_norm, norm_type):
    parameters = _with_gradients(*gradients)
    flat = np.concatenate([np.float64(g) for g in gradients])
    norm = np.linalg.norm(flat, norm_type)
    total = nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
    assert total.item() == pytest.approx(norm, rel=1e-5, abs=1e-6) and total.shape == ()
    clipped = np.concatenate([p.grad.numpy() for p in parameters])
    np.testing.assert_allclose(clipped, flat * min(1.0, max_norm / (norm + 1e-6)), rtol=1e-4, atol=1e-5)


def test_clipping_without_gradients_and_of_one_tensor():
    assert nn.utils.clip_grad_norm_([torch.zeros(1)], 1.0).item() == 0
    (parameter,) = _with_gradients([3.0, 4.0])
    assert nn.utils.clip_grad_norm_(parameter, 1.0).item() == 5
    assert parameter.grad.norm().item() == pytest.approx(1.0, rel=1e-5)
    assert nn.utils.clip_grad_norm_(iter([parameter]), 10.0).item() == pytest.approx(1.0, rel=1e-5)


def test_clipping_can_refuse_what_is_not_finite():
    (parameter,) = _with_gradients([math.nan])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(parameter, 1.0, error_if_nonfinite=True)


def test_clipping_values():
    (parameter,) = _with_gradients([-5.0, 0.5, 5.0])
    nn.utils.clip_grad_value_([parameter], 1.0)
    assert parameter.grad.tolist() == [-1.0, 0.5, 1.0]


def test_parameters_as_a_vector_and_back():
    layer = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (9,)
    np.testing.assert_array_equal(vector[:6].detach().numpy(), layer.weight.detach().numpy().ravel())
    nn.utils.vector_to_parameters(torch.arange(9.0), layer.parameters())
    assert layer.weight.tolist() == [[0, 1], [2, 3], [4, 5]] and layer.bias.tolist() == [6, 7, 8]
    assert layer.weight.requires_grad and layer.weight.is_leaf
    with pytest.raises(TypeError, match=r"expected torch.Tensor, but got: list"):
        nn.utils.vector_to_parameters([1.0], [])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans())
@settings(max_examples=25, deadline=None)
def test_padding_and_back(lengths, batch_first):
    sequences = [torch.arange(2.0 * n).reshape(n, 2) + i for i, n in enumerate(lengths)]
    padded = nn.utils.rnn.pad_sequence(sequences, batch_first=batch_first, padding_value=-1.0)
    shape = (len(lengths), max(lengths), 2)
    assert tuple(padded.shape) == (shape if batch_first else (shape[1], shape[0], 2))
    rows = padded if batch_first else padded.transpose(0, 1)
    for row, sequence in zip(rows, sequences, strict=True):
        assert torch.equal(row[: len(sequence)], sequence)
        assert (row[len(sequence) :] == -1).all()
    back = nn.utils.rnn.unpad_sequence(padded, torch.tensor(lengths), batch_first)
    assert all(torch.equal(a, b) for a, b in zip(back, sequences, strict=True))


def test_weight_norm():
    torch.manual_seed(0)
    layer = nn.Conv1d(2, 3, 2)
    x = torch.randn(1, 2, 5)
    before, weight = layer(x).detach().numpy(), layer.weight.detach().numpy()
    assert nn.utils.weight_norm(layer) is layer
    assert sorted(layer.state_dict()) == ["bias", "weight_g", "weight_v"] and layer.weight_g.shape == (3, 1, 1)
    np.testing.assert_allclose(layer(x).detach().numpy(), before, atol=1e-6)
    with torch.no_grad():
        layer.weight_g.mul_(2.0)
    layer(x).sum().backward()
    assert layer.weight_g.grad is not None and layer.weight_v.grad is not None
    np.testing.assert_allclose(layer.weight.detach().numpy(), weight * 2, atol=1e-6)
    with pytest.raises(RuntimeError, match="two weight_norm hooks"):
        nn.utils.weight_norm(layer)
    nn.utils.remove_weight_norm(layer)
    assert sorted(layer.state_dict()) == ["bias", "weight"] and not layer._forward_pre_hooks
    with pytest.raises(ValueError, match="weight_norm of 'weight' not found"):
        nn.utils.remove_weight_norm(layer)


def test_skipped_initialisation_draws_nothing():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    layer = nn.utils.skip_init(nn.Linear, 3, 4)
    assert layer.weight.shape == (4, 3) and layer.weight.device.type == "cpu"
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(RuntimeError, match="must support a 'device' arg"):
        nn.utils.skip_init(nn.ReLU)


def test_factory_kwargs():
    given = {"device": "cpu", "factory_kwargs": {"dtype": torch.float16}}
    assert nn.factory_kwargs(given) == {"device": "cpu", "dtype": torch.float16}
    with pytest.raises(TypeError, match="unexpected"):
        nn.factory_kwargs({"bogus": 1})
