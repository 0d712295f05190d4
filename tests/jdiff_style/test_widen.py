"""A model with more latent channels computes in its first ones what it computed before."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from jdiff_style.errors import UserError
from jdiff_style.widen import take_over


def autoencoder(latents, channels=(8, 16)):
    return AutoencoderKL(
        block_out_channels=channels, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latents, norm_num_groups=4,
    ).eval()  # fmt: skip


def unet(latents):
    return UNet2DConditionModel(
        sample_size=4, in_channels=latents, out_channels=latents, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8, attention_head_dim=2, norm_num_groups=4,
    ).eval()  # fmt: skip


def noise(*shape):
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("latents", [4, 7])
def test_an_autoencoder_keeps_its_latents_and_what_it_makes_of_them(latents):
    old, new = autoencoder(4), autoencoder(latents)
    take_over(new, old.state_dict(), "base")
    pictures, grid = noise(2, 3, 8, 8), noise(2, latents, 4, 4)
    with torch.no_grad():
        ours, theirs = new.encode(pictures).latent_dist, old.encode(pictures).latent_dist
        assert ours.mean.shape == (2, latents, 4, 4)
        np.testing.assert_allclose(ours.mean[:, :4].numpy(), theirs.mean.numpy(), atol=1e-5)
        np.testing.assert_allclose(ours.logvar[:, :4].numpy(), theirs.logvar.numpy(), atol=1e-5)
        if latents > 4:  # those that are new see the picture, too
            assert ours.mean[:, 4:].numpy().std() > 1e-3
        np.testing.assert_allclose(new.decode(grid).sample.numpy(), old.decode(grid[:, :4]).sample.numpy(), atol=1e-5)


def test_a_unet_keeps_what_it_predicts():
    old, new = unet(4), unet(6)
    take_over(new, old.state_dict(), "base")
    noisy, text, steps = noise(2, 6, 4, 4), noise(2, 3, 8), torch.tensor([10, 500])
    with torch.no_grad():
        ours, theirs = new(noisy, steps, text).sample, old(noisy[:, :4], steps, text).sample
    np.testing.assert_allclose(ours[:, :4].numpy(), theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize("theirs", [autoencoder(5), autoencoder(4, (8, 12)), unet(4)])
def test_other_models_are_refused(theirs):
    with pytest.raises(UserError, match="base: it has other layers"):
        take_over(autoencoder(4), theirs.state_dict(), "base: it")


def rows(run):
    return [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]


def test_an_autoencoder_and_a_base_go_on_with_more_latents(jdiff, trained, tmp_path):
    """By commands alone: the latents stay near those before, the scaling factor too, and the base begins with what it
    knew.
    """
    folder = trained["vae"].parents[1]
    words = ["--recipe", folder / "vae.yaml", "--base", trained["vae"], "--latent-channels", 6]
    code, _, err = jdiff("train", *words, "--keep-latents", 1.0, "--out", tmp_path / "vae")
    assert code == 0, err
    (vae,) = (tmp_path / "vae").glob("0*")
    config = json.loads((vae / "result" / "config.json").read_text())
    before = json.loads((trained["vae"] / "result" / "config.json").read_text())
    assert config["latent_channels"] == 6 and config["scaling_factor"] == before["scaling_factor"]
    assert "kept" in rows(vae)[0]
    assert "## Training before that" in (vae / "result" / "README.md").read_text()
    words = ["--recipe", folder / "base.yaml", "--vae", vae, "--clip", trained["clip"], "--steps", 6]
    longer = shutil.copytree(trained["base"], tmp_path / "longer")
    assert jdiff("train", "--resume", longer, "--steps", 150)[0] == 0
    assert jdiff("train", *words, "--out", tmp_path / "scratch")[0] == 0
    assert jdiff("train", *words, "--base", longer, "--out", tmp_path / "base")[0] == 0
    (scratch,), (base,) = (tmp_path / "scratch").glob("0*"), (tmp_path / "base").glob("0*")
    assert rows(base)[-1]["train_loss"] < 0.95 * rows(scratch)[-1]["train_loss"]


def test_latents_to_keep_need_a_base(jdiff, trained):
    code, _, err = jdiff("train", "--recipe", trained["vae"].parents[1] / "vae.yaml", "--keep-latents", 1, "--dry-run")
    assert code == 1 and "keep_latents: without base" in err, err
