"""The total: published rows, ranges, and the reading of given parts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.total import PARTS, RANGES, missing_parts, parse_parts, total_score
from jdiff_style.errors import UserError

# dino, hist, fid, lpips, clip_iqa, clip_r, total: as published by entrants of the challenge.
PUBLISHED = [
    (0.2125, 0.747, 2.813, 0.3939, 0.7451, 0.62, 0.4251),
    (0.1916, 0.73, 3.8127, 0.4113, 0.7579, 0.7629, 0.4419),
    (0.1762, 0.6811, 3.1457, 0.4223, 0.7471, 0.8457, 0.4497),
    (0.1737, 0.7144, 3.272, 0.4154, 0.7463, 0.8586, 0.4648),
    (0.1202, 0.7791, 1.6746, 0.4287, 0.7577, 0.9307, 0.5121),
    (0.2078, 0.7663, 3.8347, 0.3976, 0.7459, 0.6843, 0.4359),
    (0.1921, 0.7456, 3.3376, 0.4114, 0.7591, 0.6771, 0.4278),
]
PERFECT = {"dino": 1.0, "hist": 1.0, "lpips": 0.0, "fid": 0.0, "clip_iqa": 1.0, "clip_r": 1.0}
IN_RANGE = st.fixed_dictionaries({name: st.floats(low, min(high, 50)) for name, (low, high) in RANGES.items()})


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_rows(row):
    dino, hist, fid, lpips, clip_iqa, clip_r, total = row
    value = total_score(dino=dino, hist=hist, fid=fid, lpips=lpips, clip_iqa=clip_iqa, clip_r=clip_r)
    assert f"{value:.4f}" == f"{total:.4f}"


def test_a_perfect_score_is_one():
    assert total_score(**PERFECT) == pytest.approx(1)


@given(IN_RANGE)
def test_fid_saturates_at_20(parts):
    high = total_score(**{**parts, "fid": 20.0})
    assert total_score(**{**parts, "fid": 400.0}) == high


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("dino", 1.5),
        ("hist", -2),
        ("lpips", -0.1),
        ("fid", -1),
        ("clip_iqa", 1.1),
        ("clip_r", math.nan),
        ("fid", math.inf),
    ],
)
def test_impossible_parts_are_refused_by_name(part, value):
    with pytest.raises(UserError, match=rf"^{part}: {value} "):
        total_score(**{**PERFECT, part: value})


def test_parts_are_read():
    assert parse_parts(["dino=.25", "fid=3e0"]) == {"dino": 0.25, "fid": 3.0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hist"], "'hist' is not of the form"),
        (["clip=0.5"], "'clip' is no part of the total"),
        (["hist=0.5", "hist=0.6"], "hist is given twice"),
        (["hist=half"], "hist='half' is not a number"),
    ],
)
def test_unreadable_parts_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        parse_parts(words)


@given(st.sets(st.sampled_from(PARTS)))
def test_missing_parts(given_parts):
    assert set(missing_parts(dict.fromkeys(given_parts, 0.0))) == set(PARTS) - given_parts
