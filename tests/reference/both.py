"""The two environments that tests marked `reference` compare, and a `jdiff` command in either."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = {"here": Path(sys.executable), "reference": ROOT / ".venv-reference" / "bin" / "python"}
MARKS = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHONS["reference"].exists(), reason="no .venv-reference: bash scripts/setup.sh --reference makes it"
    ),
]


def jdiff(python, *words):
    """A `jdiff` command with an interpreter in a process of its own; it has to succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [python, "-m", "jdiff_style.cli", *words]
    done = subprocess.run([str(word) for word in line], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
