"""Resuming and exporting runs that train from scratch: what must be refused, and what a folder may say."""

import json
import shutil
from importlib import metadata

import numpy as np
import pytest

from jdiff_style import runs

STAGES = ("vae", "clip", "base", "decoder")


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the finished vae run."""
    return shutil.copytree(trained["vae"], tmp_path / "copy")


def card(folder):
    return json.loads((folder / "training.json").read_text())


def test_the_result_of_fewer_steps_is_never_that_of_the_longer_run(jdiff, trained, copy, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jdiff_style.pretrain.Pretrainer.write_result", killed)
        assert jdiff("train", "--resume", copy, "--steps", 8)[0] == 130
    recipe = trained["vae"].parents[1] / "base.yaml"
    code, _, err = jdiff("train", "--recipe", recipe, "--vae", copy, "--clip", trained["clip"], "--out", copy / "base")
    assert code == 1 and "is not finished" in err
    # An old result beside the checkpoint of the last step is written anew.
    (copy / "result-before").rename(copy / "result")
    code, _, err = jdiff("train", "--resume", copy)
    assert code == 0 and "is finished" not in err and card(copy / "result")["steps"] == 8
    assert "is finished" in jdiff("train", "--resume", copy)[2]


def test_a_refused_command_leaves_the_run_as_it_was(jdiff, copy, tmp_path):
    before = (copy / "recipe.yaml").read_bytes()
    code, _, err = jdiff("train", "--resume", copy, "--steps", 4)
    assert code == 1 and "steps: 4 is below the 6" in err
    assert (copy / "recipe.yaml").read_bytes() == before and (copy / "result").is_dir()
    with runs.locked(copy):
        for line in (("train", "--resume", copy, "--steps", 9), ("export", copy, tmp_path / "new")):
            code, _, err = jdiff(*line)
            assert code == 1 and "another process" in err
    assert (copy / "recipe.yaml").read_bytes() == before and not (tmp_path / "new").exists()


def test_a_refused_lora_resume_leaves_the_run_as_it_was(jdiff, tiny_base, pack_folder, tmp_path):
    words = ("--resolution", 16, "--rank-per-style", 1, "--grid-styles", 0, "--steps", 2)
    assert jdiff("train", "--pack", pack_folder, "--base", tiny_base, "--out", tmp_path / "out", *words)[0] == 0
    (run,) = (tmp_path / "out").glob("0*")
    before = (run / "recipe.yaml").read_bytes()
    assert jdiff("train", "--resume", run, "--steps", 1)[0] == 1
    with runs.locked(run):
        assert jdiff("train", "--resume", run, "--steps", 3)[0] == 1
    assert (run / "recipe.yaml").read_bytes() == before


def test_export_refuses_other_inputs(jdiff, trained, copy, pretrain_data, tmp_path):
    other = pretrain_data(tmp_path / "other", objects=11)
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(trained["vae"].parents[1] / "data"), str(other)))
    code, _, err = jdiff("export", copy, tmp_path / "new")
    assert code == 1 and "export: data" in err and "has changed" in err and not (tmp_path / "new").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_export_of_a_killed_run_names_the_last_measurement(jdiff, trained, tmp_path, stage):
    copy = shutil.copytree(trained[stage], tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints" / "step-00000006")
    (copy / "log.jsonl").write_text((copy / "log.jsonl").read_text()[:-7])
    assert jdiff("export", copy, tmp_path / "new")[0] == 0
    found = card(tmp_path / "new")
    assert found["steps"] == 4 and found["last_measurement"]["step"] == 3


@pytest.mark.parametrize("stage", STAGES)
def test_a_result_names_no_folder_of_the_machine_it_was_made_on(trained, stage):
    files = [f for f in (trained[stage] / "result").rglob("*") if f.suffix in (".json", ".txt")]
    assert len(files) >= 2
    for file in files:
        assert str(trained[stage].parents[1]) not in file.read_text(), file


def test_the_averaged_weights_are_exported_and_never_trained_on(jdiff, trained, tmp_path):
    from safetensors.numpy import load_file

    newest = trained["vae"] / "checkpoints" / "step-00000006"
    exported = load_file(str(trained["vae"] / "result" / "diffusion_pytorch_model.safetensors"))
    averaged, raw = (load_file(str(newest / name)) for name in ("average.safetensors", "weights.safetensors"))

    def halves(arrays):
        return sorted(array.astype(np.float16).tobytes() for array in arrays.values())

    assert halves(exported) == halves(averaged) != halves(raw)
    recipe = trained["vae"].parents[1] / "vae.yaml"
    assert jdiff("train", "--recipe", recipe, "--out", tmp_path, "--validate-every", 0)[0] == 0
    (run,) = tmp_path.glob("0*")
    one, two = ([json.loads(x)["loss"] for x in (r / "log.jsonl").read_text().splitlines()] for r in (run, trained["vae"]))
    assert one == two  # measuring in between changed nothing


def test_scaled_latents_have_unit_variance(trained):
    import torch
    from diffusers import AutoencoderKL

    from jdiff_style.pretrain_data import PretrainData

    data = PretrainData(trained["vae"].parents[1] / "data", 0)
    vae = AutoencoderKL.from_pretrained(str(trained["vae"] / "result")).to(torch.float32)
    with torch.no_grad():
        latents = vae.encode(torch.from_numpy(data.pixels(data.train))).latent_dist.mean * vae.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1.0, abs=0.02)
    cached = np.load(trained["base"] / "latents.npy")[data.train]
    assert cached == pytest.approx(latents.cpu().numpy(), abs=0.02)


def test_damaged_latents_are_computed_again(jdiff, trained, tmp_path):
    copy = shutil.copytree(trained["base"], tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints" / "step-00000006")
    np.save(copy / "latents.npy", np.zeros_like(np.load(copy / "latents.npy")))
    code, _, err = jdiff("train", "--resume", copy)
    assert code == 0 and "latents.npy is damaged" in err
    one, two = ([json.loads(x)["loss"] for x in (r / "log.jsonl").read_text().splitlines()] for r in (copy, trained["base"]))
    assert one == two


@pytest.mark.skipif("+jittor" not in metadata.version("torch"), reason="PyTorch can compile")
def test_compiling_is_refused_where_torch_cannot(jdiff, trained, tmp_path):
    recipe = trained["vae"].parents[1] / "base.yaml"
    models = ("--vae", trained["vae"], "--clip", trained["clip"], "--out", tmp_path)
    code, _, err = jdiff("train", "--recipe", recipe, "--compile", *models)
    assert code == 1 and "compile:" in err and "--no-compile" in err


def test_the_noise_schedule_ends_in_pure_noise_and_begins_with_none(trained):
    import torch
    from diffusers import DDIMScheduler, DDPMScheduler

    folder = str(trained["base"] / "result" / "scheduler")
    for kind in (DDIMScheduler, DDPMScheduler):
        scheduler = kind.from_pretrained(folder)
        picture, noise = torch.ones((1, 4, 2, 2)), torch.full((1, 4, 2, 2), 0.5)
        noisy = scheduler.add_noise(picture, noise, torch.tensor([999]))
        assert noisy.cpu().numpy() == pytest.approx(noise.cpu().numpy(), abs=1e-6)
    assert float(DDIMScheduler.from_pretrained(folder).final_alpha_cumprod) == 1.0


def test_timesteps_of_a_step_are_spread_over_all_noise_levels():
    import torch

    from jdiff_style.pretrain_base import spread_timesteps

    drawn = [spread_timesteps(8, torch.Generator().manual_seed(seed)).cpu().numpy() for seed in range(200)]
    assert all(sorted(steps // 125) == list(range(8)) for steps in drawn)
    assert len({tuple(steps) for steps in drawn}) == 200
    assert len({int(np.argmin(steps)) for steps in drawn}) == 8  # in random order


def test_a_power_below_one_gives_more_of_them_much_noise():
    import torch

    from jdiff_style.pretrain_base import spread_timesteps

    drawn = torch.cat([spread_timesteps(8, torch.Generator().manual_seed(seed), 0.5) for seed in range(200)])
    steps = drawn.cpu().numpy()
    assert 0 <= steps.min() < 100 and 990 < steps.max() <= 999
    assert [round(float((steps < 1000 * share**0.5).mean()), 2) for share in (0.25, 0.5, 0.75)] == [0.25, 0.5, 0.75]


def test_the_pooled_caption_reaches_a_unet_whose_attention_hears_nothing(trained):
    import torch
    from diffusers import StableDiffusionPipeline

    unet = StableDiffusionPipeline.from_pretrained(str(trained["base"] / "result"), local_files_only=True).unet
    for name, parameter in unet.named_parameters():
        if "attn2.to_out" in name:
            parameter.data.zero_()
    latents, steps = torch.zeros(2, 4, unet.config.sample_size, unet.config.sample_size), torch.tensor([999, 999])
    captions = torch.randn(2, 5, unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = unet(latents, steps, captions).sample.cpu().numpy()
    assert np.abs(one - other).max() > 1e-4


def test_equal_likenesses_are_no_hits(trained):
    import torch

    from jdiff_style.errors import UserError
    from jdiff_style.pretrain import make_stage
    from jdiff_style.recipe import make_recipe, read_recipe

    stage = make_stage(make_recipe(read_recipe(trained["clip"] / "recipe.yaml")))
    for value, wrong in ((0.0, False), (float("nan"), True)):
        with torch.no_grad():
            for parameter in stage.clip.parameters():
                parameter.fill_(value)
            if wrong:
                with pytest.raises(UserError, match="not finite"):
                    stage.validate()
            else:
                found = stage.validate()
                assert found["top1"] == found["top1_train"] == found["style"] == 0.0


def test_the_clip_is_measured_on_styles_that_it_never_saw(jdiff, trained, pretrain_data, tmp_path):
    other = pretrain_data(tmp_path / "other")
    (other / "images.npy").rename(other / "styles.npy")
    (other / "metadata.jsonl").rename(other / "styles.jsonl")
    (other / "images.features.npy").rename(other / "styles.features.npy")
    recipe = trained["clip"].parents[1] / "clip.yaml"
    assert jdiff("train", "--recipe", recipe, "--out", tmp_path, "--measure", other)[0] == 0
    (run,) = tmp_path.glob("0*")
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert 0.0 <= last["top1_other"] <= last["top5_other"] <= 1.0 and np.isfinite(last["loss"])


def test_a_clip_learns_what_its_features_tell_apart(jdiff, trained, pretrain_data, tmp_path):
    """Longer than the others: most training pictures find their word, and none would by chance (16 of 8 objects)."""
    recipe = trained["clip"].parents[1] / "clip.yaml"
    words = ("--steps", 150, "--batch-size", 8, "--learning-rate", 3e-3, "--checkpoint-every", 0, "--validate-images", 16)
    assert jdiff("train", "--recipe", recipe, "--out", tmp_path, *words, "--validate-every", 0)[0] == 0
    (run,) = tmp_path.glob("0*")
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["top1_train"] >= 0.75


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d: (d / "features.json").unlink(), "features.json is missing; python scripts/make_emoji_features.py"),
        (lambda d: (d / "features.json").write_text("{"), "features.json cannot be read"),
        (lambda d: (d / "images.features.npy").unlink(), "images.features.npy is missing"),
        (lambda d: (d / "images.features.npy").write_bytes(b"no"), "is not a NumPy array"),
        (
            lambda d: np.save(d / "images.features.npy", np.zeros((3, 1, 48), np.float16)),
            "expected float16 (20, versions, 48)",
        ),
        (lambda d: np.save(d / "images.npy", 255 - np.load(d / "images.npy")), "is of other pictures"),
    ],
)
def test_features_that_do_not_fit_are_refused(jdiff, trained, pretrain_data, tmp_path, damage, message):
    data = pretrain_data(tmp_path / "data")
    damage(data)
    code, _, err = jdiff("train", "--recipe", trained["clip"].parents[1] / "clip.yaml", "--data", data, "--out", tmp_path)
    assert code == 1 and message in err and not list(tmp_path.glob("0*"))


def test_a_damaged_projection_is_named(trained, copy):
    from jdiff_style.errors import UserError
    from jdiff_style.image_projection import load_projection
    from jdiff_style.picture_features import PROJECTION_FILE

    folder = trained["clip"] / "result"
    kept = (folder / PROJECTION_FILE).read_bytes()
    (copy / "image_projection.json").write_bytes((folder / "image_projection.json").read_bytes())
    (copy / PROJECTION_FILE).write_bytes(kept[: len(kept) // 2])
    with pytest.raises(UserError, match="image projection cannot be read"):
        load_projection(copy)
