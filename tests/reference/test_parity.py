"""The same cases on Jittor and on PyTorch, compared: ``pytest -m reference tests/reference``.

Each environment runs in a process of its own, once for all cases that were selected.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import cases
import compare
import pytest

HERE = pathlib.Path(__file__).resolve().parent
REFERENCE = HERE.parents[1] / ".venv-reference" / "bin" / "python"
MINUTES = 30  # for all cases on a cold cache
NAMES = sorted(cases.load_all())

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.skipif(not REFERENCE.exists(), reason="no .venv-reference: bash scripts/setup.sh --reference makes it"),
]


def _run(python: str | pathlib.Path, out: pathlib.Path, *arguments: str) -> pathlib.Path:
    """run_case.py with an interpreter; its results are in `out`."""
    environment = dict(os.environ)
    if python is REFERENCE:
        extra = os.environ.get("REFERENCE_PYTHONPATH")  # e.g. a folder with scipy
        environment.pop("PYTHONPATH", None)
        environment.update({"PYTHONPATH": extra} if extra else {})
    words = [str(python), str(HERE / "run_case.py"), str(out), *arguments]
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=60 * MINUTES, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return out


def _result(out: pathlib.Path, name: str) -> dict:
    """The arrays of a case; skips the test if the case was skipped there, fails it if it raised."""
    for ending, end in (("skip", pytest.skip), ("error", pytest.fail)):
        path = out / f"{name}.{ending}"
        if path.exists():
            end(f"{out.name}: {path.read_text()}")
    return compare.load(out / f"{name}.npz")


@pytest.fixture(scope="session")
def results(request, tmp_path_factory):
    """Folders of the results of PyTorch and of Jittor for every selected case."""
    chosen = {item.callspec.params["name"] for item in request.session.items if item.name.startswith("test_case[")}
    place = tmp_path_factory.mktemp("parity")
    return [_run(python, place / label, *sorted(chosen)) for label, python in _ENVIRONMENTS]


_ENVIRONMENTS = (("pytorch", REFERENCE), ("jittor", sys.executable))


@pytest.mark.parametrize("name", NAMES)
def test_case(name, results):
    reference, ours = results
    compare.check(_result(ours, name), _result(reference, name))


@pytest.mark.parametrize("direction", ["pytorch to jittor", "jittor to pytorch"])
@pytest.mark.parametrize("what", ["lora", "models"])
def test_exchange(what, direction, tmp_path):
    """A file from one environment gives the same arrays in both."""
    pythons = dict(_ENVIRONMENTS)
    writer = pythons[direction.split()[0]]
    shared = tmp_path / "files"
    shared.mkdir()
    written = _result(_run(writer, tmp_path / "written", what, "--write", str(shared)), what)
    read = {}
    for label, python in _ENVIRONMENTS:
        read[label] = _result(_run(python, tmp_path / label, what, "--read", str(shared)), what)
    compare.check(read["jittor"], read["pytorch"])
    for name, values in written.items():
        assert compare.excess(name, values, read["pytorch"][name]) <= 1, f"{name} differs from what the writer had"


def test_a_difference_is_seen():
    """The comparison itself: what is within and beyond each tolerance, by hand."""
    import numpy as np

    ten = np.full((4, 3), 10.0)
    assert compare.excess("out/x", ten + 0.9e-4, ten) == pytest.approx(0.9)
    assert compare.excess("out/x", ten + 1.1e-4, ten) > 1
    assert compare.excess("out/x", np.full((3, 4), 10.0), ten) == np.inf
    assert compare.excess("out/x", np.where(ten > 0, np.nan, ten), ten) == np.inf
    table = np.array([[1e-3, 100.0], [0.0, 0.0]])
    assert compare.excess("init/x", table + [1e-6, 0], table) > 1  # of the first column's size, not of the whole table's
    assert compare.excess("picture/x", ten / 20 + 2 / 255, ten / 20) <= 1 < compare.excess("picture/x", ten / 20 + 0.01, ten / 20)
    assert compare.excess("zero/x", np.array([0.0, 1e-30]), np.zeros(2)) == np.inf
    assert compare.excess("same/x", np.zeros(2), np.full(2, 2e-5)) > 1  # the reference must hold too
    assert compare.excess("exact/x", np.array(["a"]), np.array(["b"])) == np.inf
    with pytest.raises(AssertionError, match="missing on Jittor"):
        compare.check({}, {"out/x": ten})
