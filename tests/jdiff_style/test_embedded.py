"""The small Stable Diffusion that comes with the project: whole, small, plain diffusers; the tiny recipe learns on it."""

import json
import shutil
import statistics
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jdiff_style.hashes import SUMS_FILE

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "data" / "base" / "emoji-sd"
TINY = ROOT / "data" / "recipes" / "emoji-tiny.yaml"


def weights():
    """The weight files of the model."""
    return sorted(BASE.rglob("*.safetensors"))


def test_it_is_at_most_40_megabytes_of_half_precision():
    assert sum(file.stat().st_size for file in BASE.rglob("*") if file.is_file()) <= 40e6
    assert {file.parent.name for file in weights()} == {"text_encoder", "unet", "vae"}
    for file in weights():
        raw = file.read_bytes()
        header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
        assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}, file


def test_every_file_has_its_hash():
    listed = {line[66:] for line in (BASE / SUMS_FILE).read_text().splitlines()}
    assert listed == {str(f.relative_to(BASE)) for f in BASE.rglob("*") if f.is_file()} - {SUMS_FILE}


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_one_changed_byte_is_named_with_both_hashes(jdiff, tmp_path, part):
    copy = Path(shutil.copytree(BASE, tmp_path / "copy"))
    (file,) = (copy / part).glob("*.safetensors")
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    code, _out, err = jdiff("train", "--recipe", TINY, "--base", copy, "--out", tmp_path / "out")
    wanted = {line[66:]: line[:64] for line in (copy / SUMS_FILE).read_text().splitlines()}[f"{part}/{file.name}"]
    assert code == 1 and file.name in err and wanted in err and "Traceback" not in err


def test_the_tiny_recipe_learns_and_draws_another_grid_than_the_base_alone(jdiff, tmp_path):
    code, out, err = jdiff("train", "--recipe", TINY, "--out", tmp_path)
    assert code == 0, err
    run = Path(out.splitlines()[-1])
    losses = [json.loads(row)["loss"] for row in (run / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 40
    assert statistics.mean(losses[-10:]) < 0.9 * statistics.mean(losses[:10])
    grid = np.asarray(Image.open(run / "grid.png").convert("RGB"), dtype=float)
    assert grid.std() > 30  # pictures, not one colour
