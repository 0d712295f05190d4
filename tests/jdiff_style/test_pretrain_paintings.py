"""Paintings: what a caption says of them, and what the stages do with them."""

import json

import numpy as np
import pytest

from jdiff_style.colours import COLOURS, main_colours
from jdiff_style.errors import UserError
from jdiff_style.pretrain_data import PretrainData
from jdiff_style.pretrain_paintings import Paintings


@pytest.fixture
def data(tmp_path, pretrain_data):
    """A folder of ten objects, the eight for training with three paintings each."""
    folder = pretrain_data(tmp_path / "data")
    write_paintings(folder)
    return folder


def write_paintings(folder, names="abcdfghi", side=16):
    images, rows = [], []
    for place, name in enumerate(names):
        for number in range(3):
            images.append(np.full((side, side, 3), 20 * place + number, np.uint8))
            rows.append({"object": f"thing {name}", "style": f"painting {number}, rough, blue and red", "split": "train"})
    np.save(folder / "paintings.npy", np.stack(images))
    (folder / "paintings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_painting_is_one_of_the_object_and_its_words_are_its_own(data):
    paintings = Paintings(PretrainData(data, 0))
    seen, counts = set(), []
    for seed in range(300):
        number, words = paintings.choose("thing c", np.random.default_rng(seed))
        assert paintings.images[number, 0, 0, 0] == 40 + number % 3
        assert words and set(words) <= {f"painting {number % 3}", "rough", "blue and red"}
        assert paintings.choose("thing c", np.random.default_rng(seed)) == (number, words)
        seen.add(number)
        counts.append(len(words))
    assert seen == {6, 7, 8} and 2.0 < np.mean(counts) < 2.5  # a quarter is left out


def test_main_colours():
    picture = np.full((10, 10, 3), COLOURS["blue"], np.uint8)
    picture[:3], picture[3:4] = COLOURS["yellow"], COLOURS["red"]
    assert main_colours(picture) == ["blue", "yellow"]


def test_missing_ones_are_named(data, pretrain_data, tmp_path):
    write_paintings(data, names="abcd")
    paintings = Paintings(PretrainData(data, 0))
    with pytest.raises(UserError, match="none of 'thing f'"):
        paintings.check(PretrainData(data, 0))
    write_paintings(data, side=32)
    with pytest.raises(UserError, match="32 px wide"):
        Paintings(PretrainData(data, 0))
    with pytest.raises(UserError, match=r"make_emoji_data\.py --paintings"):
        Paintings(PretrainData(pretrain_data(tmp_path / "none"), 0))


def test_stages_learn_from_them(jdiff, trained, data, tmp_path):
    """The base trains, and does not go on with other paintings; the autoencoder sees some, too."""
    folder = trained["vae"].parents[1]
    words = ["--data", data, "--out", tmp_path / "out", "--paintings", 0.5]
    base = ["--recipe", folder / "base.yaml", "--vae", trained["vae"], "--clip", trained["clip"], "--words", data / "w.txt"]
    (data / "w.txt").write_text("".join(f"thing {name}\n" for name in "abcdfghi"))
    code, _, err = jdiff("train", *base, *words)
    assert code == 0, err
    (run,) = (tmp_path / "out").glob("0*")
    assert np.load(run / "painted.npy").shape[0] == 24
    code, _, err = jdiff("train", *base, *words, "--appearances", 0.6)
    assert code == 1 and "together more than all" in err, err
    write_paintings(data, names="abcdfghij")
    code, _, err = jdiff("train", "--resume", run, "--steps", 8)
    assert code == 1 and "paintings" in err, err
    code, _, err = jdiff("train", "--recipe", folder / "vae.yaml", *words)
    assert code == 0, err


def test_the_autoencoder_gets_the_share_that_the_recipe_says(data):
    from jdiff_style.pretrain_recipe import VaeRecipe
    from jdiff_style.pretrain_vae import VaeStage

    recipe = VaeRecipe(data=str(data), channels=(8, 16), norm_groups=4, batch_size=16, paintings=0.25)
    stage = VaeStage(recipe)
    flat = []
    encode = stage.vae.encode

    def looked_at(pictures):
        flat.append(np.ptp(pictures.numpy().reshape(16, -1), axis=1) == 0)
        return encode(pictures)

    stage.vae.encode = looked_at
    for step in range(10):
        stage.loss(step)
    assert 0.1 < np.mean(flat) < 0.4  # only a painting here is of one colour
