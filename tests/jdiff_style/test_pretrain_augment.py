"""Changes of pictures for the autoencoder and the image tower."""

import json

import numpy as np

from jdiff_style.pretrain_augment import alter


def disc(side=32):
    ys, xs = np.mgrid[:side, :side] - (side - 1) / 2
    picture = np.full((side, side, 3), 255, np.uint8)
    picture[np.hypot(xs, ys) < side / 3] = (200, 40, 20)
    return picture


def test_a_change_follows_from_its_generator_and_leaves_the_original():
    picture = disc()
    changed = [alter(picture, np.random.default_rng(seed)) for seed in range(200)]
    assert (picture == disc()).all()
    assert all(c.shape == picture.shape and c.dtype == np.uint8 for c in changed)
    assert all((alter(picture, np.random.default_rng(seed)) == changed[seed]).all() for seed in range(0, 200, 20))
    assert np.mean([(c == picture).all() for c in changed]) < 0.1
    assert len({c.tobytes() for c in changed}) > 180


def test_changes_reach_dark_grounds_greys_thin_lines_and_grain():
    changed = np.stack([alter(disc(), np.random.default_rng(seed)) for seed in range(300)]).astype(int)
    corner = changed[:, 1, 1]
    assert 0.1 < np.mean(corner.max(axis=1) < 100) < 0.6  # dark grounds
    assert 0.2 < np.mean(corner.min(axis=1) > 240) < 0.9  # most often still a light one
    assert np.mean(np.ptp(changed, axis=3).max(axis=(1, 2)) < 8) > 0.1  # no colour
    middle = np.ptp(changed[:, 14:18, 14:18], axis=(1, 2)).max(axis=1)
    assert 0.15 < np.mean(middle > 8) < 0.6  # texture where the disc was flat


def test_the_vae_trains_on_changed_pictures_and_only_measures_the_other_styles(jdiff, trained, pretrain_data, tmp_path):
    recipe = trained["vae"].parents[1] / "vae.yaml"
    other = pretrain_data(tmp_path / "other", objects=5)
    (other / "images.npy").rename(other / "styles.npy")
    rows = (other / "metadata.jsonl").read_text().replace('"flat"', '"neon"')
    (other / "styles.jsonl").write_text(rows)
    assert jdiff("train", "--recipe", recipe, "--out", tmp_path / "one", "--measure", other)[0] == 0
    assert jdiff("train", "--recipe", recipe, "--out", tmp_path / "two", "--alter", 1)[0] == 0
    plain, measured, altered = (
        [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
        for run in (trained["vae"], *(tmp_path / "one").glob("0*"), *(tmp_path / "two").glob("0*"))
    )
    assert [row["loss"] for row in measured] == [row["loss"] for row in plain]
    assert {"psnr_neon", "psnr_ring"} <= set(measured[-1]) and "psnr_neon" not in plain[-1]
    assert all(one["loss"] != two["loss"] for one, two in zip(plain, altered))
    code, _, err = jdiff("train", "--recipe", recipe, "--out", tmp_path, "--measure", tmp_path)
    assert code == 1 and "measure: " in err and "styles.npy is missing" in err
