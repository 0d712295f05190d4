"""GradScaler does what PyTorch's does, step for step: scaler.json is scaler_run.py's output under PyTorch 2.13
(`.venv-reference/bin/python tests/patches/torch/amp/scaler_run.py > tests/patches/torch/amp/scaler.json`)."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import scaler_run

HERE = Path(__file__).parent
REFERENCE = HERE.parents[3] / ".venv-reference" / "bin" / "python"


def _check(found):
    expected = json.loads((HERE / "scaler.json").read_text())
    assert found["scale"] == expected["scale"]
    assert found["counter"] == expected["counter"]
    np.testing.assert_allclose(found["parameter"], expected["parameter"], rtol=1e-5)
    np.testing.assert_allclose(np.array(found["norm"], float), np.array(expected["norm"], float), rtol=1e-5)


def test_twelve_steps_with_overflows_are_pytorchs():
    _check(scaler_run.trace())


@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE.exists(), reason="no .venv-reference: bash scripts/setup.sh --reference makes it")
def test_the_golden_steps_are_pytorchs():
    done = subprocess.run([REFERENCE, scaler_run.__file__], capture_output=True, text=True, check=True)
    _check(json.loads(done.stdout))
