"""Optimizers against values recorded from real PyTorch (tests/golden/make_training.py), and their public behaviour."""

import copy
import importlib.util
import json
import pathlib
import pickle

import numpy as np
import pytest
import torch

GOLDEN_DIR = pathlib.Path(__file__).parents[3] / "golden"
GOLDEN = json.loads((GOLDEN_DIR / "training.json").read_text())["optimizers"]
_spec = importlib.util.spec_from_file_location("training_cases", GOLDEN_DIR / "training_cases.py")
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


def _same(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_twenty_steps_equal_pytorch(name):
    _same(cases.run_optimizer(name), GOLDEN[name])


@pytest.mark.parametrize("name", ["adamw", "adamw-amsgrad-maximize", "sgd", "sgd-nesterov", "adagrad", "rmsprop"])
def test_a_reloaded_optimizer_goes_on_where_it_was(name):
    _same(cases.run_optimizer(name, reload_at=10), GOLDEN[name])


def _parameter(*shape):
    p = torch.nn.Parameter(torch.ones(*shape))
    p.grad = torch.full(shape, 0.5)
    return p


def test_state_dict_has_pytorchs_layout():
    a, b = _parameter(2, 3), _parameter(4)
    optimizer = torch.optim.AdamW([{"params": [a], "lr": 0.5}, {"params": [b]}], weight_decay=0.25)
    optimizer.step()
    state = optimizer.state_dict()
    assert list(state) == ["state", "param_groups"]
    assert state["param_groups"][0] == {
        "lr": 0.5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.25, "amsgrad": False, "maximize": False,
        "foreach": None, "capturable": False, "differentiable": False, "fused": None, "decoupled_weight_decay": True,
        "params": [0]}
    assert state["param_groups"][1]["lr"] == 1e-3 and state["param_groups"][1]["params"] == [1]
    assert list(state["state"]) == [0, 1]
    first = state["state"][0]
    assert list(first) == ["step", "exp_avg", "exp_avg_sq"]
    assert first["step"].shape == () and first["step"].dtype is torch.float32 and first["step"].item() == 1
    assert first["exp_avg"].shape == (2, 3)
    assert torch.optim.SGD([a]).state_dict()["state"] == {}


def test_state_loads_into_the_dtype_of_the_parameter_but_counters_stay_float32():
    a = _parameter(3)
    optimizer = torch.optim.Adam([a])
    optimizer.step()
    half = torch.nn.Parameter(torch.ones(3, dtype=torch.float16))
    other = torch.optim.Adam([half])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[half]["exp_avg"].dtype is torch.float16
    assert other.state[half]["step"].dtype is torch.float32


def test_a_checkpoint_of_old_pytorch_loads():
    """Before 1.12 the counter was a number, and the newer options were not there."""
    a = _parameter(3)
    optimizer = torch.optim.AdamW([a])
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0]["step"] = 1
    for name in ("maximize", "foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"):
        del state["param_groups"][0][name]
    fresh = torch.optim.AdamW([a])
    fresh.load_state_dict(state)
    fresh.step()
    assert fresh.state[a]["step"].item() == 2


def test_adamw_keeps_its_decay_when_it_loads_adams_state():
    a = _parameter(3)
    fresh = torch.optim.AdamW([a])
    fresh.load_state_dict(torch.optim.Adam([a]).state_dict())
    assert fresh.param_groups[0]["decoupled_weight_decay"] is True


@pytest.mark.parametrize("make", [
    lambda state: state["param_groups"].append(state["param_groups"][0]),
    lambda state: state["param_groups"][0]["params"].append(1),
])
def test_a_checkpoint_of_another_model_is_refused(make):
    optimizer = torch.optim.SGD([_parameter(2)], lr=0.1)
    state = optimizer.state_dict()
    make(state)
    with pytest.raises(ValueError, match="loaded state dict"):
        optimizer.load_state_dict(state)


def test_pickle_and_deepcopy_keep_state():
    a = _parameter(3)
    optimizer = torch.optim.AdamW([a], lr=0.125)
    optimizer.step()
    for clone in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        p = clone.param_groups[0]["params"][0]
        assert p is not a and clone.param_groups[0]["lr"] == 0.125
        p.grad = torch.full((3,), 0.5)
        clone.step()
        assert clone.state[p]["step"].item() == 2
    assert optimizer.state[a]["step"].item() == 1


def test_zero_grad():
    a = _parameter(3)
    optimizer = torch.optim.SGD([a], lr=0.1)
    optimizer.zero_grad(set_to_none=False)
    assert a.grad.tolist() == [0, 0, 0]
    optimizer.zero_grad()
    assert a.grad is None
    optimizer.step()
    assert a.tolist() == [1, 1, 1]


def test_closure_runs_with_gradients_on_and_its_loss_comes_back():
    a = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.SGD([a], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (a * a).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9 and a.item() == 1.5


def test_step_hooks_run_around_the_step_and_can_be_removed():
    a = _parameter(1)
    optimizer = torch.optim.SGD([a], lr=0.5)
    seen = []
    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("before", a.item())))
    optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("after", a.item())))
    optimizer.step()
    before.remove()
    optimizer.step()
    assert seen == [("before", 1.0), ("after", 0.75), ("after", 0.5)]


def test_a_subclass_with_its_own_step_gets_hooks_too():
    class Sign(torch.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad.sign(), alpha=-group["lr"])

    a = _parameter(2)
    optimizer = Sign([a], 0.5)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(a.tolist()))
    optimizer.step()
    assert seen == [[0.5, 0.5]]


def test_adding_a_group():
    a, b = _parameter(1), _parameter(1)
    optimizer = torch.optim.SGD([a], lr=0.5)
    optimizer.add_param_group({"params": b, "lr": 0.25})
    optimizer.step()
    assert (a.item(), b.item()) == (0.75, 0.875)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [a]})
    with pytest.raises(TypeError, match="fixed order"):
        optimizer.add_param_group({"params": {b}})


@pytest.mark.parametrize("make, error, message", [
    (lambda p: torch.optim.AdamW([]), ValueError, "empty parameter list"),
    (lambda p: torch.optim.AdamW(p), TypeError, "iterable of Tensors"),
    (lambda p: torch.optim.AdamW([p * 2]), ValueError, "non-leaf"),
    (lambda p: torch.optim.AdamW([1]), TypeError, "only optimize Tensors"),
    (lambda p: torch.optim.AdamW([p], lr=-1.0), ValueError, "learning rate: -1.0"),
    (lambda p: torch.optim.AdamW([p], betas=(0.9, 1.0)), ValueError, "index 1: 1.0"),
    (lambda p: torch.optim.SGD([p], nesterov=True), ValueError, "Nesterov"),
    (lambda p: torch.optim.AdamW([p], capturable=True), NotImplementedError, "capturable"),
    (lambda p: torch.optim.LBFGS([p]), NotImplementedError, "torch.optim.LBFGS"),
])
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make(_parameter(2))
