"""Appearances: the picture is what its words say, and the base stage learns from both."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from jdiff_style.pretrain_appearance import (
    COLOURS,
    LINES,
    SURFACES,
    TONES,
    Appearance,
    change,
    draw_appearance,
    make_caption,
)
from jdiff_style.pretrain_base import BaseStage
from jdiff_style.pretrain_data import plain_caption
from jdiff_style.pretrain_recipe import BaseRecipe

PLAIN = Appearance("", "", ("black", "white"), False, "", "", 0)


def disc(side=64):
    """An orange disc with a black eye on white."""
    ys, xs = np.mgrid[:side, :side] - (side - 1) / 2
    picture = np.full((side, side, 3), 255, np.uint8)
    picture[np.hypot(xs, ys) < side / 3] = (240, 120, 20)
    picture[np.hypot(xs, ys) < side / 10] = (10, 10, 10)
    return picture


def changed(**parts):
    return change(disc(), dataclasses.replace(PLAIN, **parts)).astype(int)


def test_nothing_changes_nothing():
    assert (changed() == disc()).all()


def test_tones():
    assert np.ptp(changed(tone="gray"), axis=2).max() <= 1
    assert (changed(inverted=True) == 255 - disc().astype(int)).all()
    assert changed(tone="pale").min() > 100
    two = changed(tone="two colors", colours=("blue", "yellow")) / 255
    dark, light = (np.array(COLOURS[name]) / 255 for name in ("blue", "yellow"))
    share = ((two - dark) @ (light - dark)) / ((light - dark) @ (light - dark))
    assert np.abs(two - (dark + share[..., None] * (light - dark))).max() < 0.01
    assert share[0, 0] > 0.99 and share[32, 32] < 0.1


def test_the_ground_is_changed_behind_the_object():
    picture = changed(ground="green")
    assert np.abs(picture[0, 0] - COLOURS["green"]).max() < 40
    assert (picture[32, 14:20] == disc()[32, 14:20]).all()


def test_lines():
    thin, bold = changed(lines="lineart"), changed(lines="bold outline")
    assert np.ptp(thin, axis=2).max() == 0 and np.mean(thin > 200) > 0.7 and thin.min() < 60
    assert (bold[32, 18] == disc()[32, 18]).all() and bold[32, 10:13].max(axis=1).min() < 60
    assert (bold[0] == 255).all()
    lines = changed(lines="colored lines")
    rim = lines[32, 10:13]
    assert (lines[32, 14:20] == 255).all() and np.abs(rim - (240, 120, 20)).max(axis=1).min() < 25  # in the disc's colour


def test_surfaces():
    inside = np.s_[24:40, 12:24]
    flat = np.ptp(disc()[inside].astype(int), axis=(0, 1)).max()
    assert flat == 0
    assert all(np.ptp(changed(surface=kind)[inside], axis=(0, 1)).max() > 8 for kind in ("grain", "hatched"))
    assert set(np.unique(changed(surface="few colors"))) <= {0, 127, 128, 255}
    assert len(np.unique(changed(surface="soft").reshape(-1, 3), axis=0)) > 20


def test_blocks_are_of_one_colour_each():
    picture = changed(surface="blocks")
    assert any((np.repeat(np.repeat(picture[::side, ::side], side, 0), side, 1) == picture).all() for side in (2, 4))
    assert not (picture == disc()).all()


def test_soft_light_comes_from_above_on_the_left():
    lit, plain = changed(surface="soft light"), disc().astype(int)
    assert (lit[2, 2] == 255).all()
    assert lit[20:24, 20:24].mean() > plain[20:24, 20:24].mean() + 10
    assert lit[42:46, 42:46].mean() < plain[42:46, 42:46].mean() - 10


def test_what_glows_lights_the_dark_around_it():
    glow = changed(surface="glow")
    assert glow[0, 0].max() < 60 and glow[32, 8].sum() > glow[0, 0].sum() + 30  # the rim's surroundings
    assert glow[32, 18].sum() > disc()[32, 18].astype(int).sum()
    green = changed(surface="glow", ground="green")
    assert np.abs(green[0, 0] - COLOURS["green"]).argmax() != 1 and green[0, 0].argmax() == 1


def test_styles_of_packs_are_not_come_near_to():
    """Lines that glow would be neon, lines around blocks pixel art; no appearance has them."""
    found = [draw_appearance(np.random.default_rng(seed)) for seed in range(2000)]
    assert {a.surface for a in found if a.lines} == {"", *SURFACES} - {"blocks", "glow"}
    glowing = [a for a in found if a.surface == "glow"]
    assert all(("dark background" in a.words) == (not a.ground) for a in glowing) and glowing


def test_an_appearance_follows_from_its_generator_and_has_a_word_for_each_change():
    found = [draw_appearance(np.random.default_rng(seed)) for seed in range(400)]
    assert found == [draw_appearance(np.random.default_rng(seed)) for seed in range(400)]
    shares = np.bincount([len(appearance.words) for appearance in found], minlength=4) / len(found)
    assert len(shares) == 4 and np.abs(shares - (0, 0.6, 0.3, 0.1)).max() < 0.1
    for part, kinds in (("lines", LINES), ("tone", TONES), ("surface", SURFACES), ("ground", tuple(COLOURS))):
        assert {getattr(appearance, part) for appearance in found} == {"", *kinds}
    named = []
    for seed, appearance in enumerate(found[:50]):
        caption = make_caption(appearance.words, "red_thing", np.random.default_rng(seed))
        assert all(word in caption for word in appearance.words)
        named.append("red_thing" in caption)
        assert (change(disc(), appearance) == change(disc(), appearance)).all()
    assert 30 < sum(named) < 50  # a few name the appearance alone


@pytest.mark.parametrize("style", [None, "flat", "ring"])
def test_what_is_changed_is_the_object_in_one_style(trained, style):
    """Other styles' pictures of it only make more copies; an object that this style lacks is changed as it is."""
    folder = trained["vae"].parents[1]
    recipe = BaseRecipe(
        data=str(folder / "data"), vae=str(trained["vae"]), clip=str(trained["clip"]), channels=(16, 32), attention=(0, 1),
        norm_groups=8, heads=2, appearances=0.5, appearance_copies=2, appearance_style=style,
    )  # fmt: skip
    stage = BaseStage(recipe)
    items = stage.data.items
    for number in stage.data.train:
        assert items[stage.shown[int(number)]] == dataclasses.replace(items[number], style=style or "flat")
    seen = []
    stage._encode = lambda count, picture, title: (seen.extend(map(picture, range(count))), np.zeros((count, 4, 8, 8)))[1]
    stage.encode_changed()
    order = [(copy, int(number)) for copy in range(2) for number in stage.data.train]
    for (copy, number), picture in zip(order, seen, strict=True):
        assert (picture == change(stage.data.images[stage.shown[number]], stage.appearance(copy, number))).all()
    alone = next(n for n in stage.data.train if items[n].style == "ring")
    lacks = [n for n in stage.data.train if items[n].object != items[alone].object or n == alone]
    stage.data.train = np.array(lacks)
    assert stage.data.counterparts("flat")[int(alone)] == alone


def test_drafts_are_the_object_in_the_one_style(trained):
    """A share of the pictures meets the noise that makes a noisy draft of them; an empty caption never does."""
    folder = trained["vae"].parents[1]
    recipe = BaseRecipe(
        data=str(folder / "data"), vae=str(trained["vae"]), clip=str(trained["clip"]), channels=(16, 32), attention=(0, 1),
        norm_groups=8, heads=2, batch_size=64, drafts=0.6, drop_caption=0.3, appearance_style="ring", timestep_power=0.1,
    )  # fmt: skip
    stage = BaseStage(recipe)
    stage.latents = np.random.default_rng(0).normal(size=(len(stage.data.images), 4, 8, 8)).astype(np.float32)
    seen = []
    stage._error = lambda _, clean, captions, noise, steps: seen.append((clean, captions, noise.numpy(), steps.numpy()))
    stage.loss(0)
    ((clean, captions, noise, timesteps),) = seen
    plain = torch.randn(noise.shape, generator=stage.generator(0)).numpy()
    numbers, _ = stage.data.numbers(0, 64)
    alphas = stage.scheduler.alphas_cumprod.numpy()[timesteps]
    moved = 0
    for row, number in enumerate(map(int, numbers)):
        toward = np.sqrt(alphas[row] / (1 - alphas[row])) * (stage.latents[stage.shown[number]] - clean[row])
        share = float(((noise - plain)[row] * toward).sum() / max(1e-12, (toward * toward).sum()))
        np.testing.assert_allclose(noise[row] - plain[row], share * toward, atol=1e-4)
        assert 0 <= share <= 1.001 and (share < 1e-6 or captions[row])
        moved += share > 1e-6
    others = sum(bool(caption) and stage.shown[int(n)] != n for caption, n in zip(captions, numbers))
    assert 0.3 * others < moved < 0.9 * others


def test_a_style_without_pictures_is_refused(jdiff, trained):
    folder = trained["vae"].parents[1]
    words = ["--recipe", folder / "base.yaml", "--vae", trained["vae"], "--clip", trained["clip"], "--out", folder / "no"]
    code, _, err = jdiff("train", *words, "--appearance-style", "cubist")
    assert code == 1 and "appearance_style: 'cubist' has no training picture" in err and "flat, ring" in err, err
    assert not (folder / "no").exists()


def rows(run):
    return [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]


def test_changed_copies_are_made_once_and_a_damaged_file_is_made_again(jdiff, trained, tmp_path):
    run = shutil.copytree(trained["base"], tmp_path / "copy")
    good = (run / "changed.npy").read_bytes()
    assert np.load(run / "changed.npy").shape == (2, 8, 4, 8, 8)
    (run / "changed.npy").write_bytes(good[:-1] + bytes([good[-1] ^ 255]))
    code, _, err = jdiff("train", "--resume", run, "--steps", 7)
    assert code == 0 and "changed.npy is damaged" in err, err
    assert (run / "changed.npy").read_bytes() == good


def test_a_base_goes_on_from_another(jdiff, trained, tmp_path):
    """Its first loss is below that of a base from scratch, and its card tells of both."""
    folder = trained["vae"].parents[1]
    words = ["--recipe", folder / "base.yaml", "--vae", trained["vae"], "--clip", trained["clip"], "--steps", 6]
    longer = shutil.copytree(trained["base"], tmp_path / "longer")
    assert jdiff("train", "--resume", longer, "--steps", 150)[0] == 0
    assert jdiff("train", *words, "--base", longer, "--out", tmp_path / "out")[0] == 0
    (run,) = (tmp_path / "out").glob("0*")
    first, again = rows(longer)[-1]["train_loss"], rows(run)[-1]["train_loss"]
    assert again < 0.5 * (first + rows(trained["base"])[-1]["train_loss"])
    text = (run / "result" / "README.md").read_text()
    assert text.count("Stage `base` of `jdiff train`") == 2 and "## Training before that" in text
    assert "by style: flat (4), ring (4)" in text and text.count("appearances 0.4, drafts 0.5") == 2
    assert "Of the pictures, 40% was in a changed appearance, made from the object's drawing in style flat" in text
    code, _, err = jdiff("train", *words, "--base", longer, "--channels", "16,48", "--out", tmp_path / "no")
    assert code == 1 and "base: its unet has other layers" in err, err
    other = [*words, "--base", longer, "--out", tmp_path / "no"]
    code, _, err = jdiff("train", "--recipe", folder / "vae.yaml", "--seed", 5, "--out", tmp_path / "vae")
    assert code == 0, err
    other[other.index("--vae") + 1] = next((tmp_path / "vae").glob("0*"))
    code, _, err = jdiff("train", *other)
    assert code == 1 and "another autoencoder" in err and not (tmp_path / "no").exists(), err


@pytest.mark.parametrize("share, message", [(1.5, "appearances"), (-0.1, "appearances")])
def test_a_share_outside_of_0_to_1_is_refused(jdiff, trained, share, message):
    code, _, err = jdiff("train", "--recipe", trained["vae"].parents[1] / "base.yaml", "--appearances", share, "--dry-run")
    assert code == 1 and message in err, err


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_style_of_drafts_comes_as_often_as_asked(trained, share, monkeypatch):
    folder = trained["vae"].parents[1]
    recipe = BaseRecipe(
        data=str(folder / "data"), vae=str(trained["vae"]), clip=str(trained["clip"]), channels=(16, 32), attention=(0, 1),
        norm_groups=8, heads=2, batch_size=64, plain_captions=1.0, drop_caption=0.0, appearance_style="ring",
        appearance_style_share=share,
    )  # fmt: skip
    stage = BaseStage(recipe)
    stage.latents = np.broadcast_to(np.arange(len(stage.data.images), dtype=np.float32)[:, None, None, None],
                                    (len(stage.data.images), 4, 8, 8))  # fmt: skip
    seen = []
    monkeypatch.setattr(stage, "_error", lambda predict, latents, captions, *rest: seen.append((latents, captions)))
    stage.loss(0)
    latents, captions = seen[0]
    for own, caption in zip(latents[:, 0, 0, 0], captions):
        item = stage.data.items[int(own)]
        assert caption == plain_caption(item.style, item.object)
    numbers, _ = stage.data.numbers(0, 64)
    own = np.mean([stage.data.items[n].style == "ring" for n in numbers])
    drawn = np.mean([stage.data.items[int(n)].style == "ring" for n in latents[:, 0, 0, 0]])
    assert 0 < own < 1 and abs(drawn - (own + share * (1 - own))) < 0.15
    assert [stage.data.items[int(n)].object for n in latents[:, 0, 0, 0]] == [stage.data.items[n].object for n in numbers]
