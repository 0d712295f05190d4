"""Training from scratch through the command: all stages in miniature, their results, and resuming."""

import json
import shutil
import signal
import time

import numpy as np
import pytest
import yaml

from jdiff_style.checkpoint import sha256
from jdiff_style.errors import UserError
from jdiff_style.hashes import check_sums
from jdiff_style.recipe import make_recipe, read_recipe

STAGES = ("vae", "clip", "base", "decoder")


def losses(run):
    return [json.loads(row)["loss"] for row in (run / "log.jsonl").read_text().splitlines()]


def weights(run):
    """Hashes of the newest checkpoint and of the exported weights."""
    newest = max((run / "checkpoints").iterdir())
    files = [*newest.glob("*.safetensors"), *(run / "result").rglob("*.safetensors")]
    return {str(file.relative_to(run)): sha256(file) for file in files}


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_leaves_log_checkpoints_and_a_result(trained, stage):
    run = trained[stage]
    rows = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6] and all(0 < row["loss"] < 10 for row in rows)
    assert rows[0]["lr"] == pytest.approx(rows[1]["lr"] / 2)
    measured = {"vae": "psnr", "clip": "top5", "base": "held_out_loss", "decoder": "psnr_drawn"}[stage]
    assert [measured in row for row in rows] == [False, False, True, False, False, True]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
    check_sums(run / "result", "result")
    card = json.loads((run / "result" / "training.json").read_text())
    assert card["steps"] == 6 and card["held_out_pictures"] == 4
    assert card["training_pictures"] == (8 if stage in ("base", "decoder") else 16)
    assert "data" not in card["recipe"] and card["last_measurement"]["step"] == 6
    if stage != "clip":
        assert (run / "samples" / "step-00000006.png").is_file()


def test_the_vae_learns(jdiff, trained, tmp_path):
    recipe = trained["vae"].parents[1] / "vae.yaml"
    assert jdiff("train", "--recipe", recipe, "--out", tmp_path, "--steps", 40, "--validate-every", 20)[0] == 0
    (run,) = tmp_path.glob("0*")
    rows = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
    assert rows[39]["psnr"] > rows[19]["psnr"] + 0.5 and rows[39]["l1"] < rows[0]["l1"] / 2


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_after_a_checkpoint_goes_on_to_the_same_end(jdiff, trained, tmp_path, stage):
    """What kill -9 leaves: an older checkpoint, log lines after it, half a line, no result."""
    copy = shutil.copytree(trained[stage], tmp_path / "copy")
    shutil.rmtree(copy / "result")
    shutil.rmtree(copy / "checkpoints" / "step-00000006")
    (copy / "log.jsonl").write_text((copy / "log.jsonl").read_text()[:-7])
    code, _, err = jdiff("train", "--resume", copy)
    assert code == 0 and "going on after step 4" in err, err
    assert losses(copy) == losses(trained[stage])
    assert weights(copy) == weights(trained[stage])
    card = json.loads((copy / "result" / "training.json").read_text())
    assert [session["after_step"] for session in card["sessions"]] == [0, 4] and card["hours"] >= 0
    assert all(session["threads"] >= 1 and session["name"] and session["torch"] for session in card["sessions"])


def test_kill_9_in_the_middle_of_a_run(jdiff, start_jdiff, trained, tmp_path):
    process = start_jdiff("train", "--recipe", trained["vae"].parents[1] / "vae.yaml", "--out", tmp_path)
    for _ in range(6000):
        if any(len(log.read_text().splitlines()) >= 3 for log in tmp_path.glob("0*/log.jsonl")):
            break
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (run,) = tmp_path.glob("0*")
    assert jdiff("train", "--resume", run)[0] == 0
    assert losses(run) == losses(trained["vae"]) and weights(run) == weights(trained["vae"])


def test_resuming_refuses_other_data_and_other_settings(jdiff, trained, tmp_path, pretrain_data):
    run = trained["vae"]
    code, _, err = jdiff("train", "--resume", run, "--learning-rate", "1e-4")
    assert code == 1 and "learning_rate cannot change" in err
    other = pretrain_data(tmp_path / "other", objects=11)
    code, _, err = jdiff("train", "--resume", run, "--data", other)
    assert code == 1 and "data" in err and "has changed since the run began" in err
    code, _, err = jdiff("train", "--resume", run)
    assert code == 0 and "is finished: 6 of 6" in err


def test_more_steps_later_and_the_rate_falls_at_the_end(jdiff, trained, tmp_path):
    copy = shutil.copytree(trained["vae"], tmp_path / "copy")
    assert jdiff("train", "--resume", copy, "--steps", 10, "--cooldown-steps", 3)[0] == 0
    rates = [json.loads(row)["lr"] for row in (copy / "log.jsonl").read_text().splitlines()]
    assert losses(copy)[:6] == losses(trained["vae"])
    assert np.allclose(np.array(rates) / 2e-3, [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_noise_on_the_latents_may_change_on_the_way_and_the_card_says_so(jdiff, trained, tmp_path):
    copies = {noise: shutil.copytree(trained["vae"], tmp_path / str(noise)) for noise in (0, 0.5)}
    for noise, copy in copies.items():
        assert jdiff("train", "--resume", copy, "--steps", 8, "--latent-noise", noise)[0] == 0
    assert losses(copies[0])[:6] == losses(copies[0.5])[:6] and losses(copies[0])[6] != losses(copies[0.5])[6]
    card = json.loads((copies[0.5] / "result" / "training.json").read_text())
    assert [(session["settings"]["steps"], session["settings"]["latent_noise"]) for session in card["sessions"]] == [
        (6, 0.2),
        (8, 0.5),
    ]
    assert "latent_noise 0.5" in (copies[0.5] / "result" / "README.md").read_text()


def test_the_result_is_a_stable_diffusion_that_draws(trained):
    from diffusers import StableDiffusionPipeline

    folder = trained["base"] / "result"
    pipeline = StableDiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a flat emoji of thing a", num_inference_steps=2).images[0]
    assert picture.size == (16, 16)
    assert pipeline.scheduler.config.prediction_type == "v_prediction" and pipeline.tokenizer.model_max_length == 16
    assert pipeline.vae.config.scaling_factor != 0.18215
    assert (folder / "words.txt").read_text().splitlines() == ["thing a", "thing c", "thing d", "thing h"]
    assert json.loads((folder / "training.json").read_text())["training_pictures"] == 8


def test_weights_are_float16_on_disk(trained):
    from safetensors import safe_open

    files = list((trained["base"] / "result").rglob("*.safetensors"))
    assert len(files) == 3
    for file in files:
        with safe_open(str(file), "np") as opened:
            assert {opened.get_slice(key).get_dtype() for key in opened.keys()} <= {"F16", "I64"}  # noqa: SIM118


def test_the_small_clip_loads_with_its_tokenizer(trained):
    import torch
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    from jdiff_style.image_projection import load_projection

    folder = str(trained["clip"] / "result")
    model, tokenizer = CLIPTextModelWithProjection.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    tokens = tokenizer(["a flat emoji of thing a"], padding="max_length", max_length=16, return_tensors="pt").input_ids
    with torch.no_grad():
        assert tuple(model(input_ids=tokens).text_embeds.shape) == (1, 16)
        assert tuple(load_projection(trained["clip"] / "result")(torch.rand(3, 48)).shape) == (3, 16)
    assert tokenizer.decode(tokens[0], skip_special_tokens=True).strip() == "a flat emoji of thing a"


def test_export_writes_a_new_folder_from_the_newest_checkpoint(jdiff, trained, tmp_path):
    code, out, err = jdiff("export", trained["vae"], tmp_path / "vae")
    assert code == 0 and out.strip() == str(tmp_path / "vae"), err
    result = trained["vae"] / "result"
    name = "diffusion_pytorch_model.safetensors"
    assert sha256(tmp_path / "vae" / name) == sha256(result / name)
    code, _, err = jdiff("export", trained["vae"], tmp_path / "vae")
    assert code == 1 and "exists already" in err
    code, _, err = jdiff("export", tmp_path, tmp_path / "new")
    assert code == 1 and "recipe.yaml" in err


def test_a_damaged_weight_file_is_named_with_both_hashes(trained, tmp_path):
    copy = shutil.copytree(trained["base"] / "result", tmp_path / "copy")
    check_sums(copy, "base")
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    good = sha256(file)
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match=f"base: .*vae.*its SHA-256 is {sha256(file)} instead of {good}"):
        check_sums(copy, "base")


@pytest.mark.parametrize(
    "stage, values, words",
    [
        ("vae", {"chanels": 1}, ["unknown key 'chanels'", "did you mean 'channels'"]),
        ("vae", {"rank_per_style": 4}, ["unknown key 'rank_per_style'"]),
        ("vae", {"channels": [16, 20]}, ["channels: 20 is not a multiple of 8; use 16"]),
        ("vae", {"channels": "wide"}, ["channels: 'wide' is not a list of whole numbers"]),
        ("vae", {"channels": []}, ["channels: [] is not a list"]),
        ("vae", {"channels": [2]}, ["channels: 2 is below 4"]),
        ("vae", {"steps": 10, "warmup_steps": 8, "cooldown_steps": 3}, ["steps: 10 is less than warmup_steps 8"]),
        ("vae", {"l1_weight": 0, "l2_weight": 0}, ["l1_weight: 0"]),
        ("clip", {"text_width": 100}, ["text_width: 100 is not a multiple of head_width 32"]),
        ("clip", {"batch_size": 1}, ["batch_size: 1"]),
        ("base", {"attention": [1, 1]}, ["attention: 2 levels, but channels has 3"]),
        ("base", {"attention": [0, 0, 0]}, ["attention: no level"]),
        ("base", {"sample_steps": 30}, ["sample_steps: 30 does not divide the 1000 timesteps", "use 25"]),
        ("decoder", {"draw_steps": 3}, ["draw_steps: 3 does not divide the 1000 timesteps", "use 2"]),
        ("decoder", {"l1_weight": 0, "l2_weight": 0}, ["l1_weight: 0"]),
        ("base", {"prediction_type": "sample"}, ["prediction_type: 'sample' is not one of"]),
        ("gan", {}, ["stage: 'gan' is not one of lora, vae, clip, base, decoder"]),
    ],
)
def test_a_bad_recipe_is_named_with_the_way_out(stage, values, words):
    with pytest.raises(UserError) as caught:
        make_recipe({"stage": stage, **values})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "data: none given"),
        (["--data", "nowhere"], "nowhere/images.npy is missing"),
        (["--data", "bad"], "3 lines for 20 pictures"),
        (["--data", "data", "--channels", "8,8,8,8,8,8"], "levels need a side that 32 divides, not 16"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(jdiff, tmp_path, monkeypatch, pretrain_data, words, message):
    monkeypatch.chdir(tmp_path)
    pretrain_data(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "bad")
    metadata = tmp_path / "bad" / "metadata.jsonl"
    metadata.write_text("".join(metadata.read_text().splitlines(True)[:3]))
    code, out, err = jdiff("train", "--stage", "vae", *words)
    assert code == 1 and out == "" and message in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_base_without_its_models_says_which(jdiff, trained):
    data = trained["vae"].parents[1] / "data"
    for words, message in (
        ([], "vae: none given"),
        (["--vae", data], "has no SHA256SUMS"),
        (["--vae", trained["vae"]], "clip: none given"),
        (["--vae", trained["vae"], "--clip", trained["vae"]], "clip: cannot load"),
    ):
        code, _, err = jdiff("train", "--stage", "base", "--data", data, *words)
        assert code == 1 and message in err, err


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "words.txt is empty"),
        ("thing a\nthing z\n", "names 1 objects without a training picture"),
        ("thing e\n", "among them 'thing e'"),  # held out
        (None, "words: cannot read"),
    ],
)
def test_words_that_cannot_be_trained(jdiff, trained, tmp_path, text, message):
    data, file = trained["vae"].parents[1] / "data", tmp_path / "words.txt"
    if text is not None:
        file.write_text(text)
    models = ["--vae", trained["vae"], "--clip", trained["clip"]]
    code, _, err = jdiff("train", "--stage", "base", "--data", data, "--words", file, *models, "--out", tmp_path / "out")
    assert code == 1 and message in err and len(err.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_help_and_dry_run_follow_the_stage(jdiff, tmp_path, pretrain_recipes):
    _, out, _ = jdiff("train", "--stage", "vae", "--help")
    assert "--kl-weight" in out and "--rank-per-style" not in out
    path = pretrain_recipes(tmp_path)["base"]
    path.write_text(path.read_text() + "vae: v\n")
    code, out, _ = jdiff("train", "--recipe", path, "--channels", "16,64", "--dry-run")
    values = yaml.safe_load(out)
    assert code == 0 and values["channels"] == [16, 64] and values["vae"] == str(tmp_path / "v")
    again = tmp_path / "again.yaml"
    again.write_text(out)
    assert make_recipe(read_recipe(again)).channels == (16, 64)
