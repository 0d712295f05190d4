"""Training through the command: what a run leaves behind, and that nothing can make it lose or change its result."""

import json
import random
import resource
import shutil
import signal
import time

import pytest
import yaml

from jdiff_style import checkpoint
from jdiff_style.checkpoint import sha256

LORA, DECODER = "pytorch_lora_weights.safetensors", "decoder_lora.safetensors"
GOLDEN = [0.91662103, 0.81382316, 1.02284431, 1.2368902, 0.88699156, 1.4644115]
FAST = ["--rank-per-style", 2, "--resolution", 32, "--learning-rate", "1e-3", "--grid-styles", 0]


@pytest.fixture
def words(pack_folder, tiny_base, tmp_path):
    """The command line of a small run of nine steps without the sample grid."""
    return ["train", "--pack", pack_folder, "--base", tiny_base, "--out", tmp_path / "out", *FAST, "--steps", 9]


@pytest.fixture(scope="session")
def whole(tmp_path_factory, tiny_base, picture):
    """(command line, run folder) of an uninterrupted run of 9 steps with a checkpoint every 2."""
    from jdiff_style.cli import main

    folder = tmp_path_factory.mktemp("whole")
    for style in ("00", "01"):
        for name in ("a", "b"):
            picture(folder / "pack" / style / "images" / f"{name}.png", seed=int(style) + ord(name))
    line = ["train", "--pack", folder / "pack", "--base", tiny_base, *FAST, "--steps", 9, "--checkpoint-every", 2]
    line += ["--grad-accumulation", 2, "--batch-size", 2, "--train-text-encoder", "--decoder-rank-per-style", 1]
    line += ["--draft-template", "a drawing of {object}", "--drafts", 0.7, "--grid-steps", 2]
    assert main([str(w) for w in [*line, "--out", folder / "out"]]) == 0
    (run,) = (folder / "out").glob("00000-*")
    return line, run


def result(run):
    """Hashes of everything that must be equal between two runs, and the logged losses."""
    rows = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
    losses = [(row["loss"], row["decoder_loss"]) for row in rows]
    files = (LORA, DECODER, "checkpoints/step-00000009/optimizer.safetensors")
    return *(sha256(run / file) for file in files), losses


def wait_for_step(run_parent, step, process):
    """Wait until the log of the only run in the folder holds `step` lines; the run folder."""
    for _ in range(6000):
        assert process.poll() is None, process.communicate()[1]
        for log in run_parent.glob("0*/log.jsonl"):
            if len(log.read_text().splitlines()) >= step:
                return log.parent
        time.sleep(0.01)
    raise AssertionError("no progress in a minute")


def test_a_run_leaves_lora_recipe_versions_log_and_grid(jdiff, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = jdiff(*words[:-2], "--steps", 3, "--grid-styles", 2, "--grid-words", 2, "--grid-steps", 2)
    assert code == 0, err
    assert out.splitlines()[-1] == "out/00000-pack2-r4-tiny"
    run = tmp_path / "out" / "00000-pack2-r4-tiny"
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert recipe["steps"] == 3 and recipe["pack"] == str(tmp_path / "pack")
    versions = json.loads((run / "versions.json").read_text())
    assert versions["packages"]["diffusers"] == "0.27.2" and len(versions["inputs"]["pack"]) == 64
    rows = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3] and all(0.3 < row["loss"] < 3 for row in rows)
    assert (run / LORA).stat().st_mode & 0o044
    from PIL import Image

    assert Image.open(run / "grid.png").size[0] > 4 * 96
    assert "rate x" in err and "training 3/3, loss" in err and "ETA" in err
    assert not [p for p in run.iterdir() if p.name.startswith(".") and p.name != ".lock"]


def test_the_same_seed_gives_the_same_result_and_another_does_not(jdiff, whole, tmp_path):
    line, run = whole
    assert jdiff(*line, "--out", tmp_path / "a")[0] == 0
    assert jdiff(*line, "--out", tmp_path / "b", "--seed", 1)[0] == 0
    (same,), (other,) = (tmp_path / "a").glob("0*"), (tmp_path / "b").glob("0*")
    assert result(same) == result(run)
    assert result(other)[0] != result(run)[0]


@pytest.mark.parametrize("case", range(2))
def test_kill_at_any_step_and_resume_is_bit_equal(jdiff, start_jdiff, whole, tmp_path, case):
    line, run = whole
    step = random.Random().randint(1, 8) if case else 1  # 1: before the first checkpoint
    process = start_jdiff(*line, "--out", tmp_path)
    killed = wait_for_step(tmp_path, step, process)
    process.kill()
    process.communicate()
    code, _out, err = jdiff("train", "--resume", killed)
    assert code == 0, err
    assert result(killed) == result(run), f"killed at step {step}"


def test_ctrl_c_saves_says_how_to_go_on_and_resumes_bit_equal(jdiff, start_jdiff, whole, tmp_path):
    line, run = whole
    process = start_jdiff(*line, "--out", tmp_path, "--checkpoint-every", 0)
    stopped = wait_for_step(tmp_path, 3, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert "which is saved. Go on with: jdiff train --resume" in err and "Traceback" not in err
    assert len(list((stopped / "checkpoints").glob("step-*"))) == 1
    assert jdiff("train", "--resume", stopped)[0] == 0
    assert result(stopped) == result(run)


def test_more_steps_later_are_as_good_as_at_once(jdiff, whole, tmp_path):
    line, run = whole
    assert jdiff(*line, "--out", tmp_path, "--steps", 5)[0] == 0
    (part,) = tmp_path.glob("0*")
    assert jdiff("train", "--resume", part, "--steps", 9)[0] == 0
    assert result(part) == result(run)
    assert yaml.safe_load((part / "recipe.yaml").read_text())["steps"] == 9


def test_a_damaged_checkpoint_falls_back_and_ends_equal(jdiff, whole, tmp_path):
    _line, run = whole
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / LORA).unlink()
    file = copy / "checkpoints" / "step-00000009" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    code, _, err = jdiff("train", "--resume", copy)
    assert code == 0 and "step-00000009 is damaged" in err and "going on after step 8" in err
    assert result(copy) == result(run)


def test_resuming_a_finished_run_does_nothing(jdiff, whole):
    _, run = whole
    before = (run / LORA).stat().st_mtime_ns
    code, out, err = jdiff("train", "--resume", run)
    assert code == 0 and "is finished" in err and out.strip().endswith(run.name)
    assert (run / LORA).stat().st_mtime_ns == before


def test_a_full_disk_at_a_checkpoint_keeps_the_last_good_one(jdiff, whole, tmp_path, monkeypatch):
    line, run = whole
    assert jdiff(*line, "--out", tmp_path, "--steps", 2)[0] == 0
    (full,) = tmp_path.glob("0*")
    # A limit on the size of files makes writing fail like a full disk does, in the middle: the LoRA file still fits,
    # the optimiser's state does not. It holds only while a checkpoint is written, as a backend may compile code at
    # other times.
    limit = (run / "checkpoints" / "step-00000009" / "optimizer.safetensors").stat().st_size - 1
    write, hard = checkpoint.write_checkpoint, resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def limited(*arguments, **options):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            return write(*arguments, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_checkpoint", limited)
        code, _, err = jdiff("train", "--resume", full, "--steps", 9)
    assert code == 1
    assert err.strip().splitlines()[-1].startswith("jdiff: error: cannot write the checkpoint of step 4")
    assert "last good checkpoint is that of step 2" in err
    assert [p.name for p in (full / "checkpoints").iterdir()] == ["step-00000002"]
    assert jdiff("train", "--resume", full)[0] == 0
    assert result(full) == result(run)


def test_two_processes_cannot_train_one_run(jdiff, whole):
    from jdiff_style.runs import locked

    with locked(whole[1]):
        code, _, err = jdiff("train", "--resume", whole[1])
    assert code == 1 and "another process" in err


@pytest.mark.parametrize(
    "change, words",
    [
        (["--learning-rate", "1e-4"], ["learning_rate cannot change from 0.001 to 0.0001", "Start a new run"]),
        (["--steps", 3], ["steps: 3 is below the 9"]),
    ],
)
def test_what_may_not_change_on_resume(jdiff, whole, tmp_path, change, words):
    copy = shutil.copytree(whole[1], tmp_path / "copy")
    code, _, err = jdiff("train", "--resume", copy, *change)
    assert code == 1
    for word in words:
        assert word in err


def test_a_changed_pack_or_a_folder_that_is_no_run(jdiff, whole, tmp_path, picture):
    copy = shutil.copytree(whole[1], tmp_path / "copy")
    pack = shutil.copytree(whole[1].parents[1] / "pack", tmp_path / "pack")
    text = (copy / "recipe.yaml").read_text().replace(str(whole[1].parents[1] / "pack"), str(pack))
    (copy / "recipe.yaml").write_text(text)
    picture(pack / "00" / "images" / "a.png", seed=77)
    code, _, err = jdiff("train", "--resume", copy)
    assert code == 1 and "has changed since the run began" in err
    code, _, err = jdiff("train", "--resume", tmp_path)
    assert code == 1 and "--resume must point to a run folder with recipe.yaml" in err


@pytest.mark.parametrize(
    "options",
    [
        ["--dora"],
        ["--no-train-text-encoder"],
        ["--lora-targets", "attention+convolutions"],
        ["--min-snr-gamma", 5, "--warmup-steps", 2],
        ["--gradient-checkpointing"],
        ["--decoder-rank-per-style", 2, "--mixed-precision", "bf16", "--gradient-checkpointing"],
        ["--mixed-precision", "bf16"],
        ["--crop", "random", "--resize-factor", 1.2],
        ["--caption-template", "an image of {object} in {trigger}", "--max-grad-norm", 0],
    ],
    ids=lambda options: options[0],
)
def test_options_train(jdiff, words, tmp_path, options):
    code, _out, err = jdiff(*words[:-2], "--steps", 2, *options)
    assert code == 0, err
    (run,) = (tmp_path / "out").glob("0*")
    assert (run / LORA).is_file()


def losses_of(jdiff, words, out, *options):
    code, _, err = jdiff(*words, "--out", out, "--lora-dropout", 0, *options)
    assert code == 0, err
    (run,) = out.glob("0*")
    return [json.loads(row)["loss"] for row in (run / "log.jsonl").read_text().splitlines()]


def test_saving_memory_or_time_does_not_change_the_losses(jdiff, words, tmp_path):
    plain = losses_of(jdiff, words, tmp_path / "plain")
    assert losses_of(jdiff, words, tmp_path / "c", "--gradient-checkpointing") == pytest.approx(plain, rel=1e-5)
    assert losses_of(jdiff, words, tmp_path / "l", "--cache-latents") == pytest.approx(plain, rel=1e-5)


def test_a_decoder_that_learns_leaves_the_other_losses_alone(jdiff, words, tmp_path):
    plain = losses_of(jdiff, words, tmp_path / "plain")
    options = ("--decoder-rank-per-style", 8, "--learning-rate", "1e-3")
    assert losses_of(jdiff, words, tmp_path / "d", *options) == pytest.approx(plain, rel=1e-5)
    (run,) = (tmp_path / "d").glob("0*")
    found = [json.loads(row)["decoder_loss"] for row in (run / "log.jsonl").read_text().splitlines()]
    assert sum(found[-3:]) < sum(found[:3])


def test_the_decoder_learns_at_a_rate_of_its_own(jdiff, words, tmp_path):
    options = ("--decoder-rank-per-style", 8, "--learning-rate", "1e-3", "--decoder-rate")
    found = {}
    for rate in (1e-6, 1):
        losses = losses_of(jdiff, words, tmp_path / str(rate), *options, rate)
        (run,) = (tmp_path / str(rate)).glob("0*")
        found[rate] = losses, [json.loads(row)["decoder_loss"] for row in (run / "log.jsonl").read_text().splitlines()]
    assert found[1][0] == pytest.approx(found[1e-6][0], rel=1e-5)
    (still, learning) = (found[rate][1] for rate in (1e-6, 1))
    assert learning[0] == pytest.approx(still[0], rel=1e-5) and sum(learning[-3:]) < 0.99 * sum(still[-3:])


def test_golden_losses(jdiff, sample, tiny_base, tmp_path):
    """Recorded with PyTorch 2.13 on the CPU; any backend must follow them."""
    words = ["train", "--pack", sample, "--base", tiny_base, "--rank-per-style", 2, "--resolution", 32, "--steps", 6]
    losses = losses_of(jdiff, [*words, "--learning-rate", "1e-2", "--grid-styles", 0], tmp_path)
    assert losses == pytest.approx(GOLDEN, rel=1e-4)


def test_it_learns(jdiff, tiny_base, tmp_path, sample):
    """Against a run that hardly learns, on the same picture, noise and timesteps, the last losses are clearly lower."""
    shutil.copytree(sample / "01" / "images", tmp_path / "paper", ignore=lambda *_: ["boat.png", "full_moon.png"])
    words = ["train", "--pack", tmp_path / "paper", "--base", tiny_base, *FAST, "--batch-size", 4, "--steps", 16]
    words += ["--rank-per-style", 16, "--lora-plus-gamma", 0, "--no-flip"]
    learning = losses_of(jdiff, words, tmp_path / "a", "--learning-rate", "1e-2")
    still = losses_of(jdiff, words, tmp_path / "b", "--learning-rate", "1e-12")
    assert learning[0] == still[0]
    assert sum(learning[-6:]) < 0.95 * sum(still[-6:])


def test_start_from_another_lora(jdiff, words, whole, tmp_path):
    words = [*words[:-2], "--decoder-rank-per-style", 1, "--init-lora", whole[1] / LORA, "--steps", 1]
    code, _, err = jdiff(*words)
    assert code == 0, err
    shutil.copy(whole[1] / LORA, tmp_path)  # without the decoder's, which then begins anew
    code, _, err = jdiff(*words, "--out", tmp_path / "other", "--init-lora", tmp_path / LORA)
    assert code == 0, err
    code, _, err = jdiff(*words, "--rank-per-style", 3)
    assert code == 1 and "in the file" in err and "in the model" in err
    assert len(list((tmp_path / "out").glob("0*"))) == 1


def test_a_loss_that_explodes_stops_the_run(jdiff, words, tmp_path):
    code, _, err = jdiff(*words, "--learning-rate", 1, "--max-grad-norm", 0, "--lora-plus-gamma", 1e4, "--steps", 30)
    assert code == 1 and "the loss became" in err and "lower learning_rate" in err


@pytest.mark.parametrize(
    "prepare, message",
    [
        (lambda pack, base: (pack / "00" / "tag.json").write_text("{"), "tag.json, line 1"),
        (lambda pack, base: shutil.rmtree(pack), "is not a folder"),
        (lambda pack, base: shutil.rmtree(base / "vae"), "lacks vae"),
        (lambda pack, base: (base / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"x"), "cannot load"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_run(jdiff, words, pack_folder, tiny_base, tmp_path, prepare, message):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    prepare(pack_folder, base)
    code, out, err = jdiff(*words, "--base", base)
    assert (code, out) == (1, "") and message in err
    assert err.strip().splitlines()[-1].startswith("jdiff: error: ") and "Traceback" not in err
    assert not list((tmp_path / "out").glob("*-*"))


def test_strict_refuses_and_without_it_the_count_is_told(jdiff, words, pack_folder):
    (pack_folder / "00" / "images" / "boat.png").write_bytes(b"x")
    code, _, err = jdiff(*words, "--strict")
    assert code == 1 and "boat.png: not a picture" in err
    code, _, err = jdiff(*words[:-2], "--steps", 1)
    assert code == 0 and "boat.png" in err and "1 picture file skipped" in err


@pytest.mark.parametrize("side, far", [(32, False), (136, True)])
def test_a_recipe_made_for_another_base_is_noticed(jdiff, words, side, far):
    """The tiny base draws 64 px."""
    code, _, err = jdiff(*words, "--steps", 1, "--resolution", side)
    assert code == 0 and (f"{side} px is far from the 64 px" in err) == far
