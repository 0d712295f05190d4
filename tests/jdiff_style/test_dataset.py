"""Training samples: a pure function of seed and place."""

import numpy as np
import pytest
from PIL import Image

from jdiff_style.dataset import TrainingData, derive_seed
from jdiff_style.packs import load_pack
from jdiff_style.recipe import make_recipe


def data(folder, **values):
    return TrainingData(load_pack(folder), make_recipe({"resolution": 16, **values}))


def test_the_same_place_gives_the_same_batch_whatever_came_before(pack_folder):
    first, second = data(pack_folder, batch_size=3), data(pack_folder, batch_size=3)
    for step in range(4):
        second.batch(step, 0)
    a, b = first.batch(5, 0), second.batch(5, 0)
    assert a.captions == b.captions and a.keys == b.keys
    assert np.array_equal(a.pixels.numpy(), b.pixels.numpy())
    assert a.pixels.shape == (3, 3, 16, 16)


def test_each_epoch_takes_every_picture_once_in_a_new_order(pack_folder):
    samples = data(pack_folder)
    epochs = [[samples.index(4 * epoch + place) for place in range(4)] for epoch in range(8)]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 2


def test_repeats_count(tmp_path, picture):
    picture(tmp_path / "3_ink" / "a.png")
    picture(tmp_path / "chalk" / "b.png")
    samples = data(tmp_path)
    assert sorted(samples.index(i) for i in range(4)) == [0, 0, 0, 1]


def test_accumulation_and_batches_walk_the_same_list(pack_folder):
    single = data(pack_folder)
    packed = data(pack_folder, batch_size=2, grad_accumulation=2)
    expected = [single.batch(i, 0).keys[0] for i in range(8)]
    assert [key for step in (0, 1) for micro in (0, 1) for key in packed.batch(step, micro).keys] == expected


def test_flips_are_mirrored_and_marked(pack_folder):
    samples = data(pack_folder)
    seen = set()
    for step in range(40):
        batch = samples.batch(step, 0)
        (index, flipped), pixels = batch.keys[0], batch.pixels[0].numpy()
        plain = samples.pixels(index, False)
        assert np.array_equal(pixels, plain[:, :, ::-1] if flipped else plain)
        assert batch.captions[0].endswith("horizontal_flip") == flipped
        seen.add(flipped)
    assert seen == {True, False}
    assert not any(data(pack_folder, flip=False).batch(step, 0).keys[0][1] for step in range(40))


def test_values_are_scaled_and_the_middle_is_cut(tmp_path):
    (tmp_path / "ink").mkdir()
    stripes = Image.new("RGB", (48, 16), (0, 0, 0))
    stripes.paste((255, 128, 0), (16, 0, 32, 16))
    stripes.save(tmp_path / "ink" / "a.png")
    pixels = data(tmp_path).pixels(0, False)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), [1.0, 128 / 127.5 - 1, -1.0], atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_random_crops_move_only_where_there_is_room(tmp_path, picture, factor):
    picture(tmp_path / "ink" / "a.png", size=(32, 32))
    samples = data(tmp_path, crop="random", resize_factor=factor, flip=False)
    different = {samples.batch(step, 0).pixels.numpy().tobytes() for step in range(10)}
    assert (len(different) > 1) == (factor > 1)


def test_streams_of_random_numbers_are_apart():
    seeds = {derive_seed(seed, stream, step) for seed in range(5) for stream in range(4) for step in range(50)}
    assert len(seeds) == 1000
    assert derive_seed(0, 2, 7) == 184805226


def test_a_share_of_the_captions_names_the_style_alone(pack_folder):
    """The pictures, their order and the other captions stay as they are without it."""
    plain = data(pack_folder, batch_size=8)
    mixed = data(pack_folder, batch_size=8, style_captions=0.25, style_template="in {trigger}")
    alone = 0
    for step in range(50):
        one, two = plain.batch(step, 0), mixed.batch(step, 0)
        assert one.keys == two.keys and np.array_equal(one.pixels.numpy(), two.pixels.numpy())
        for before, after in zip(one.captions, two.captions):
            trigger, end = before.split(",")[0], ", horizontal_flip" * before.endswith("horizontal_flip")
            alone += after != before
            assert after in (before, f"in {trigger}{end}")
    assert 60 < alone < 140
    always = data(pack_folder, style_captions=1.0, flip=False).batch(0, 0)
    assert always.captions[0] in ("style_00, style tag 0", "style_01, style tag 1")
