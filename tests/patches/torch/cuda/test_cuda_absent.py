"""torch.cuda where there is no card: the same answers and the same errors as PyTorch's CPU build."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import answers

ROOT = Path(__file__).resolve().parents[4]
REFERENCE = ROOT / ".venv-reference" / "bin" / "python"

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="this process computes on a card")


def _differing(found: dict[str, str]) -> dict[str, tuple[str, str]]:
    def agree(got, expected):
        error = expected.partition(":")[0].endswith("Error")
        return got.startswith(expected) if error else got == expected

    return {q: (found[q], expected) for q, expected in answers.EXPECTED.items() if not agree(found[q], expected)}


def test_without_a_card_torch_answers_as_pytorch_does():
    assert _differing(answers.answers()) == {}


@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE.exists(), reason="no .venv-reference: bash scripts/setup.sh --reference makes it")
def test_the_expected_answers_are_pytorchs():
    done = subprocess.run([REFERENCE, Path(answers.__file__)], capture_output=True, text=True, check=True)
    assert _differing(json.loads(done.stdout)) == {}


def test_the_error_says_where_to_look():
    with pytest.raises(AssertionError, match="`jdiff doctor` says why"):
        torch.ones(1).cuda()


def test_what_one_stream_and_one_pool_cannot_do_is_refused():
    with pytest.raises(NotImplementedError, match="no limit to set"):
        torch.cuda.set_per_process_memory_fraction(0.5)
    with pytest.raises(RuntimeError, match="device generators do not exist"):
        torch.cuda.set_rng_state_all([torch.get_rng_state()])
    with pytest.raises(AssertionError, match="CUDA"):
        torch.cuda.reset_peak_memory_stats()
    with pytest.raises(NotImplementedError, match=r"torch\.cuda\.streams\.nope"):
        torch.cuda.streams.nope  # noqa: B018
    assert torch.cuda.memory.memory_allocated is torch.cuda.memory_allocated
