"""eval/score.py through its command line, and the report it writes."""

import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.metrics import METRICS, choose_metrics
from eval.score import main
from eval.total import PARTS
from jdiff_style.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "eval" / "score.py"
WORDS = {"00": ["Ring", "Ice cream"], "01": ["Cat", "Dog"]}


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    # Few colours, so that histograms of different pictures differ strongly.
    Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)).resize((32, 24), Image.Resampling.NEAREST).save(path)


@pytest.fixture
def pack(tmp_path):
    for number, (style, words) in enumerate(WORDS.items()):
        for index, name in enumerate(("apple", "ball")):
            draw(tmp_path / "pack" / style / "images" / f"{name}.png", 10 * number + index)
        prompts = {str(index): word for index, word in enumerate(words)}
        (tmp_path / "pack" / style / "prompt.json").write_text(json.dumps(prompts))
    return tmp_path / "pack"


@pytest.fixture
def generated(tmp_path):
    for number, (style, words) in enumerate(WORDS.items()):
        for index, word in enumerate(words):
            draw(tmp_path / "made" / style / f"{word}.png", 100 + 10 * number + index)
    return tmp_path / "made"


@pytest.fixture
def score(pack, generated, capsys, tmp_path):
    """``score(*options)`` -> (exit code, report, standard output, standard error)."""

    def run(*options):
        code = main(["--generated", str(generated), "--pack", str(pack), "--json", str(tmp_path / "r.json"), *options])
        captured = capsys.readouterr()
        report = json.loads((tmp_path / "r.json").read_text()) if (tmp_path / "r.json").exists() else None
        return code, report, captured.out, captured.err

    return run


def test_a_full_folder(score):
    code, report, out, _ = score()
    assert code == 0 and not report["partial"]
    assert report["protocol"] == "challenge"
    counts = {"styles": 2, "references": 4, "expected": 4, "scored": 4, "missing": 0, "unreadable": 0, "unexpected": 0}
    assert report["counts"] == counts
    hist = report["metrics"]["hist"]
    assert hist["value"] == pytest.approx(sum(hist["per_style"].values()) / 2)
    assert f"{hist['value']:.4f}" in out


def test_references_against_themselves_give_one(pack, capsys, tmp_path):
    """The pack's own pictures, each alone in its style, are perfect."""
    for style in WORDS:
        (pack / style / "images" / "ball.png").unlink()
        (pack / style / "prompt.json").write_text('{"0": "apple"}')
        shutil.copytree(pack / style / "images", tmp_path / "made" / style)
    assert main(["--generated", str(tmp_path / "made"), "--pack", str(pack), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["hist"]["value"] == 1


def test_metrics_without_weights_are_not_computed_and_never_zero(score):
    """Each says which file is missing and where it is published."""
    _, report, out, _ = score()
    for name in set(PARTS) - {"hist"}:
        entry = report["metrics"][name]
        assert set(entry) == {"value", "not_computed"} and entry["value"] is None
        assert "needs" in entry["not_computed"]
    for name, words in {
        "dino": "https://huggingface.co/facebook/dinov2-base",
        "fid": "weights-inception-2015-12-05-6726825d.pth is missing",
        "lpips": "squeezenet1_1-b8a52dc0.pth is missing",
        "clip_iqa": "RN50.pt is missing",
        "clip_r": "openai/clip-vit-large-patch14 is missing",
    }.items():
        assert words in report["metrics"][name]["not_computed"]
    total = report["total"]
    assert total["value"] is None and set(total["missing"]) == set(PARTS) - {"hist"}
    assert "0.0000" not in out and "total not computed: missing dino" in out
    assert report["metrics"]["kid"] == {"value": None, "not_computed": "not asked for"} and "KID" not in out


def test_metrics_not_asked_for(score):
    _, report, _, _ = score("--metrics", "dino,fid")
    assert report["metrics"]["hist"] == {"value": None, "not_computed": "not asked for"}
    assert "weights" in report["metrics"]["dino"]["not_computed"]
    assert set(choose_metrics("all")) == set(METRICS) and set(choose_metrics("challenge")) == set(PARTS)
    assert choose_metrics("kid, challenge")[0] == "kid" and choose_metrics("hist,hist") == ["hist"]
    for text in ("", "hist,nonsense"):
        with pytest.raises(UserError, match="--metrics"):
            choose_metrics(text)


@pytest.mark.parametrize("protocol", ["challenge", "corrected"])
def test_missing_and_unreadable_pictures(score, generated, protocol):
    full = score("--protocol", protocol)[1]["metrics"]["hist"]["per_style"]
    (generated / "00" / "Ring.png").unlink()
    damaged = generated / "01" / "Dog.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    code, report, out, _ = score("--protocol", protocol)
    assert code == 0 and report["partial"]
    assert report["missing"] == ["00/Ring"]
    assert [entry["path"] for entry in report["unreadable"]] == [str(damaged)]
    assert report["counts"]["scored"] == 2
    assert "partial" in out and "00/Ring" in out and str(damaged) in out
    values = report["metrics"]["hist"]["per_style"]
    if protocol == "corrected":
        # The one that is left counts half; the missing one is a failure.
        assert "counted as failures" in out
        assert values["00"] != full["00"]
    assert score("--protocol", protocol, "--strict")[0] == 1


def test_corrected_counts_a_missing_picture_as_zero(score, generated):
    alone = generated / "00" / "Ring.png"
    alone.unlink()
    challenge = score()[1]["metrics"]["hist"]["per_style"]["00"]
    generated_only = score("--protocol", "corrected")[1]["metrics"]["hist"]["per_style"]["00"]
    shutil.copy(generated / "00" / "Ice cream.png", alone)
    both = score("--protocol", "corrected")[1]["metrics"]["hist"]["per_style"]["00"]
    assert generated_only == pytest.approx(both / 2)
    assert challenge == pytest.approx(score()[1]["metrics"]["hist"]["per_style"]["00"])


def test_a_style_without_pictures_is_left_out_by_the_checker(score, generated):
    shutil.rmtree(generated / "00")
    code, report, out, _ = score()
    hist = report["metrics"]["hist"]
    assert code == 0 and hist["per_style"]["00"] is None
    assert hist["value"] == hist["per_style"]["01"]
    assert report["styles_without_pictures"] == ["00"]
    assert "styles without a readable picture, not counted: 00\n" in out and "missing, not counted: 00/Ring" in out
    assert "styles without a readable picture, counted as failures: 00\n" in score("--protocol", "corrected")[2]


def test_nothing_to_score_is_a_failure(score, generated):
    for style, words in WORDS.items():
        for word in words:
            (generated / style / f"{word}.png").unlink()
    code, report, _, _ = score()
    assert code == 1
    assert report["metrics"]["hist"] == {"value": None, "not_computed": "no generated picture could be read"}


def test_other_endings_and_files_nobody_asked_for(score, generated):
    before = score()[1]["metrics"]["hist"]["value"]
    ring = generated / "00" / "Ring.png"
    Image.open(ring).save(generated / "00" / "Ring.webp", lossless=True)
    ring.rename(generated / "00" / "Ring.PNG")
    Image.open(generated / "01" / "Cat.png").save(generated / "01" / "Cat.webp", lossless=True)
    (generated / "01" / "Cat.png").unlink()
    draw(generated / "01" / "Zebra.png", 5)
    (generated / "01" / "notes.txt").write_text("x")
    (generated / "99").mkdir()
    _, report, out, _ = score()
    assert report["metrics"]["hist"]["value"] == pytest.approx(before)
    assert {Path(path).name for path in report["unexpected"]} == {"Ring.webp", "Zebra.png", "notes.txt", "99"}
    assert "not asked for, ignored" in out


def test_dry_run_reads_no_picture_and_writes_nothing(score, generated):
    (generated / "00" / "Ring.png").write_text("damaged")
    code, report, out, _ = score("--dry-run")
    assert code == 0 and report is None
    assert "4 of 4 pictures in 2 styles" in out and "\ncomputed: hist\n" in out and "not computed: dino (" in out


def test_per_style_lines(score):
    assert "\n  01 " in score("--per-style")[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--generated", "nowhere"], "--generated: nowhere is not a folder"),
        (["--pack", "nowhere"], "nowhere is not a folder"),
        (["--metrics", "colour"], "--metrics: 'colour' is unknown"),
        (["--json", "nowhere/r.json"], "--json: nowhere/r.json cannot be written"),
        (["--total", "hist=1"], "--total: takes given parts only"),
        (["--compare", "a", "b"], "--compare: takes its two folders itself"),
        (["--backbones", "heavy"], "--backbones: 'heavy' is neither official nor lite"),
        (["--backbones", "dino=nowhere"], "--backbones: dino=nowhere is not a folder"),
        (["--weights", "nowhere"], "--weights: nowhere is not there"),
        (["--batch", "0"], "--batch: 0 is too small; give 1 or more"),
        (["--copy-threshold", "2"], "--copy-threshold: 2.0 is no cosine"),
        (["--clip-r-prompts", "nowhere.txt"], "--clip-r-prompts: nowhere.txt is missing"),
        (["--html", "nowhere/page.html"], "--html: nowhere/page.html cannot be written"),
        (["--cache", "here", "--no-cache"], "--no-cache: contradicts --cache"),
    ],
)
def test_bad_input_gets_one_sentence(score, change, message):
    code, _, _, err = score(*change)
    assert code == 1
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_a_folder_with_none_of_the_styles(score, generated):
    for style in WORDS:
        (generated / style).rename(generated / f"style{style}")
    code, _, _, err = score()
    assert code == 1 and "holds none of the pack's 2 styles (00, 01)" in err


def test_total_of_given_parts(capsys):
    parts = ["dino=.1202", "hist=.7791", "fid=1.6746", "lpips=.4287", "clip_iqa=.7577", "clip_r=.9307"]
    assert main(["--total", *parts]) == 0
    assert capsys.readouterr().out == "total 0.5121\n"
    assert main(["--total", *parts[1:]]) == 1
    assert "missing dino" in capsys.readouterr().err


def test_as_a_script_it_needs_neither_torch_nor_jittor(generated, pack, tmp_path):
    """Run by path from another folder, with torch and jittor made impossible to import."""
    for name in ("torch", "jittor", "diffusers"):
        (tmp_path / "block" / name).mkdir(parents=True)
        (tmp_path / "block" / name / "__init__.py").write_text("raise ImportError('not wanted')")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--generated", str(generated), "--pack", str(pack), "--json", "-", "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "block"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["scored"] == 4


def test_what_is_not_scored_is_listed(score, pack, generated):
    """A style without words, its folder, loose pictures, folders in a style's folder."""
    draw(pack / "02" / "images" / "a.png", 1)
    draw(generated / "02" / "a.png", 1)
    draw(generated / "loose.png", 1)
    (generated / "notes.txt").write_text("")
    draw(generated / "00" / "more" / "Ring.png", 1)
    _, report, out, _ = score("--metrics", "hist")
    assert report["styles_without_words"] == ["02"] and "styles without prompt words, not scored: 02" in out
    found = {str(Path(path).relative_to(generated)) for path in report["unexpected"]}
    assert found == {"02", "loose.png", "00/more"} and report["counts"]["unexpected"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lpips-net", "vgg", "--backbones", "lite"], "--lpips-net: vgg is not used with lite backbones"),
        (["--metrics", "hist", "--drift", "a", "b"], "--drift: is for the metric drift; add it: --metrics hist,drift"),
    ],
)
def test_options_that_would_do_nothing_are_refused(score, options, message):
    code, _, _, err = score(*options)
    assert code == 1 and message in err and err.count("\n") == 1


def test_a_reference_with_damaged_exif_data_is_left_out_with_a_line(score, pack):
    path = pack / "00" / "images" / "ball.png"
    data, chunk = path.read_bytes(), b"eXIfII*\0"
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:])
    code, report, out, err = score("--metrics", "hist")
    assert code == 0 and [entry["path"] for entry in report["references_left_out"]] == [str(path)]
    assert "warning: reference left out: " in err and f"references left out: {path} (" in out


def test_a_reference_that_only_scoring_cannot_read_is_left_out_and_the_rest_scored(score, pack, tmp_path):
    before = score()[1]["metrics"]["hist"]["per_style"]
    thin = pack / "00" / "images" / "thin.png"
    Image.new("RGB", (90, 2)).save(thin)
    code, report, out, _ = score("--html", str(tmp_path / "page.html"))
    reason = "too thin to be a generated picture (90x2, at most 16 times as long)"
    assert code == 0 and report["references_left_out"] == [{"path": str(thin), "reason": reason}]
    assert report["counts"]["references"] == 4 and report["metrics"]["hist"]["per_style"] == before
    assert f"references left out: {thin} ({reason})" in out
    assert (tmp_path / "page.html").read_text().count("background-image") == 4
    code, _, _, err = score("--strict")
    assert code == 1 and f"--pack: {thin}: {reason}; repair or remove that reference" in err
    for name in ("apple", "ball"):
        (pack / "00" / "images" / f"{name}.png").unlink()
    code, _, _, err = score()
    assert code == 1 and f"--pack: style 00: none of its references can be read (thin.png: {reason})" in err


def test_a_name_that_another_system_decomposed_is_the_same_word(score, pack, generated):
    (pack / "00" / "prompt.json").write_text(json.dumps({"0": "B\u00fcro", "1": "Ice cream"}))
    (generated / "00" / "Ring.png").rename(generated / "00" / "Bu\u0308ro.png")
    _, report, _, _ = score()
    assert report["counts"]["scored"] == 4 and report["counts"]["unexpected"] == 0
