"""Layers and initialisers against values recorded from real PyTorch (tests/golden/make_nn.py)."""

import json
import math
import pathlib

import numpy as np
import pytest
import torch
from torch import nn

GOLDEN = json.loads((pathlib.Path(__file__).parents[3] / "golden" / "nn.json").read_text())
KEEP = 12


def _wave(shape):
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float32) * 0.7).reshape(shape)


def _tupled(value):
    return tuple(value) if isinstance(value, list) else value


def _make(entry):
    torch.manual_seed(GOLDEN["seed"])
    kwargs = {key: _tupled(value) for key, value in entry["kwargs"].items()}
    return getattr(nn, entry["layer"])(*map(_tupled, entry["args"]), **kwargs)


def _check(tensor, expected, tolerance, what):
    assert list(tensor.shape) == expected["shape"], what
    flat = np.asarray(tensor.detach().numpy(), dtype=np.float64).ravel()
    step = max(1, flat.size // KEEP)
    np.testing.assert_allclose(flat[::step][:KEEP], expected["values"], rtol=tolerance, atol=tolerance, err_msg=what)
    assert abs(flat.sum() - expected["sum"]) <= tolerance * (1 + np.abs(flat).sum()), what


def _name(entry):
    options = [*entry["args"], *(f"{key}={value}" for key, value in entry["kwargs"].items())]
    return f"{entry['layer']}({', '.join(map(str, options))})"


@pytest.mark.parametrize("entry", GOLDEN["layers"], ids=_name)
def test_a_seed_gives_the_weights_of_pytorch(entry):
    state = _make(entry).state_dict()
    following = torch.rand(1).item()
    assert list(state) == list(entry["state"])
    for key, expected in entry["state"].items():
        _check(state[key], expected, 1e-6, key)
    assert abs(following - entry["next"]) < 1e-6, "the layer drew too many or too few random numbers"


@pytest.mark.parametrize("entry", [e for e in GOLDEN["layers"] if e["input"]], ids=_name)
def test_output_and_gradients_are_those_of_pytorch(entry):
    layer = _make(entry)
    shape, integers = entry["input"], entry["integers"]
    x = torch.arange(math.prod(shape)).reshape(shape) % integers if integers else _wave(shape)
    if not integers:
        x.requires_grad_(True)
    output = layer(x)
    _check(output, entry["output"], 2e-5, "output")
    (output * _wave(output.shape)).sum().backward()
    parameters = dict(layer.named_parameters())
    assert list(parameters) == list(entry["grads"])
    for key, expected in entry["grads"].items():
        _check(parameters[key].grad, expected, 5e-5, key)
    if not integers:
        _check(x.grad, entry["grad_input"], 5e-5, "input")


@pytest.mark.parametrize("entry", GOLDEN["inits"], ids=lambda e: f"{e['init']}{e['shape']}{e['kwargs'] or ''}")
def test_initialisers_fill_in_the_values_of_pytorch(entry):
    torch.manual_seed(GOLDEN["seed"])
    tensor = torch.empty(entry["shape"])
    assert getattr(nn.init, entry["init"])(tensor, **entry["kwargs"]) is tensor
    _check(tensor, entry["result"], 1e-6, entry["init"])
