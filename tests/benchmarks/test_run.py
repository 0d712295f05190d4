"""The benchmark compares before it divides, and its workloads run."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run():
    sys.path.insert(0, str(BENCHMARKS))  # as `python benchmarks/run.py` has it
    yield load("run")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def results():
    return load("results")


ROW = {"jittor_s": 1.0, "pytorch_s": 2.0, "jittor_mb": 1.0, "pytorch_mb": 1.0, "warm_s": 1.0, "channels_last": False,
       "error": 0.1, "error_in": "out", "ratio": 2.0, "ratio_turns": [1.9, 2.1], "measured": "today abc"}


def save(folder, side, **arrays):
    path = folder / f"{side}.npz"
    np.savez(path, **{name.replace("/", "|"): value for name, value in arrays.items()})
    return path


def test_difference_is_measured_against_the_references_largest_value(run, tmp_path):
    reference = {"out": np.array([0.0, 4.0]), "grad/a": np.array([1e-3])}
    ours = {"out": np.array([2e-5, 4.0]), "grad/a": np.array([1e-3])}
    worst, where = run.difference(save(tmp_path, "a", **ours), save(tmp_path, "b", **reference))
    assert where == "out" and worst == pytest.approx(0.5)


@pytest.mark.parametrize("ours", [
    {"out": np.array([1.0, np.nan])}, {"out": np.array([1.0])}, {"out": np.array([1.0, 2.0]), "grad/x": np.ones(1)}, {},
])
def test_what_cannot_be_compared_is_infinitely_far_off(run, tmp_path, ours):
    reference = save(tmp_path, "b", out=np.array([1.0, 2.0]))
    assert run.difference(save(tmp_path, "a", **ours), reference)[0] == math.inf


def test_no_ratio_without_agreement(results):
    row = {key: value for key, value in ROW.items() if "ratio" not in key} | {"error": 3.0}
    text = results.table({"x": row}, {"x": "X"})
    assert "outputs differ: 3 times the allowed error in out" in text and "**" not in text and "Geometric" not in text
    text = results.table({"x": ROW, "y": ROW | {"ratio": 0.5}}, {"x": "X", "y": "Y"})
    assert "**2.00** (1.90, 2.10)" in text and "Geometric mean of 2 ratios: **1.00**" in text


def test_a_failure_is_shown_as_one(results):
    assert "failed: no memory" in results.table({"x": {"failed": "trace\nno memory"}}, {"x": "X"})


def test_a_table_is_measured_in_pieces_on_one_machine(results):
    titles = {"workloads": {"x": "X", "y": "Y"}, "kernels": {"k": "K"}, "scoring": {}}
    found = results.merge({}, "workloads", 2, "machine A", {"y": ROW})
    found = results.merge(found, "workloads", 2, "machine A", {"x": ROW | {"ratio": 0.5}})
    found = results.merge(found, "kernels", 1, "machine A, 1 thread", {"k": ROW})
    text = results.render(found, titles)
    assert text.index("| X |") < text.index("| Y |") < text.index("Single operations") < text.index("| K |")
    assert "Geometric mean of 2 ratios: **1.00**" in text
    found = results.merge(found, "workloads", 2, "machine B", {"x": ROW})
    assert "| Y |" not in results.render(found, titles)  # nothing is compared across machines


def test_starts_stand_in_a_table_of_their_own_and_stay_when_others_are_measured(results):
    row = {"jittor_s": 3.0, "pytorch_s": 4.5, "measured": "today abc"}
    cold = {"jittor_s": 3.0, "measured": "today abc"}
    found = results.merge({}, "starts", 2, "machine A", {"ready": row, "picture-cold": cold})
    found = results.merge(found, "workloads", 2, "machine A", {"x": ROW})
    text = results.render(found, {"workloads": {"x": "X"}, "kernels": {}, "scoring": {}})
    assert "ready to draw | 3.00 s | 4.50 s | today abc |" in text and "kernel cache | 3.00 s | – | today abc |" in text
    assert "Geometric mean of 1 ratios" in text and "| X |" in text


def test_starts_need_a_base_model(tmp_path):
    command = [sys.executable, BENCHMARKS / "start.py", "torch", "--rounds", "1"]
    done = subprocess.run([*command, "--base", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "holds no base model (model_index.json is missing)" in done.stderr


def test_a_workload_runs_and_reads_everything_back(tmp_path):
    command = [sys.executable, BENCHMARKS / "measure.py", "adamw", tmp_path, "--budget", "0", "--least", "2"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "adamw.json").read_text())
    assert len(result["seconds"]) == 2 and min(result["seconds"]) > 0 and result["peak_mb"] > 100
    with np.load(tmp_path / "adamw.npz") as file:
        assert sum(file[name].size for name in file.files) == 10_000_000


@pytest.fixture(scope="module")
def floor():
    return load("floor")


SIDE = {"seconds": 0.04, "operations": 900.0, "operations_s": 0.01, "flops": 2e8, "bytes": 4e6, "flops_per_s": 1e11,
        "bytes_per_s": 1e10, "table": [["norm", 30.0, 3e-4]]}


def test_the_floor_is_the_slower_of_arithmetic_and_memory_at_the_better_rate(floor):
    rows = {"jittor": SIDE | {"flops": None, "bytes": 0}, "pytorch": SIDE | {"flops_per_s": 2e11}}
    text = floor.report("x: X", rows)
    assert "floor: 1.00 ms (0.20 GFLOP at 200 GFLOP/s: 1.00 ms; 4.0 MB of parameters at 10.0 GB/s: 0.40 ms)" in text
    assert "outside them" in text and "30.00 ms" in text and "norm" in text
    rows["pytorch"]["bytes"] = 4e7
    assert "floor: 4.00 ms" in floor.report("x: X", rows)


def test_one_side_is_looked_at():
    command = [sys.executable, BENCHMARKS / "floor.py", "--side", "jittor", "lora-linear"]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert ["linear", 3.0] in [entry[:2] for entry in row["table"]] and row["flops"] is None
    assert row["operations_s"] > 0 and row["seconds"] > 0 and row["flops_per_s"] > 1e9 and row["bytes_per_s"] > 1e8


@pytest.mark.reference
@pytest.mark.skipif(not (ROOT / ".venv-reference").exists(), reason="no .venv-reference")
def test_operations_of_products_and_attention_are_counted():
    code = ("import sys, json; sys.path[:0] = sys.argv[1:]; import floor, torch; from kernels import KERNELS; "
            "print(json.dumps([floor.count_operations(KERNELS[n].prepare().step) for n in ('linear', 'attention-cross')]))")
    python = ROOT / ".venv-reference" / "bin" / "python"
    done = subprocess.run([python, "-c", code, BENCHMARKS, ROOT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [2 * 616 * 768 * 3072, 2 * 2 * 2 * 4096 * 77 * 320]
