"""Fréchet and kernel distance against torchmetrics' numbers, and what must hold for any sets."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from golden import network_cases as cases
from hypothesis import given
from hypothesis import strategies as st

from eval.frechet import frechet_distance, kernel_inception_distance
from eval.metrics.fid import moments

with np.load(Path(__file__).parents[1] / "golden" / "networks.npz") as file:
    GOLDEN = {name.replace("|", "/"): file[name] for name in file.files if name.startswith(("frechet", "kid"))}


def distance(first, second):
    return frechet_distance(*moments(first), *moments(second))


def both(name):
    many, few, width = cases.SETS[name]
    return cases.vectors(many, width, 11), cases.vectors(few, width, 12)


@pytest.mark.parametrize("name", cases.SETS)
def test_frechet_distance_equals_torchmetrics(name):
    first, second = both(name)
    assert distance(first, second) == pytest.approx(float(GOLDEN[f"frechet/{name}"]), rel=1e-6)
    assert distance(second, first) == pytest.approx(distance(first, second), rel=1e-6)


@pytest.mark.parametrize("name", cases.SETS)
def test_kernel_distance_equals_torchmetrics(name):
    """Mean and deviation: the same subsets are drawn."""
    found = kernel_inception_distance(*both(name), **cases.KID, seed=cases.KID_SEED)
    assert found == pytest.approx(GOLDEN[f"kid/{name}"].tolist(), rel=1e-6)
    assert kernel_inception_distance(*both(name), **cases.KID, seed=cases.KID_SEED + 1) != found


def test_the_distance_of_known_distributions():
    """Diagonal covariances: a sum over the axes of (μ₁ − μ₂)² + (σ₁ − σ₂)²."""
    value = frechet_distance([0, 1], np.diag([4.0, 9.0]), [3, 1], np.diag([1.0, 16.0]))
    assert value == pytest.approx(9 + 1 + 1)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 10**6))
def test_moments_are_numpys_and_do_not_depend_on_blocks(count, block, seed):
    rng = np.random.default_rng(seed)
    vectors, times = rng.normal(5, 2, (count, 4)), rng.integers(0, 3, count) + np.eye(1, count)[0] * 2
    repeated = np.repeat(vectors, times.astype(int), axis=0)
    for counts, rows in ((None, vectors), (times, repeated)):
        mean, covariance = moments(vectors, counts, block)
        assert mean == pytest.approx(rows.mean(axis=0))
        assert covariance == pytest.approx(np.cov(rows.T), abs=1e-9)


@given(st.integers(2, 9), st.integers(0, 10**6))
def test_a_set_is_at_distance_0_from_itself(count, seed):
    first = np.random.default_rng(seed).normal(0, 1, (count, 6))
    assert distance(first, first) == pytest.approx(0, abs=1e-5)


def test_a_shift_costs_its_square():
    vectors = cases.vectors(30, 8, 1)
    assert distance(vectors, vectors + np.float32(0.5)) == pytest.approx(8 * 0.25, rel=1e-4)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="sigma2"):
        frechet_distance(np.zeros(2), np.eye(2), np.zeros(2), np.eye(3))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(np.zeros(2), np.eye(2), [np.inf, 0], np.eye(2))
    with pytest.raises(ValueError, match=r"subset_size: 9 is not in 2..5"):
        kernel_inception_distance(np.zeros((5, 2)), np.zeros((9, 2)), 3, 9)
    with pytest.raises(ValueError, match="same width"):
        kernel_inception_distance(np.zeros((5, 2)), np.zeros((9, 3)), 3, 4)


def test_kernel_distance_takes_no_copy_of_its_tables():
    tables = [np.random.default_rng(seed).random((20_000, 64), np.float32) for seed in (0, 1)]
    kernel_inception_distance(*tables, subsets=1, subset_size=9)
    tracemalloc.start()
    try:
        kernel_inception_distance(*tables, subsets=2, subset_size=9)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < tables[0].nbytes
