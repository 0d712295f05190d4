"""Samples, captions and the checks of the data that train from scratch."""

import json
from collections import Counter

import numpy as np
import pytest

from jdiff_style.errors import UserError
from jdiff_style.pretrain_clip import also_right
from jdiff_style.pretrain_data import TEMPLATES, Item, PretrainData, make_caption, names_style, plain_caption
from jdiff_style.tokenizer_build import learn_merges, words_of

APPLE = Item("red apple", "noto", ("fruit", "food", "tree"), True)


@pytest.fixture
def folder(tmp_path):
    """Ten pictures, the last two held out; picture i is all of value 20 i."""
    shades = np.arange(10, dtype=np.uint8)[:, None, None, None]
    np.save(tmp_path / "images.npy", shades * np.full((1, 8, 8, 3), 20, np.uint8))
    rows = [{"object": f"o{i}", "style": "ab"[i % 2], "split": "held_out" if i > 7 else "train"} for i in range(10)]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_an_epoch_takes_every_training_picture_once_and_no_other(folder):
    data = PretrainData(folder, seed=3)
    drawn = np.concatenate([data.numbers(step, 3)[0] for step in range(16)])  # 48 samples: six epochs of eight
    for epoch in range(6):
        assert sorted(drawn[8 * epoch : 8 * epoch + 8]) == list(range(8))
    assert len({tuple(drawn[8 * e : 8 * e + 8]) for e in range(6)}) > 1
    again = PretrainData(folder, seed=3).numbers(5, 3)
    assert list(again[0]) == list(drawn[15:18])
    assert [draw.random() for draw in again[1]] == [draw.random() for draw in data.numbers(5, 3)[1]]
    assert list(PretrainData(folder, seed=4).numbers(0, 8)[0]) != list(drawn[:8])


def test_pixels_run_from_minus_one_to_one(folder):
    pixels = PretrainData(folder, 0).pixels(np.array([0, 9]))
    assert pixels.shape == (2, 3, 8, 8) and pixels.dtype == np.float32 and pixels.flags.c_contiguous
    assert pixels[0].max() == -1.0 and np.allclose(pixels[1], 180 / 127.5 - 1)


def test_validation_pictures_are_spread_and_limited(folder):
    data = PretrainData(folder, 0)
    assert list(data.validation(2, held_out=False)) == [0, 4] and list(data.validation(9, held_out=True)) == [8, 9]
    assert list(PretrainData(folder, 0, limit=4).train) == [0, 2, 4, 6]


def test_captions_follow_the_shares_and_keep_object_and_style():
    rng = np.random.default_rng(0)
    captions = [make_caption(APPLE, rng, 2) for _ in range(4000)]
    assert all("red apple" in caption for caption in captions)
    named = [names_style(caption, APPLE) for caption in captions]
    assert np.mean(named) == pytest.approx(0.75, abs=0.03)
    starts = [caption.index("red apple") for caption in captions]
    assert np.mean(np.array(starts) > 10) > 0.2  # the object is learnt far from the beginning, too
    assert all(("noto" in caption) == name for caption, name in zip(captions, named))
    words = Counter(sum(word in caption for word in APPLE.keywords) for caption in captions)
    assert set(words) == {0, 1, 2} and words[0] == pytest.approx(0.275 * 4000, abs=150)
    assert any(caption.startswith(("fruit", "food", "tree")) for caption in captions)
    assert all("fruit" not in make_caption(APPLE, rng, 0) for _ in range(50))
    assert sum(share for share, _ in TEMPLATES) == pytest.approx(1)


def test_a_share_of_the_captions_is_plain_and_the_others_stay_as_they_were():
    rng = np.random.default_rng(0)
    plain = plain_caption("noto", "red apple")
    assert plain == "a noto emoji of red apple"
    freely = np.mean([make_caption(APPLE, rng, 2) == plain for _ in range(4000)])
    mostly = np.mean([make_caption(APPLE, rng, 2, 0.75) == plain for _ in range(4000)])
    assert mostly == pytest.approx(0.75 + 0.25 * freely, abs=0.03) and freely < 0.2
    assert all(make_caption(APPLE, rng, 2, 1.0) == plain for _ in range(50))


def test_a_caption_of_another_picture_that_is_true_as_well_is_no_wrong_answer():
    other = Item("red apple", "blob", (), True)
    items = [APPLE, other, Item("boat", "noto", (), True), APPLE]
    captions = ["red apple, fruit", "a blob emoji of red apple", "boat", "noto, red apple"]
    expected = np.zeros((4, 4), bool)
    expected[0, 3] = expected[3, 0] = True  # the same object in the same style, and a caption without a style
    expected[1, 0] = True  # the blob's picture is a red apple too; but no other picture here is a blob's
    assert (also_right(items, captions) == expected).all()


def test_objects_are_written_as_packs_write_them(folder):
    rows = [{"object": "t-shirt_red", "style": "a", "split": "train"}] * 9
    rows.append({"object": "zyzzyva", "style": "a", "split": "held_out"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = PretrainData(folder, 0)
    assert data.items[0].object == "t shirt red"
    # The tokenizer learns from nothing held out, and knows the words around a pack's captions.
    texts = data.all_captions()
    assert not any("zyzzyva" in text for text in texts)
    merged = {a + b for a, b in learn_merges(words_of(texts), 1000)}
    assert {"style</w>", "horizontal</w>", "flip</w>", "pencil</w>"} <= merged and "zyzzyva</w>" not in merged


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("metadata.jsonl", '{"object": "o"}\n', "line 1"),
        ("metadata.jsonl", '{"object": "o", "style": "a", "split": "test"}\n' * 10, "split 'test' is not train or held_out"),
        ("metadata.jsonl", '{"object": "o", "style": "a", "split": "held_out"}\n' * 10, "no line with split train"),
        ("metadata.jsonl", "[]\n", "line 1"),
        ("images.npy", "text", "is not a NumPy array"),
        ("images.npy", np.zeros((10, 8, 8, 3), np.float32), "is float32 of shape"),
        ("images.npy", np.zeros((10, 8, 6, 3), np.uint8), r"of shape \(10, 8, 6, 3\)"),
    ],
)
def test_damaged_data_are_named(folder, name, content, message):
    if isinstance(content, str):
        (folder / name).write_text(content)
    else:
        np.save(folder / name, content)
    with pytest.raises(UserError, match=message):
        PretrainData(folder, 0)
