"""benchmarks/gpu.sh without a card says so and stops; gpu.py checks, times and compares, here on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def _no_driver():
    from jtorch import cuda_device

    return cuda_device.query().version == (0, 0)


def gpu(*words):
    return subprocess.run([sys.executable, ROOT / "benchmarks/gpu.py", *map(str, words)], capture_output=True, text=True,
                          check=False)


def test_without_a_card_it_says_why_and_does_nothing(tmp_path):
    pytest.importorskip("jtorch")
    if not _no_driver():
        pytest.skip("this machine has NVIDIA's driver")
    environment = {**os.environ, "JDIFF_PYTHON": sys.executable, "REFERENCE_PYTHON": sys.executable}
    out = tmp_path / "out"
    done = subprocess.run(["bash", ROOT / "benchmarks/gpu.sh", out], env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1
    assert done.stderr == "gpu.sh: CUDA is not usable here: no NVIDIA driver (libcuda.so.1 not found)\n"
    assert not out.exists()
    done = subprocess.run(["bash", ROOT / "benchmarks/gpu.sh", out], env={**environment, "JDIFF_PYTHON": "/nowhere"},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("gpu.sh: /nowhere is missing: bash scripts/setup.sh makes it")


def test_cases_are_timed_and_differences_found(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    cases = ["softmax float32", "layer-norm float32", "adamw float32"]
    done = gpu("run", a, *cases, "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((a / "times.json").read_text())
    assert list(report["times"]) == cases and report["about"]["card"] == "CPU"
    with np.load(a / "softmax float32.npz") as found:
        np.testing.assert_allclose(found["out"].sum(-1), 1, rtol=1e-5)
        assert found["grad0"].shape == found["out"].shape == (16, 1024, 77)
    subprocess.run(["cp", "-r", a, b], check=True)
    same = gpu("compare", a, b, "--json", tmp_path / "table.json")
    assert same.returncode == 0 and "all 3 cases agree" in same.stdout and "| 1.00 | 0.0e+00 |" in same.stdout
    assert json.loads((tmp_path / "table.json").read_text())["rows"][0]["ratio"] == 1.0
    with np.load(a / "softmax float32.npz") as found:
        np.savez(a / "softmax float32.npz", out=found["out"], grad0=found["grad0"] * 1.01)
    del report["times"]["layer-norm float32"]
    report["failed"]["layer-norm float32"] = "RuntimeError: no kernel"
    (a / "times.json").write_text(json.dumps(report))
    other = gpu("compare", a, b)
    assert other.returncode == 1 and "2 of 3 cases are wrong or missing" in other.stdout
    assert "DIFFERENT NUMBERS" in other.stdout and "RuntimeError: no kernel" in other.stdout


def test_a_card_is_asked_for_where_there_is_none(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this process sees a card")
    done = gpu("run", tmp_path / "x")
    assert done.returncode == 1 and "torch sees no card here" in done.stderr and not (tmp_path / "x").exists()
