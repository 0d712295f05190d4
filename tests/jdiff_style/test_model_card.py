"""The model card: it says what the run was, carries the licences, and is part of what the hashes cover."""

import json
import re
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from jdiff_style.checkpoint import sha256
from jdiff_style.errors import UserError
from jdiff_style.hashes import check_sums, write_sums
from jdiff_style.model_card import draw_loss, put_figures

STAGES = ("vae", "clip", "base")


def table(text, head):
    """The rows, as lists of cells, of the table whose first column is headed `head`."""
    lines = text[text.index(f"| {head} |") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("| ---")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_card_says_what_the_run_was(trained, stage):
    run = trained[stage]
    text = (run / "result" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0" and (front.get("pipeline_tag") == "text-to-image") == (stage == "base")
    card = json.loads((run / "result" / "training.json").read_text())
    assert f"6 steps ({card['epochs']} epochs)" in text and "learning_rate 0.0" in text
    pictures = 8 if stage == "base" else 16
    assert f"{pictures} pictures of 16 px for training, 4 of objects that were held out" in text
    assert f"flat ({pictures // 2}), ring ({pictures // 2})" in text and card["versions"]["inputs"]["data"] in text
    session = card["sessions"][0]
    assert table(text, "after step")[1][:4] == ["0", session["device"], session["name"], str(session["threads"])]
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    measured = {"vae": "psnr", "clip": "top5_train", "base": "held_out_loss"}[stage]
    head, *lines = table(text, "step")
    assert [line[0] for line in lines] == ["3", "6"]
    assert float(lines[-1][head.index(measured)]) == pytest.approx(rows[-1][measured], rel=1e-3)
    assert "## Limits" in text and not re.search(r"\{\w+\}", text)
    assert Image.open(run / "result" / "loss.png").size == (640, 240)
    if stage == "clip":
        assert "samples.png" not in text
    else:
        assert sha256(run / "result" / "samples.png") == sha256(run / "samples" / "step-00000006.png")


@pytest.mark.parametrize("stage", STAGES)
def test_the_lines_of_use_in_a_card_run(trained, stage):
    code = (trained[stage] / "result" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(code.replace('"FOLDER"', repr(str(trained[stage] / "result"))).replace("steps=20", "steps=2"), names)
    assert ("picture" in names) == (stage == "base")


@pytest.mark.parametrize("stage", STAGES)
def test_a_card_names_no_folder_of_the_machine(trained, stage):
    assert str(trained[stage].parents[1]) not in (trained[stage] / "result" / "README.md").read_text()


def test_licences_travel_with_the_weights(jdiff, trained, tmp_path):
    text = (trained["vae"] / "result" / "README.md").read_text()
    assert "says nothing about licences" in text and not (trained["vae"] / "result" / "LICENSES.md").exists()
    copy = shutil.copytree(trained["vae"].parents[1] / "data", tmp_path / "data" / "build" / "pictures")
    (tmp_path / "data" / "LICENSES.md").write_text("All of it was drawn by me.\n")
    run = shutil.copytree(trained["vae"], tmp_path / "run")
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(trained["vae"].parents[1] / "data"), str(copy)))
    assert jdiff("export", run, tmp_path / "vae")[0] == 0
    assert (tmp_path / "vae" / "LICENSES.md").read_text() == "All of it was drawn by me.\n"
    assert "[LICENSES.md](LICENSES.md)" in (tmp_path / "vae" / "README.md").read_text()


def test_an_export_of_fewer_steps_shows_only_what_was_then(jdiff, trained, tmp_path):
    copy = shutil.copytree(trained["vae"], tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints" / "step-00000006")
    assert jdiff("export", copy, tmp_path / "vae")[0] == 0
    text = (tmp_path / "vae" / "README.md").read_text()
    assert "4 steps" in text and [row[0] for row in table(text, "step")[1:]] == ["3"] and "After step 3." in text


def test_figures_are_replaced_and_the_hashes_with_them(trained, tmp_path):
    copy = shutil.copytree(trained["base"] / "result", tmp_path / "copy")
    for number in (1, 2):
        put_figures(copy, f"| figure {number} |")
        check_sums(copy, "base")
    text = (copy / "README.md").read_text()
    assert "| figure 2 |" in text and "figure 1" not in text and text.index("## Figures") < text.index("## Limits")
    (copy / "README.md").write_text("another text")
    with pytest.raises(ValueError, match="no place for figures"):
        put_figures(copy, "x")


def test_the_loss_curve_falls_where_the_loss_falls():
    def heights(points):
        blue = (np.asarray(draw_loss(points)) == (0, 0, 128)).all(axis=2)
        columns = np.flatnonzero(blue.any(axis=0))
        return [np.flatnonzero(blue[:, column]).mean() for column in (columns[5], columns[-6])]

    first, last = heights([(step, 2.0 - step / 1000) for step in range(1, 1001)])
    assert first < 40 and last > 180
    first, last = heights([(1, 1.0), (2, 3.0)])
    assert first > last
    assert draw_loss([]).size == draw_loss([(1, 0.5)]).size == (640, 240)


def test_a_damaged_weight_file_of_a_base_is_named_with_both_hashes(jdiff, tiny_base, pack_folder, tmp_path):
    """By the commands that take `--base`, before anything is computed or written."""
    base = shutil.copytree(tiny_base, tmp_path / "base")
    write_sums(base)
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    good = sha256(file)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    wanted = f"{file} is damaged: its SHA-256 is {sha256(file)} instead of {good}"
    code, _, err = jdiff("train", "--pack", pack_folder, "--base", base, "--out", tmp_path / "out", "--resolution", 16)
    assert code == 1 and wanted in err and not list((tmp_path / "out").glob("0*"))
    words = ("--base", base, "--pack", pack_folder, "--out", tmp_path / "pictures", "--steps", 1)
    code, _, err = jdiff("generate", *words)
    assert code == 1 and wanted in err and not list((tmp_path / "pictures").glob("*/*.png"))
    from jdiff_style.generate import SamplingOptions, load_pipeline

    with pytest.raises(UserError, match=r"--base: .*instead of"):
        load_pipeline(base, None, SamplingOptions())
