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
