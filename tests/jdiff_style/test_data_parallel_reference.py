"""Several processes train alike on Jittor and on PyTorch: `pytest -m reference`."""

import json

import pytest
from both import MARKS, PYTHONS, jdiff

pytestmark = MARKS


def test_shared_batches_have_the_same_losses_in_both_environments(tmp_path, pack_folder, tiny_base):
    found = {}
    for label, python in PYTHONS.items():
        for processes in (1, 2):
            out = tmp_path / f"{label}-{processes}"
            jdiff(python, "train", "--pack", pack_folder, "--base", tiny_base, "--out", out, "--rank-per-style", 2,
                  "--resolution", 32, "--grid-styles", 0, "--batch-size", 3, "--steps", 6, "--lora-dropout", 0,
                  "--processes", processes)  # fmt: skip
            (log,) = out.glob("0*/log.jsonl")
            found[label, processes] = [json.loads(row)["loss"] for row in log.read_text().splitlines()]
    expected = found["reference", 1]
    assert len(expected) == 6
    for losses in found.values():
        assert losses == pytest.approx(expected, rel=1e-4)
