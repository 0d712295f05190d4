"""The metrics by themselves, on made-up features: definitions, properties, protocols."""

import itertools

import numpy as np
import pytest

from eval.metrics import METRICS
from eval.metrics.base import Metric, Picture, Reference, Setting, Weights
from eval.total import PARTS, RANGES, total_score

STYLES = ("00", "01")


def rng(*seed):
    return np.random.default_rng(seed)


def picture(style, word, **features):
    return Picture(style, word, {name: np.asarray(value, np.float32) for name, value in features.items()})


def filled(name, setting=None, count=4, width=8, seed=0):
    """A metric that saw ``count`` pictures of each style with random features, two references a style."""
    metric = METRICS[name](setting)
    make = {
        "hist": lambda *s: rng(seed, *s).integers(0, 50, 4168),
        "lpips": lambda *s: rng(seed, *s).random(2),
        "clip_iqa": lambda *s: rng(seed, *s).uniform(-0.1, 0.1, 2),
    }
    def features(*s):
        return {f: make.get(f, lambda *s: rng(seed, *s).normal(size=width))(*s) for f in metric.needs}

    references = {
        style: [Reference(f"{style}/{i}.png", features(1, number, i)) for i in range(2)]
        for number, style in enumerate(STYLES)
    }
    metric.begin(references)
    for number, style in enumerate(STYLES):
        for index in range(count):
            own = features(2, number, index)
            if "lpips_pairs" in metric.needs:
                own["lpips_pairs"] = rng(seed, 3, number, index).random(index)
            metric.update(picture(style, f"word {index}", **own))
    return metric


def unit_texts(words):
    """Each word's vector is one axis."""
    axes = {"cat": 0, "dog": 1, "fish": 2, "ring": 3, "watch": 4, "tree": 5, "house": 6, "Tree": 5}
    return np.eye(8, dtype=np.float32)[[axes.get(word, 7) for word in words]]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_keeps_to_the_interface(name):
    kind = METRICS[name]
    assert kind.name == name and kind.title and kind.needs
    assert kind.direction in ("more", "less") and kind.range[0] < kind.range[1] and kind.minimum >= 1
    if name in PARTS:
        assert kind.range == RANGES[name]
    # One module a metric, named as in reports.
    assert kind.__module__ == f"eval.metrics.{name}"
    metric = METRICS[name](Setting(candidates=tuple("abcdefg"), embed_texts=unit_texts, minimum=2))
    assert isinstance(metric, Metric) and metric.unavailable() is None


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_answers_within_its_range_and_has_nothing_to_say_of_nothing(name):
    setting = Setting(candidates=tuple("abcdefg"), embed_texts=unit_texts, minimum=2)
    metric = filled(name, setting)
    result = metric.compute()
    low, high = metric.range
    assert low <= result.value <= high and result.not_computed is None
    for value in (result.per_style or {}).values():
        assert low <= value <= high
    empty = filled(name, setting, count=0)
    assert empty.compute().value is None and empty.compute().not_computed


def test_the_networks_in_use_may_ask_for_fewer_images_and_the_user_for_any_number():
    def needs(**settings):
        return filled("fid", Setting(**settings)).compute().not_computed

    assert needs() == "8 generated images and 4 reference images, needs 64 (--minimum)"
    assert needs(minimums={"fid": 20, "kid": 2}) == "8 generated images and 4 reference images, needs 20 (--minimum)"
    assert needs(minimums={"fid": 4}) is None and needs(minimums={"fid": 20}, minimum=4) is None


def test_dino_is_the_mean_cosine_of_all_pairs():
    metric = METRICS["dino"]()
    references = rng(0).normal(size=(2, 3, 5))
    metric.begin(
        {style: [Reference("", {"dino": row}) for row in rows] for style, rows in zip(STYLES, references)}
    )
    made = {"00": rng(1).normal(size=(2, 5)), "01": rng(2).normal(size=(4, 5))}
    per_style = []
    for number, (style, rows) in enumerate(made.items()):
        cosines = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.product(rows, references[number])
        ]
        per_style.append(np.mean(cosines))
        for index, row in enumerate(rows):
            metric.update(picture(style, str(index), dino=row))
    assert metric.compute().value == pytest.approx(np.mean(per_style), abs=1e-6)
    assert list(metric.compute().per_style.values()) == pytest.approx(per_style, abs=1e-6)


@pytest.mark.parametrize("name", ["dino", "hist", "lpips", "clip_iqa", "copies"])
def test_order_does_not_matter_and_duplicates_do_not_change_means(name):
    metric = filled(name)
    value = metric.compute().value
    entries = list(metric.values.items())
    metric.values = dict(reversed(entries))
    assert metric.compute().value == pytest.approx(value, abs=1e-12)
    metric.values |= {(style, f"{word} again"): v for (style, word), v in entries}
    assert metric.compute().value == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("name", "failure"), [("dino", 0), ("hist", 0), ("lpips", 1), ("clip_iqa", 0)])
def test_a_missing_picture_is_a_failure_in_corrected_only(name, failure):
    for protocol in ("challenge", "corrected"):
        metric = filled(name, Setting(protocol))
        before = metric.compute().per_style["00"]
        metric.fail(("00", "gone"))
        after = metric.compute().per_style["00"]
        assert after == pytest.approx(before if protocol == "challenge" else (4 * before + failure) / 5)


def test_clip_iqa_is_a_softmax_of_a_hundred_cosines():
    metric = METRICS["clip_iqa"]()
    assert metric.update(picture("00", "a", clip_iqa=[0.2, 0.2])) == 0.5
    assert metric.update(picture("00", "b", clip_iqa=[0.21, 0.2])) == pytest.approx(np.e / (1 + np.e), rel=1e-5)
    assert metric.update(picture("00", "c", clip_iqa=[-1, 1])) == pytest.approx(0, abs=1e-12)


def clip_r(places, image, word, protocol="challenge", words=("Cat", "Dog", "Fish", "Ring", "Watch", "watch", "House")):
    metric = METRICS["clip_r" if places == 5 else "clip_r_top1"](Setting(protocol, words, unit_texts))
    assert metric.unavailable() is None
    return metric.update(picture("00", word, clip=image))


def test_clip_r_counts_who_is_closer_than_the_own_word():
    scores = np.array([8, 7, 6, 5, 4, 3, 2, 1]) / 10
    assert [clip_r(5, scores, word) for word in ("Cat", "Dog", "Fish", "Ring", "Watch")] == [1, 1, 1, 1, 1]
    # Of the list's two watches both stand before the house in the checker: six places.
    assert clip_r(5, scores, "House") == 0 and clip_r(5, scores, "House", "corrected") == 0
    assert [clip_r(1, scores, word) for word in ("Cat", "Dog")] == [1, 0]


def test_a_word_that_is_twice_in_the_list_takes_two_places_in_challenge_only():
    scores = np.array([6, 5, 4, 0, 8, 3, 1, 0]) / 10  # watch, cat, dog, fish are above the tree
    assert clip_r(5, scores, "Tree") == 0
    assert clip_r(5, scores, "Tree", "corrected") == 1


def test_clip_r_is_a_ratio_over_all_pictures_and_needs_a_choice():
    metric = METRICS["clip_r_top1"](Setting("corrected", ("cat", "dog", "fish"), unit_texts))
    for style, word, axis in (("00", "cat", 0), ("01", "dog", 1), ("01", "dog 2", 1), ("01", "fish", 0)):
        metric.update(picture(style, word, clip=np.eye(8)[axis]))
    assert metric.compute().value == 0.5  # "dog 2" is closest to "dog"
    assert metric.compute().per_style == {"00": 1, "01": pytest.approx(1 / 3)}
    metric.fail(("00", "gone"))
    assert metric.compute().value == pytest.approx(2 / 5)
    few = METRICS["clip_r"](Setting("challenge", ("a",) * 9, unit_texts))
    assert few.unavailable() == "1 candidate words, needs 6 (--clip-r-prompts)"


def test_shuffled_names_drop_clip_r():
    words = ("cat", "dog", "fish", "ring", "watch", "tree", "house")
    def value(names):
        metric = METRICS["clip_r_top1"](Setting("challenge", words, unit_texts))
        for image, name in zip(unit_texts(words), names):
            metric.update(picture("00", name, clip=image))
        return metric.compute().value

    assert value(words) == 1 and value(words[1:] + words[:1]) == 0


def test_clip_score_is_a_hundred_cosines_not_below_zero():
    metric = METRICS["clip_score"](Setting(embed_texts=unit_texts))
    assert metric.update(picture("00", "cat", clip=[0.3] + [0] * 7)) == pytest.approx(30)
    assert metric.update(picture("00", "cat", clip=[-0.3] + [0] * 7)) == 0


def test_copies_are_flagged_with_their_training_picture_of_any_style():
    metric = METRICS["copies"](Setting(copy_threshold=0.9))
    metric.begin({"00": [Reference("00/a.png", {"dino": [1, 0]})], "01": [Reference("01/b.png", {"dino": [0, 1]})]})
    assert metric.update(picture("00", "copy", dino=[0.1, 3])) == 1
    assert metric.update(picture("00", "new", dino=[1, 1])) == 0
    result = metric.compute()
    assert result.value == 0.5
    assert [(e["word"], e["reference"], e["flagged"]) for e in result.details["nearest"]] == [
        ("copy", "01/b.png", True),
        ("new", "00/a.png", False),
    ]


def test_drift_is_nothing_for_equal_pictures():
    metric = METRICS["drift"]()
    assert metric.update(picture("", "a", dino=[1, 2], dino_base=[1, 2])) == pytest.approx(0, abs=1e-12)
    assert metric.update(picture("", "b", dino=[0, 2], dino_base=[1, 0])) == pytest.approx(1)
    assert metric.compute().value == pytest.approx(0.5)


def test_diversity_is_the_mean_over_pairs():
    metric = METRICS["diversity"]()
    for word, row in (("a", []), ("b", [0.2]), ("c", [0.4, 0.6])):
        metric.update(picture("00", word, lpips_pairs=row))
    metric.update(picture("01", "a", lpips_pairs=[]))
    assert metric.compute().value == pytest.approx(0.4)
    drawn = Weights({("00", "a"): np.array([2]), ("00", "b"): np.array([1])})
    # Drawn twice, a makes two pairs with b and none with itself.
    assert metric.evaluate(drawn) == pytest.approx([0.2])
    alone = METRICS["diversity"]()
    alone.update(picture("00", "a", lpips_pairs=[]))
    assert alone.compute().not_computed == "1 images in the largest style, needs 2"


@pytest.mark.parametrize(("name", "feature"), [("fid", "fid64"), ("fid_2048", "fid2048"), ("kid", "fid2048")])
def test_distributions_refuse_few_images_and_are_near_zero_for_the_same(name, feature):
    rows = rng(5).normal(size=(70, 6))
    few = METRICS[name]()
    few.begin({"00": [Reference("", {feature: row}) for row in rows]})
    for index in range(3):
        few.update(picture("00", str(index), **{feature: rows[index]}))
    few_real = " and 70 reference images" if few.minimum > 70 else ""
    assert few.compute().not_computed == f"3 generated images{few_real}, needs {few.minimum} (--minimum)"
    assert few.evaluate(Weights()) is None
    same = METRICS[name](Setting(minimum=50))
    same.begin({"00": [Reference("", {feature: row}) for row in rows]})
    far = METRICS[name](Setting(minimum=50))
    far.begin({"00": [Reference("", {feature: row}) for row in rows]})
    for index, row in enumerate(rows):
        same.update(picture("00", str(index), **{feature: row}))
        far.update(picture("00", str(index), **{feature: row + 1}))
    assert same.compute().value < 0.1 < 1 < far.compute().value


def test_fid_is_the_distance_of_two_normal_distributions():
    """Against the textbook formula with SciPy's matrix root."""
    from scipy.linalg import sqrtm

    real, made = rng(1).normal(size=(64, 5)), rng(2).normal(size=(80, 5)) * 1.5 + 0.3
    metric = METRICS["fid"]()
    metric.begin({"00": [Reference("", {"fid64": row.astype(np.float32)}) for row in real]})
    for index, row in enumerate(made):
        metric.update(picture(STYLES[index % 2], str(index), fid64=row))
    a, b = np.cov(real.T), np.cov(made.T)
    expected = ((real.mean(0) - made.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert metric.compute().value == pytest.approx(expected, rel=1e-5)
    twice = Weights({key: np.array([2.0]) for key in metric.pictures()})
    repeated = np.concatenate([made, made])
    b = np.cov(repeated.T)
    expected = ((real.mean(0) - made.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert metric.evaluate(twice) == pytest.approx([expected], rel=1e-5)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(FloatingPointError, match="00/a has the value nan"):
        METRICS["lpips"]().update(picture("00", "a", lpips=[np.nan]))


def test_cosines_stay_within_their_range_so_that_a_folder_against_itself_has_a_total():
    """Rounding takes some vectors' cosine with themselves to 1.0000000000000002."""
    rows = rng(0).normal(size=(200, 8))
    dino, copies = METRICS["dino"](), METRICS["copies"]()
    values = []
    for index, row in enumerate(rows):
        for metric in (dino, copies):
            metric.begin({"00": [Reference("", {"dino": row})]})
        values.append(dino.update(Picture("00", str(index), {"dino": row})))
        copies.update(Picture("00", str(index), {"dino": row}))
    assert max(values) == 1 and min(values) > 1 - 1e-12
    assert max(entry["similarity"] for entry in copies.compute().details["nearest"]) <= 1
    total_score(dino=max(values), hist=1, lpips=0, fid=0, clip_iqa=1, clip_r=1)
