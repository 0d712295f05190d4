"""Intervals and paired differences."""

import numpy as np
import pytest

from eval.bootstrap import draw, evaluate_all, interval, intervals, paired
from eval.metrics import METRICS
from eval.metrics.base import Picture, Reference, Setting, Weights
from eval.total import PARTS, total_score


def lpips(values, protocol="challenge"):
    """The LPIPS metric over ``{(style, word): distance}``."""
    metric = METRICS["lpips"](Setting(protocol))
    for (style, word), value in values.items():
        metric.update(Picture(style, word, {"lpips": np.array([value])}))
    return metric


def sample(seed, styles=3, count=25):
    rng = np.random.default_rng(seed)
    return {(f"{s:02}", f"w{i}"): rng.normal(0.5 + 0.1 * s, 0.1) for s in range(styles) for i in range(count)}


def test_draws_keep_the_size_of_styles_and_do_not_depend_on_the_order():
    keys = list(sample(0))
    one, other = draw(keys, 50), draw(keys[::-1], 50)
    assert (one.of(keys) == other.of(keys)).all()
    for style in range(3):
        assert (one.of(keys[25 * style : 25 * style + 25]).sum(axis=1) == 25).all()
    assert (one.of(keys) != draw(keys, 50, seed=1).of(keys)).any()
    assert (one.of([("99", "none")]) == 0).all()


def test_the_interval_is_that_of_the_mean():
    """Against the normal approximation: three styles of 25 with deviation 0.1."""
    values = sample(1)
    low, high = intervals({"lpips": lpips(values)}, rounds=20000)["lpips"]
    per_style = np.array(list(values.values())).reshape(3, 25)
    error = np.sqrt((per_style.var(axis=1) / 25).sum()) / 3
    mean = per_style.mean()
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.08 * error)
    assert intervals({"lpips": lpips(values)}, rounds=20000)["lpips"] == [low, high]
    assert intervals({"lpips": lpips(values)}, rounds=0) == {}


def test_an_interval_ignores_resamples_without_an_answer():
    assert interval(np.array([np.nan, 1.0, 1.0])) == [1, 1]
    assert interval(np.array([np.nan])) is None


def six_parts(seed, count=70):
    """All six parts on random features, as metrics that can be resampled."""
    rng = np.random.default_rng(seed)
    setting = Setting(candidates=tuple(f"w{i}" for i in range(8)), embed_texts=lambda t: np.eye(8)[[hash(w) % 8 for w in t]])
    metrics = {name: METRICS[name](setting) for name in PARTS}

    def features(n):
        return {
            "dino": rng.normal(size=8), "hist": rng.integers(0, 9, 4168).astype(np.float32), "lpips": rng.random(2),
            "fid64": rng.normal(size=5), "clip_iqa": rng.normal(0, 0.01, 2), "clip": rng.normal(size=8),
        }  # fmt: skip

    references = {s: [Reference("", features(0)) for _ in range(32)] for s in ("00", "01")}
    for metric in metrics.values():
        metric.begin(references)
    for index in range(count):
        picture = Picture(f"0{index % 2}", f"w{index}", features(index))
        for metric in metrics.values():
            metric.update(picture)
    return metrics


def test_the_total_is_resampled_with_its_parts():
    metrics = six_parts(3)
    keys = metrics["lpips"].pictures()
    found = evaluate_all(metrics, draw(keys, 7))
    for row in range(7):
        assert found["total"][row] == pytest.approx(total_score(**{part: found[part][row] for part in PARTS}))
    once = evaluate_all(metrics, Weights())
    assert once["total"][0] == pytest.approx(total_score(**{name: m.compute().value for name, m in metrics.items()}))
    del metrics["fid"]
    assert "total" not in evaluate_all(metrics, Weights())


def test_equal_runs_differ_by_nothing():
    report = paired({"lpips": lpips(sample(0))}, {"lpips": lpips(sample(0))})
    entry = report["differences"]["lpips"]
    assert report["pairs"] == 75 and entry["value"] == 0 and entry["interval"] == [0, 0] and not entry["certain"]


def test_a_small_constant_shift_is_certain_because_pairs_share_their_spread():
    first = sample(0)
    second = {key: value + 0.01 for key, value in first.items()}
    entry = paired({"lpips": lpips(first)}, {"lpips": lpips(second)})["differences"]["lpips"]
    assert entry["value"] == pytest.approx(0.01) and entry["certain"]
    assert entry["interval"] == pytest.approx([0.01, 0.01])
    assert {style: own["value"] for style, own in entry["per_style"].items()} == pytest.approx(
        {"00": 0.01, "01": 0.01, "02": 0.01}
    )
    unpaired = {key: value + 0.01 for key, value in sample(7).items()}
    assert not paired({"lpips": lpips(first)}, {"lpips": lpips(unpaired)})["differences"]["lpips"]["certain"]


def test_only_pictures_of_both_count():
    first, second = sample(0), sample(0)
    second.pop(("00", "w0"))
    first[("00", "w1")] = second[("00", "w1")] = 99.0
    first.pop(("02", "w3"))
    report = paired({"lpips": lpips(first)}, {"lpips": lpips(second)})
    assert report["pairs"] == 73 and report["differences"]["lpips"]["value"] == 0
    assert paired({"lpips": lpips({("a", "b"): 1.0})}, {"lpips": lpips({("a", "c"): 1.0})}) == {
        "pairs": 0,
        "differences": {},
    }
