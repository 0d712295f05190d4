"""Captions: what comes in which order."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jdiff_style.captions import make_caption, make_style_caption, object_words
from jdiff_style.packs import ImageRecord, Style

STYLE = Style("07", "style_07", [], ["purple", "lineart"])
IMAGE = ImageRecord(Path("woman_walking_a_dog.jpg"), "woman_walking_a_dog", ["woman", "dog", "purple"])


def test_order_without_shuffling():
    assert make_caption(STYLE, IMAGE, False) == "style_07, purple, lineart, woman, dog, woman walking a dog"


@given(st.integers(0, 10**6), st.booleans())
def test_trigger_and_style_first_own_words_shuffled_flip_last(seed, flipped):
    parts = make_caption(STYLE, IMAGE, flipped, np.random.default_rng(seed)).split(", ")
    assert parts[:3] == ["style_07", "purple", "lineart"]
    assert sorted(parts[3:6]) == ["dog", "woman", "woman walking a dog"]
    assert parts[6:] == (["horizontal_flip"] if flipped else [])


def test_all_orders_occur():
    orders = {make_caption(STYLE, IMAGE, False, np.random.default_rng(seed)) for seed in range(200)}
    assert len(orders) == 6 * 4 // 4  # three words of its own; the repeated style tag is dropped wherever it falls


def test_a_caption_text_stays_whole():
    image = ImageRecord(Path("1.png"), "1", [], "a crane, flying")
    assert make_caption(STYLE, image, True) == "style_07, purple, lineart, a crane, flying, horizontal_flip"


def test_template():
    caption = make_caption(STYLE, IMAGE, True, None, "an image of {object} in {trigger}")
    assert caption == "an image of woman walking a dog in style_07, horizontal_flip"


def test_a_caption_of_the_style_alone():
    assert make_style_caption(STYLE, False) == "style_07, purple, lineart"
    assert make_style_caption(STYLE, True, "a picture in {trigger}: {style}") == (
        "a picture in style_07: purple, lineart, horizontal_flip"
    )


def test_object_words():
    assert object_words("Cherry_blossom--tree ") == "Cherry blossom tree"
