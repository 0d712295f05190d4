"""A whole training run on a card: on that of this machine where the process computes on one, else on the stand-in for it."""

import contextlib
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "patches" / "jtorch"))
import card_stand_in


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("no", 1e-5), ("fp16", 1e-3)])
def test_the_losses_are_those_of_the_cpu(jdiff, pack_folder, tiny_base, tmp_path, precision, tolerance):
    """With the sample grid, so generation is in it; nothing in the pipeline mixes devices."""
    losses = {}
    for device in ("cuda", "cpu"):
        stand_in = device == "cuda" and not torch.cuda.is_available()
        with card_stand_in.card() if stand_in else contextlib.nullcontext([]) as launched:
            code, _, error = jdiff(
                "train", "--pack", pack_folder, "--base", tiny_base, "--out", tmp_path / device, "--device", device,
                "--mixed-precision", precision if device == "cuda" else "no", "--rank-per-style", 2, "--resolution", 32,
                "--learning-rate", "1e-3", "--steps", 3, "--grid-styles", 1, "--grid-steps", 2,
            )  # fmt: skip
            assert code == 0, error
        if stand_in:
            assert {"norm", "attention_backward_sized", "gated", "square_sum", "adam"} <= set(launched)
        (log,) = (tmp_path / device).glob("0*/log.jsonl")
        losses[device] = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
        assert (log.parent / "grid.png").exists()
    if torch.cuda.is_available():  # where cuDNN may round float32 to TF32
        tolerance = max(tolerance, 1e-2)
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=tolerance)
