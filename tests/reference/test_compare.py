"""The comparison that the golden and parity tests rest on."""

import compare
import numpy as np
import pytest


def test_a_difference_is_seen():
    """What is within and what is beyond each tolerance, by hand."""
    ten = np.full((4, 3), 10.0)
    assert compare.excess("out/x", ten + 0.9e-4, ten) == pytest.approx(0.9)
    assert compare.excess("out/x", ten + 1.1e-4, ten) > 1
    assert compare.excess("out/x", np.full((3, 4), 10.0), ten) == np.inf
    assert compare.excess("out/x", np.where(ten > 0, np.nan, ten), ten) == np.inf
    table = np.array([[1e-3, 100.0], [0.0, 0.0]])
    assert compare.excess("init/x", table + [1e-6, 0], table) > 1  # measured by its column, not by the whole table
    assert compare.excess("picture/x", ten / 20 + 2 / 255, ten / 20) <= 1
    assert compare.excess("picture/x", ten / 20 + 0.01, ten / 20) > 1
    assert compare.excess("zero/x", np.array([0.0, 1e-30]), np.zeros(2)) == np.inf
    assert compare.excess("same/x", np.zeros(2), np.full(2, 2e-5)) > 1  # the reference must hold too
    assert compare.excess("exact/x", np.array(["a"]), np.array(["b"])) == np.inf
    with pytest.raises(AssertionError, match="missing on Jittor"):
        compare.check({}, {"out/x": ten})

def test_a_thinned_array_keeps_its_tables_and_never_more_than_asked():
    table, long = np.ones((800, 3)), np.arange(1501.0)
    assert compare.thin("init/weights", table).shape == (800, 3)
    assert compare.thin("out/x", long).tolist() == list(range(0, 1501, 4))
    assert compare.thin("exact/x", np.array(["a"] * 900)).shape == (900,)


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="output/x"):
        compare.excess("output/x", np.zeros(1), np.zeros(1))
