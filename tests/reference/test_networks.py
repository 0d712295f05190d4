"""eval/networks against other people's networks, side by side: ``pytest -m reference tests/reference/test_networks.py``.

The default tests compare with the numbers in golden/networks.npz. Here these numbers are made again, the same tests run
on PyTorch, and the heads of LPIPS are the published ones.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from eval import weights
from eval.networks.loading import read_state
from eval.networks.lpips import LPIPS, NETS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / ".venv-reference" / "bin" / "python"
SCORERS = ROOT / ".venv-reference" / "scorers"

pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(
        not SCORERS.exists(), reason="no .venv-reference/scorers: bash scripts/setup.sh --reference makes it"
    ),
]


def run(*words: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(REFERENCE), *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_committed_numbers_are_what_the_others_give(tmp_path):
    run("-W", "ignore", ROOT / "tests/golden/make_networks.py", tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as again, np.load(ROOT / "tests/golden/networks.npz") as committed:
        # The archive of a script module holds times and ids.
        assert again.files == committed.files
        for name in set(committed.files) - {"script"}:
            old, new = committed[name], again[name]
            if old.dtype.kind == "U":
                assert old.tolist() == new.tolist()
            else:
                assert np.abs(old - new).max() <= 1e-5 * np.abs(old).max(), name


def test_the_same_tests_pass_on_pytorch():
    done = run("-m", "pytest", "tests/eval/test_networks.py", "tests/eval/test_frechet.py", "tests/eval/test_weights.py")
    assert " passed" in done and " failed" not in done


def test_the_anchors_of_lite_quality_are_what_the_script_makes(tmp_path):
    run(ROOT / "scripts/make_quality_anchors.py", tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as again, np.load(ROOT / "eval/lite_quality.npz") as committed:
        assert again["anchors"].shape == (2, 1280) and np.abs(again["anchors"] - committed["anchors"]).max() < 1e-6


@pytest.mark.parametrize("net", NETS)
def test_the_published_heads_load(net):
    """Never negative, one per channel; torchmetrics carries the same files."""
    found = weights.find(f"lpips_{net}", [SCORERS / "lpips" / "weights" / "v0.1"])
    network = LPIPS(net)
    network.fill_heads(read_state(found.path), str(found.path))
    heads = [head.numpy() for head in network.heads]
    assert [head.shape[1] for head in heads] == [tap.shape[1] for tap in LPIPS(net).heads]
    assert min(head.min() for head in heads) >= 0 and all(head.max() > 0 for head in heads)
