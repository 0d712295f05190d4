"""Intervals and paired differences."""

import json

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
    words = tuple(f"w{i}" for i in range(8))
    setting = Setting(candidates=words, embed_texts=lambda texts: np.eye(8)[[int(text[1:]) % 8 for text in texts]])
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
        "not_compared": {},
    }


def metric(name, values, failed=(), minimum=None):
    """A metric in the ``corrected`` protocol over ``{(style, word): feature}`` that also met pictures it could not read."""
    made = METRICS[name](Setting("corrected", minimum=minimum))
    real = np.random.default_rng(9).normal(size=(12, 3))
    made.begin({"00": [Reference("", {made.needs[0]: row}) for row in real]})
    for (style, word), value in values.items():
        made.update(Picture(style, word, {made.needs[0]: np.asarray(value, np.float32)}))
    for key in failed:
        made.fail(key)
    return made


def rows(count, seed, style="00"):
    rng = np.random.default_rng(seed)
    return {(style, f"w{index}"): rng.normal(size=3) for index in range(count)}


def test_a_comparison_leaves_missing_pictures_out_of_every_metric_that_cannot_count_them():
    """Corrected: missing pictures are failures of LPIPS, and nothing of FID."""
    made, other = rows(12, 0), rows(12, 1)
    gone = list(other)[8:]
    half = {key: value for key, value in other.items() if key not in gone}
    def run(values, failed=()):
        distances = {key: [abs(value[0])] for key, value in values.items()}
        return {"fid": metric("fid", values, minimum=2), "lpips": metric("lpips", distances, failed)}

    report = paired(run(made), run(half, gone), 20)
    assert report["pairs"] == 8
    both = paired(run({key: made[key] for key in half}), run(half), 20)
    assert report["differences"]["fid"]["a"] == pytest.approx(both["differences"]["fid"]["a"])
    assert report["differences"]["fid"]["b"] == pytest.approx(both["differences"]["fid"]["b"])
    assert report["differences"]["lpips"]["b"] != pytest.approx(both["differences"]["lpips"]["b"])


def test_a_comparison_needs_as_many_common_pictures_as_the_metric():
    report = paired({"fid": metric("fid", rows(12, 0), minimum=9)}, {"fid": metric("fid", rows(8, 1), minimum=9)}, 20)
    assert not report["differences"]
    assert report["not_compared"]["fid"] == "in both: 8 generated images, needs 9 (--minimum)"


def test_a_comparison_without_resamples():
    shares = {("00", f"w{index}"): [index % 2, 1, 0] for index in range(4)}
    report = paired({"copies": metric("copies", shares)}, {"copies": metric("copies", shares)}, 0)
    entry = report["differences"]["copies"]
    assert entry["value"] == 0 and entry["interval"] is None and entry["per_style"]["00"]["interval"] is None


def test_resamples_without_a_picture_of_a_style_are_no_answer():
    """Copies cannot count missing pictures, LPIPS can: of the style 01 most draws hold none that copies knows."""
    seen = rows(3, 0) | rows(1, 1, "01")
    gone = [("01", f"gone{index}") for index in range(6)]
    def run():
        distances = {key: [abs(value[0])] for key, value in seen.items()}
        return {"copies": metric("copies", seen), "lpips": metric("lpips", distances, gone)}

    report = paired(run(), run(), 50)
    assert set(report["differences"]["copies"]["per_style"]) == {"00", "01"} and report["pairs"] == 4
    assert set(intervals(run(), 50)) == {"copies", "lpips"}


def test_fid_of_resamples_with_too_few_pictures_is_no_answer():
    seen = rows(3, 0)
    gone = [("00", f"gone{index}") for index in range(20)]
    found = {"fid": metric("fid", seen, minimum=2), "lpips": metric("lpips", {k: [0.5] for k in seen}, gone)}
    keys = sorted({key for made in found.values() for key in made.pictures()})
    values = evaluate_all(found, draw(keys, 200))["fid"]
    assert np.isnan(values).any() and np.isfinite(values).any() and intervals(found, 200)["fid"]
    alone = {"fid": metric("fid", rows(1, 0), minimum=2)}
    assert "fid" in paired(alone, alone, 5)["not_compared"]


def test_a_style_with_one_common_picture_has_no_diversity_and_the_report_stays_json():
    def run(second):
        made = METRICS["diversity"]()
        for style, words in (("00", ("a", "b", "c")), ("01", ("a", second))):
            for index, word in enumerate(words):
                made.update(Picture(style, word, {"lpips_pairs": np.full(index, 0.5)}))
        return {"diversity": made}

    report = paired(run("b"), run("c"), 20)
    json.dumps(report, allow_nan=False)
    entry = report["differences"]["diversity"]
    assert entry["value"] == 0 and set(entry["per_style"]) == {"00"}


def test_drift_is_drawn_by_itself_and_never_compared():
    drift = METRICS["drift"]()
    rng = np.random.default_rng(0)
    for index in range(30):
        drift.update(Picture("", f"{index}.png", {"dino": rng.normal(size=4), "dino_base": rng.normal(size=4)}))
    values = sample(0)
    with_drift = intervals({"lpips": lpips(values), "drift": drift}, 100)
    assert with_drift["lpips"] == intervals({"lpips": lpips(values)}, 100)["lpips"] and with_drift["drift"]
    report = paired({"lpips": lpips(values), "drift": drift}, {"lpips": lpips(values), "drift": drift}, 20)
    assert report["pairs"] == 75 and "drift" in report["not_compared"] and "drift" not in report["differences"]
