"""A LoRA on convolutions has the same losses and pictures on Jittor and on PyTorch: `pytest -m reference`."""

import json

import numpy as np
import pytest
from both import MARKS, PYTHONS
from both import jdiff as run
from PIL import Image

from jdiff_style.lora_files import STRENGTHS_FILE

pytestmark = MARKS


def levels(file):
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def test_convolutions_and_decoder_train_alike_in_both_environments_and_files_are_exchanged(tiny_base, sample, tmp_path):
    """Forty steps of every layer, the decoder's included; then each environment draws with the other's file, merged."""
    words = ["train", "--pack", sample, "--base", tiny_base, "--lora-targets", "attention+convolutions", "--steps", 40]
    words += ["--rank-per-style", 2, "--resolution", 64, "--learning-rate", "1e-3", "--lora-dropout", 0, "--batch-size", 2]
    words += ["--decoder-rank-per-style", 2, "--decoder-softness", 0.5]
    words += ["--grid-styles", 1, "--grid-words", 1, "--grid-steps", 4]
    runs, drawn = {}, {}
    for label, python in PYTHONS.items():
        run(python, *words, "--out", tmp_path / label)
        (runs[label],) = (tmp_path / label).glob("0*")
    one, two = (
        [[row["loss"], row["decoder_loss"]] for row in map(json.loads, (found / "log.jsonl").read_text().splitlines())]
        for found in runs.values()
    )
    one, two = np.asarray(one), np.asarray(two)
    assert len(one) == 40 and one[:, 0] == pytest.approx(two[:, 0], rel=1e-4, abs=1e-4)
    # An absolute error's gradient is a sign: rounding turns some, and 1e-7 at the first step has become 1e-4 at the 37th.
    assert one[:20, 1] == pytest.approx(two[:20, 1], rel=1e-4)
    assert np.abs(levels(runs["here"] / "grid.png") - levels(runs["reference"] / "grid.png")).max() <= 2
    for label, python in PYTHONS.items():
        other = next(found for name, found in runs.items() if name != label)
        out = tmp_path / f"drawn-{label}"
        options = ("--run", other, "--out", out, "--limit", 1, "--styles", "00", "--steps", 4)
        run(python, "generate", *options)
        (drawn[label],) = out.glob("00/*.png")
    assert np.abs(levels(drawn["here"]) - levels(drawn["reference"])).max() <= 2


def test_drafts_are_trained_on_alike_in_both_environments(tiny_base, sample, tmp_path):
    """The base draws them itself, with what its sampling makes of rounding; the grid is made from others of them."""
    words = ["train", "--pack", sample, "--base", tiny_base, "--steps", 20, "--rank-per-style", 2, "--resolution", 64]
    words += ["--learning-rate", "1e-3", "--lora-dropout", 0, "--batch-size", 2, "--no-flip", "--grid-styles", 1]
    words += ["--grid-words", 1, "--grid-steps", 4, "--draft-template", "a drawing of {object}", "--drafts", 0.8]
    words += ["--draft-strength-by-style", "--draft-strength", 0.6, "--draft-templates", "lineart=an icon of {object}"]
    losses, grids, strengths = [], [], []
    for label, python in PYTHONS.items():
        run(python, *words, "--out", tmp_path / label)
        (found,) = (tmp_path / label).glob("0*")
        losses.append([json.loads(row)["loss"] for row in (found / "log.jsonl").read_text().splitlines()])
        grids.append(levels(found / "grid.png"))
        strengths.append(json.loads((found / STRENGTHS_FILE).read_text()))
    assert len(strengths[0]) == 3 and strengths[0] == pytest.approx(strengths[1], abs=1e-3)  # kept to three digits
    assert len(losses[0]) == 20 and losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert np.abs(grids[0] - grids[1]).max() <= 2
