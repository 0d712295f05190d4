"""jdiff doctor reports what is there, and its exit code is that of its self-test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jdiff_style import doctor


def test_the_report_names_the_backend_and_passes(capsys):
    assert doctor.main([]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["backend"] == doctor.backend()
    assert lines["self-test"].startswith("PASS in ")
    for check in doctor.CHECKS:
        assert lines[check].startswith("PASS")
    assert lines["CUDA"].startswith(("in use", "not in use: "))
    if lines["backend"] == "Jittor":
        assert lines["torch"] == "2.2.2+jittor"
        assert lines["oneDNN"].startswith("found in ")
        assert " MB" in lines["cache"]


def test_a_wrong_result_fails(capsys, monkeypatch):
    monkeypatch.setitem(doctor.CHECKS, "matmul", lambda torch: 1e-3)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "FAIL (error 1.0e-03" in text
    assert "self-test        FAIL in" in text


def test_an_error_in_a_check_fails_and_the_others_still_run(capsys, monkeypatch):
    def broken(torch):
        raise RuntimeError("no such\nkernel")

    monkeypatch.setitem(doctor.CHECKS, "matmul", broken)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "FAIL: RuntimeError: no such kernel" in text
    assert "gradient         PASS" in text


@given(scale=st.floats(1e-3, 1e3), off=st.floats(1e-6, 1.0))
def test_the_error_is_relative_to_the_largest_value(scale, off):
    expected = np.array([1.0, -2.0, 0.5]) * scale
    got = expected + np.array([0.0, off * scale, 0.0])
    assert doctor.relative_error(got, expected) == pytest.approx(off / 2)


@pytest.mark.parametrize("got", [np.array([1.0, np.nan]), np.array([1.0, np.inf]), np.ones(3)])
def test_a_result_that_is_not_finite_or_has_another_shape_never_passes(got):
    assert doctor.relative_error(got, np.ones(2)) == float("inf")
