"""Hist against OpenCV's own answers (tests/golden/make_hist.py) and against the description of the checker."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eval import hist

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "hist.json").read_text())
PICTURES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3)))


def picture(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 7, axis=0), 9, axis=1) ^ rng.integers(0, 32, (42, 45, 3), dtype=np.uint8)


def test_hsv_of_every_colour_equals_opencv():
    digest = hashlib.sha256()
    for red in range(256):
        index = np.arange(1 << 16)
        image = np.stack([index & 255, index >> 8, np.full(1 << 16, red)], axis=-1).astype(np.uint8)
        digest.update(hist.bgr_to_hsv(image).tobytes())
    assert digest.hexdigest() == GOLDEN["hsv_of_all_colours_sha256"]


@pytest.mark.parametrize("protocol", hist.PROTOCOLS)
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: str(case["image"]))
def test_score_equals_opencv(case, protocol):
    style = hist.StyleHist([picture(seed) for seed in case["references"]], protocol)
    assert style.score(picture(case["image"])) == pytest.approx(case[protocol], abs=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "cell"),
    [
        (0, 10, 0),
        (11, 20, 1),
        (21, 37, 2),
        (38, 77, 3),
        (78, 95, 4),
        (96, 127, 5),
        (128, 138, 0),
        (139, 148, 1),
        (149, 165, 2),
        (166, 179, 3),
    ],
)
def test_challenge_hue_cells(low, high, cell):
    """The table of the checker's wrapped hues, through colours that have them."""
    colours = every_hue()
    for hue in range(low, high + 1):
        counts = hist.hsv_histogram(colours[hue][None, None], "challenge")
        assert counts.argmax() // 9 == cell, hue


def test_corrected_hue_cells_do_not_wrap():
    colours = every_hue()
    cells = [int(hist.hsv_histogram(colours[hue][None, None], "corrected").argmax()) // 9 for hue in range(180)]
    edges = [10, 20, 37, 77, 95, 135, 147, 157]
    assert [hue for hue in range(179) if cells[hue] != cells[hue + 1]] == edges
    assert cells[0] == cells[179] == 0 and cells[157] == 7


def every_hue():
    """OpenCV hue -> a colour that has it."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (20000, 3), dtype=np.uint8)
    found = {int(hue): colour for hue, colour in zip(hist.bgr_to_hsv(colours)[:, 0], colours)}
    assert len(found) == 180
    return found


def test_blue_counts_in_corrected_only():
    image = np.zeros((4, 4, 3), np.uint8)
    bluish = image.copy()
    bluish[..., 0] = 255
    assert (hist.rgb_histogram(image) == hist.rgb_histogram(bluish)).all()
    assert hist.rgb_histogram(bluish, "corrected")[15 * 256] == 16
    assert hist.rgb_histogram(image, "corrected")[0] == 16


@given(PICTURES, st.sampled_from(hist.PROTOCOLS))
def test_counts_add_up(image, protocol):
    pixels = image.shape[0] * image.shape[1]
    rgb, hsv = hist.rgb_histogram(image, protocol), hist.hsv_histogram(image, protocol)
    assert (rgb.shape, hsv.shape) == ((4096,), (72,))
    assert rgb.sum() == hsv.sum() == pixels


@given(PICTURES, st.sampled_from(hist.PROTOCOLS))
def test_a_picture_agrees_with_itself(image, protocol):
    assert hist.StyleHist([image], protocol).score(image) == pytest.approx(1)


@given(st.lists(PICTURES, min_size=1, max_size=3), PICTURES, st.randoms())
def test_neither_order_nor_place_of_pixels_matters(references, image, random):
    shuffled = references[::-1]
    moved = image[::-1, ::-1].transpose(1, 0, 2)
    before, after = hist.StyleHist(references).score(image), hist.StyleHist(shuffled).score(moved)
    assert before == pytest.approx(after, abs=1e-9)
    assert -1 <= before <= 1


def test_flat_histograms_correlate_as_in_opencv():
    assert hist.correlation(np.ones(72), np.arange(72)) == 1.0


@pytest.mark.parametrize("bad", [np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.float32), np.zeros((2, 2), np.uint8)])
def test_other_arrays_are_refused(bad):
    with pytest.raises(ValueError, match="uint8"):
        hist.rgb_histogram(bad)
    with pytest.raises(ValueError, match="uint8"):
        hist.hsv_histogram(bad)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="protocol: 'official' is unknown"):
        hist.rgb_histogram(picture(0), "official")
    with pytest.raises(ValueError, match="at least one reference"):
        hist.StyleHist([])
    with pytest.raises(ValueError, match="3 and 4 bins"):
        hist.correlation(np.ones(3), np.ones(4))
