"""Bad pictures, CSV, the HTML page and its script, comparisons: all through the command."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from chromium import use_page
from PIL import Image

from eval.score import main

WORDS = ("apple", "Büro", "cat & <dog>", "pear")


def colours(seed, size=(24, 16)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)


@pytest.fixture
def pack(tmp_path):
    for number, style in enumerate(("00", "01")):
        folder = tmp_path / "pack" / style / "images"
        folder.mkdir(parents=True)
        for index in range(2):
            colours(10 * number + index).save(folder / f"r{index}.png")
        (folder.parent / "prompt.json").write_text(json.dumps({str(i): word for i, word in enumerate(WORDS)}))
    return tmp_path / "pack"


def draw_all(folder, seed=100):
    for number, style in enumerate(("00", "01")):
        (folder / style).mkdir(parents=True, exist_ok=True)
        for index, word in enumerate(WORDS):
            colours(seed + 10 * number + index).save(folder / style / f"{word}.png")
    return folder


@pytest.fixture
def made(tmp_path):
    return draw_all(tmp_path / "made")


@pytest.fixture
def score(pack, made, tmp_path, capsys):
    def run(*options, generated=made):
        words = ["--metrics", "hist", "--pack", str(pack), "--json", str(tmp_path / "r.json"), *options]
        code = main(["--generated", str(generated), *words] if generated else words)
        out, err = capsys.readouterr()
        return code, json.loads((tmp_path / "r.json").read_text()), out, err

    return run


def unusual(kind, path):
    """Write a picture of one kind over ``path``; returns the clause that the report must have."""
    path.unlink()
    image = colours(1)
    if kind == "animated":
        image.save(path.with_suffix(".webp"), save_all=True, append_images=[colours(2), colours(3)], lossless=True)
        return "animated, only its first picture is scored"
    if kind == "palette":
        image.quantize(8).save(path)
        return "palette turned into colours"
    if kind == "16 bits":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256).save(path)
        return "16 bits a channel, the high 8 are scored"
    if kind == "CMYK":
        image.convert("CMYK").save(path.with_suffix(".jpg"))
        return "CMYK turned into RGB"
    if kind == "alpha":
        image.putalpha(100)
        image.save(path)
        return "transparency is dropped, not blended"
    image.convert("L").save(path)
    return "grey, its three channels are equal"


@pytest.mark.parametrize("kind", ["animated", "palette", "16 bits", "CMYK", "alpha", "grey"])
def test_unusual_pictures_are_scored_with_a_line_each(score, made, kind):
    clause = unusual(kind, made / "00" / "apple.png")
    code, report, out, _ = score()
    assert code == 0 and report["counts"]["scored"] == 8 and not report["partial"]
    assert [(entry["note"], "apple" in entry["path"]) for entry in report["notes"]] == [(clause, True)]
    assert f"note: {clause}: " in out


def test_a_huge_picture_is_refused_and_the_rest_scored(score, made, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (40, 30)).save(made / "00" / "apple.png")
    code, report, out, _ = score()
    assert code == 0 and report["counts"] | {"scored": 7, "unreadable": 1} == report["counts"]
    assert "too large to be a generated picture" in report["unreadable"][0]["reason"] and "apple.png (too large" in out


def test_mixed_sizes_are_said(score, made):
    assert score()[1]["sizes"] == {"24x16": 8}
    colours(4, (20, 20)).save(made / "01" / "pear.png")
    _, report, out, _ = score()
    assert report["sizes"] == {"24x16": 7, "20x20": 1} and "note: mixed sizes: 24x16 (7), 20x20 (1)" in out


def test_csv_has_a_line_per_expected_picture(score, made, tmp_path):
    (made / "00" / "pear.png").unlink()
    (made / "01" / "pear.png").write_text("no picture")
    _, report, _, _ = score("--csv", str(tmp_path / "r.csv"), "--protocol", "corrected")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text(encoding="utf-8"))))
    assert [(row["style"], row["word"]) for row in rows] == [(s, w) for s in ("00", "01") for w in sorted(WORDS)]
    assert [row["state"] for row in rows if row["word"] == "pear"] == ["missing", "unreadable"]
    assert {row["comparable"] for row in rows} == {"no"} and {row["protocol"] for row in rows} == {"corrected"}
    scored = [row for row in rows if row["state"] == "scored"]
    sums = {s: sum(float(row["hist"]) for row in scored if row["style"] == s) / 4 for s in ("00", "01")}
    assert sums == pytest.approx(report["metrics"]["hist"]["per_style"])


class Page(HTMLParser):
    """What a page holds: cards with their attributes, options, addresses, scripts, texts of totals."""

    def __init__(self, text):
        super().__init__()
        self.cards, self.addresses, self.scripts, self.options, self.open, self.texts = [], [], [], [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in ("meta", "input", "img", "link"):
            self.open.append((tag, values.get("id")))
        if tag == "article":
            self.cards.append({**{k.removeprefix("data-"): v for k, v in values.items()}, "refs": 0})
        if tag == "i":
            self.cards[-1]["refs"] += 1
        if tag == "option":
            self.options.append(values.get("value"))
        self.addresses += [values[name] for name in ("src", "href", "action") if name in values]

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, f"{tag} closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "script":
            self.scripts.append(data)
        for _, name in self.open:
            if name:
                self.texts[name] = self.texts.get(name, "") + data


@pytest.fixture
def page(score, made, tmp_path):
    (made / "01" / "pear.png").unlink()
    _, report, _, _ = score("--html", str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    return Page(text), text, report


def test_the_page_stands_alone_and_is_well_formed(page):
    parsed, text, report = page
    assert not parsed.open
    assert parsed.addresses and all(address.startswith("data:image/webp;base64,") for address in parsed.addresses)
    in_styles = re.findall(r"url\(([^)]*)\)", text)
    assert len(in_styles) == 4 and "@import" not in text and "$" not in text.replace("base64,", "")
    for address in [*parsed.addresses, *in_styles]:
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert picture.format == "WEBP" and max(picture.size) == 24
    assert f"{report['metrics']['hist']['value']:.4f}" in parsed.texts["m-hist"]
    assert "not computed: missing dino" in parsed.texts["m-total"]


def test_the_page_shows_every_picture_with_its_references_worst_first(page):
    parsed, _, report = page
    assert sorted((card["style"], card["word"]) for card in parsed.cards) == sorted(
        (row["style"], row["word"]) for row in report["pictures"]
    )
    assert {card["refs"] for card in parsed.cards} == {2}
    assert parsed.cards[0]["state"] == "missing" and parsed.cards[0]["word"] == "pear"
    values = [float(card["m-hist"]) for card in parsed.cards[1:]]
    assert values == sorted(values)
    scores = {(row["style"], row["word"]): row["scores"] for row in report["pictures"]}
    for card in parsed.cards[1:]:
        assert float(card["m-hist"]) == scores[card["style"], card["word"]]["hist"]


def test_the_page_in_headless_chromium(page, tmp_path):
    """Its sorting, filters, bars and pictures as a reader sees them."""
    parsed, _, report = page
    named = [f"{card['style']}/{card['word']}" for card in parsed.cards]
    scores = {name: float(card["m-hist"]) for name, card in zip(named, parsed.cards) if "m-hist" in card}
    gone = ["01/pear"]
    wanted = [  # equal ones keep their order
        ({"sort": "hist"}, sorted(scores, key=scores.get) + gone),
        ({"reverse": True}, sorted(scores, key=lambda name: -scores[name]) + gone),
        ({"reverse": False, "sort": "word"}, sorted(named, key=lambda name: name.split("/")[1])),
        ({"sort": "style"}, sorted(named, key=lambda name: name.split("/")[0])),
        ({"sort": "bad"}, named),
        ({"style": "01"}, [name for name in named if name.startswith("01/")]),
        ({"word": "BÜ"}, ["01/Büro"]),
        ({"style": "", "word": "", "state": "missing"}, gone),
        ({"style": "00"}, []),
        ({"style": "", "state": ""}, named),
    ]
    found = use_page(tmp_path / "page.html", [step for step, _ in wanted])
    (counted, first), *shown = found["shown"]
    assert counted == "8 of 8" and first == named
    for (step, names), (counted, after) in zip(wanted, shown, strict=True):
        assert after == names and counted == f"{len(names)} of 8", step
    assert found["errors"] == [] and found["fetched"] == [] and found["broken"] == 0 and found["images"] == 7
    bars = dict(zip(report["metrics"]["hist"]["per_style"].values(), found["bars"], strict=True))
    largest = max(bars)
    assert bars[largest] > 100
    assert {value: width / bars[largest] for value, width in bars.items()} == pytest.approx(
        {value: max(0, value) / largest for value in bars}, abs=0.01
    )


def test_a_comparison_pairs_pictures_and_names_styles(score, made, tmp_path):
    better = draw_all(tmp_path / "better", seed=0)  # two of its pictures are the references
    (better / "01" / "pear.png").unlink()
    code, report, out, _ = score("--compare", str(made), str(better), "--per-style", generated=None)
    entry = report["differences"]["hist"]
    assert code == 0 and report["pairs"] == 7 and set(entry["per_style"]) == {"00", "01"}
    assert entry["value"] == pytest.approx(entry["b"] - entry["a"])
    assert entry["interval"][0] <= entry["value"] <= entry["interval"][1]
    for own in entry["per_style"].values():
        assert own["value"] == pytest.approx(own["b"] - own["a"])
        assert own["interval"][0] <= own["value"] <= own["interval"][1]
    assert out.startswith("protocol challenge\n") and all(f"\n  {style}  " in out for style in ("00", "01"))
    code, _, out, _ = score("--compare", str(made), str(made), generated=None)
    assert "8 pictures in both" in out and "within chance" in out and "+0.0000" in out
    code, _, out, _ = score("--compare", str(made), str(better), "--metrics", "hist,dino", generated=None)
    assert "not compared: DINO: needs weights" in out


def test_a_page_that_is_interrupted_leaves_nothing(score, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("eval.html._write_cards", stop)
    code = main(["--generated", str(tmp_path / "made"), "--pack", str(tmp_path / "pack"), "--metrics", "hist",
                 "--html", str(tmp_path / "page.html")])  # fmt: skip
    assert code == 130 and not list(tmp_path.glob(".page*")) and not (tmp_path / "page.html").exists()


def test_a_comparison_says_what_is_missing_and_obeys_strict(score, pack, made, tmp_path):
    other = draw_all(tmp_path / "other", seed=0)
    (other / "01" / "pear.png").unlink()
    (other / "00" / "apple.png").write_text("no picture")
    (pack / "00" / "images" / "r9.png").write_text("no picture")
    code, _, out, err = score("--compare", str(made), str(other), "--bootstrap", "0", generated=None)
    assert code == 0 and "warning: reference left out: " in err and "r9.png" in err
    assert f"B: {other}: 6 of 8 pictures (partial score)" in out and f"A: {made}: 8 of 8 pictures\n" in out
    assert "B: missing, not counted: 01/pear" in out and "B: unreadable, not counted: " in out
    (pack / "00" / "images" / "r9.png").unlink()
    assert score("--compare", str(made), str(other), "--strict", generated=None)[0] == 1
    assert score("--compare", str(made), str(made), "--strict", generated=None)[0] == 0
