"""Learning-rate schedules against values recorded from real PyTorch, and their public behaviour."""

import importlib.util
import json
import pathlib
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

GOLDEN_DIR = pathlib.Path(__file__).parents[3] / "golden"
GOLDEN = json.loads((GOLDEN_DIR / "training.json").read_text())["schedules"]
_spec = importlib.util.spec_from_file_location("training_cases", GOLDEN_DIR / "training_cases.py")
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


@pytest.mark.parametrize("case", GOLDEN)
def test_thirty_steps_equal_pytorch(case):
    np.testing.assert_allclose(cases.run_schedule(*case.split("/")), GOLDEN[case], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("name", cases.SCHEDULES)
def test_a_reloaded_schedule_goes_on_where_it_was(name):
    np.testing.assert_allclose(cases.run_schedule(name, reload_at=11), GOLDEN[f"{name}/SGD"], rtol=1e-12, atol=1e-18)


def _optimizer(lr=0.5):
    p = torch.nn.Parameter(torch.zeros(1))
    return torch.optim.SGD([p], lr=lr)


@given(st.integers(1, 20), st.floats(0, 0.1), st.integers(0, 60))
def test_cosine_recursion_equals_its_closed_form(period, floor, steps):
    optimizer = _optimizer()
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, period, floor)
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    expected = floor + (0.5 - floor) * (1 + np.cos(np.pi * steps / period)) / 2
    assert schedule.get_last_lr()[0] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_schedule_that_runs_ahead_of_the_optimizer_is_warned_about():
    optimizer = _optimizer()
    schedule = lr_scheduler.StepLR(optimizer, 2)
    with pytest.warns(UserWarning, match=r"lr_scheduler.step\(\)` before"):
        schedule.step()
    optimizer = _optimizer()
    schedule = lr_scheduler.StepLR(optimizer, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        schedule.step()


def test_an_explicit_epoch_uses_the_closed_form():
    optimizer = _optimizer()
    schedule = lr_scheduler.StepLR(optimizer, 3)
    optimizer.step()
    with pytest.warns(UserWarning, match="epoch parameter"):
        schedule.step(7)
    assert schedule.get_last_lr() == [0.5 * 0.1**2]


def test_a_rate_held_as_tensor_is_written_in_place():
    p = torch.nn.Parameter(torch.zeros(1))
    rate = torch.tensor(0.5)
    optimizer = torch.optim.SGD([p], lr=rate)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == 0.25 and schedule.get_last_lr() == [0.25]


def test_callable_objects_are_saved_and_lambdas_are_not():
    class Decay:
        def __init__(self, rate):
            self.rate = rate

        def __call__(self, epoch):
            return self.rate**epoch

    state = lr_scheduler.LambdaLR(_optimizer(), Decay(0.5)).state_dict()
    assert state["lr_lambdas"] == [{"rate": 0.5}]
    schedule = lr_scheduler.LambdaLR(_optimizer(), Decay(0.1))
    schedule.load_state_dict(state)
    assert schedule.lr_lambdas[0].rate == 0.5
    state = lr_scheduler.LambdaLR(_optimizer(), lambda e: 1).state_dict()
    assert state["lr_lambdas"] == [None] and pickle.dumps(state)


def test_resuming_needs_the_initial_rate():
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(_optimizer(), 3, last_epoch=5)


@pytest.mark.parametrize("make, error, message", [
    (lambda o: lr_scheduler.StepLR("sgd", 3), TypeError, "str is not an Optimizer"),
    (lambda o: lr_scheduler.LambdaLR(o, [abs, abs]), ValueError, "Expected 1 lr_lambdas, but got 2"),
    (lambda o: lr_scheduler.LinearLR(o, start_factor=0), ValueError, "Starting multiplicative factor"),
    (lambda o: lr_scheduler.OneCycleLR(o, 1.0), ValueError, "total_steps OR"),
    (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 0), ValueError, "positive integer T_0"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, "best"), ValueError, "mode best is unknown"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [3]), ValueError, "milestone"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(_optimizer(), 1)], []), ValueError, "same optimizer"),
    (lambda o: lr_scheduler.LRSchedule(o), NotImplementedError, "torch.optim.lr_scheduler.LRSchedule"),
])
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make(_optimizer())


def test_stepping_past_the_end_of_one_cycle_is_an_error():
    optimizer = _optimizer()
    schedule = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=2)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    with pytest.raises(ValueError, match="total steps is 2"):
        schedule.step()
