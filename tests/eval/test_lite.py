"""The lite backbones with the small CLIP where the project keeps it: a total, hashes, what is said when it is not there."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from eval.score import main
from eval.total import PARTS, total_score
from jdiff_style.hashes import write_sums

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import score_cases as cases  # noqa: E402 - its folder has to be on the path


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """A tiny CLIP in place of the project's, with its list of hashes."""
    folder = cases.write_locked_clip(tmp_path / "emoji-clip")
    write_sums(folder)
    monkeypatch.setattr("eval.backbones.LITE_CLIP", folder)
    return folder


@pytest.fixture
def score(tmp_path, capsys):
    """``score(*options, count=3)`` on 2 styles of ``count`` references and words each -> (report, text)."""

    def run(*options, count=3):
        words = tuple(f"word {index}" for index in range(count))
        pack, made = tmp_path / "pack", tmp_path / "made"
        if not pack.is_dir():
            cases.write_pack(pack, references=count, words=words)
            cases.write_generated(made, words=words)
        report = tmp_path / "r.json"
        start = ["--generated", str(made), "--pack", str(pack), "--json", str(report), "--backbones", "lite"]
        # One by one, so that one set of kernels serves all calls.
        assert main([*start, "--batch", "1", *options]) == 0
        return json.loads(report.read_text()), capsys.readouterr().out

    return run


def documented():
    """Report field -> the text beside it in eval/README.md."""
    text = (ROOT / "eval" / "README.md").read_text(encoding="utf-8")
    table = text.split("## Report (`--json`)")[1].split("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    return {name: what for names, what in rows for name in re.findall(r"`([^`]+)`", names)}


def test_lite_alone_gives_a_total_and_the_report_is_as_documented(score, clip):
    report, out = score("--batch", "16", count=10)
    parts = {part: report["metrics"][part]["value"] for part in PARTS}
    assert report["total"]["value"] == pytest.approx(total_score(**parts))
    assert report["total"]["interval"][0] <= report["total"]["value"] <= report["total"]["interval"][1]
    networks = report["backbones"]["networks"]
    digest = (clip / "SHA256SUMS").read_text().split("  model.safetensors")[0][-64:]
    projection = (clip / "SHA256SUMS").read_text().split("  image_projection.safetensors")[0][-64:]
    hashes = {"sha256": digest, "projection_sha256": projection, "image_sha256": networks["dino"]["sha256"]}
    assert networks["clip"] == {"model": "emoji-clip", "path": str(clip), "checked": "SHA-256", **hashes}
    assert f"  clip: emoji-clip (SHA-256 {digest[:12]}…)" in out
    assert "no CLIP" in networks["clip_iqa"]["model"] and len(networks["clip_iqa"]["anchors_sha256"]) == 64
    assert set(networks) == {"clip", "clip_iqa", "dino", "inception", "lpips"}
    assert "Not comparable with the leaderboard: lite backbones" in out and "\ntotal " in out
    known = documented()
    assert set(report) | {"metrics.<name>"} == set(known) | {"metrics"}
    for name in ("dino", "clip_r", "fid", "kid"):
        for key in report["metrics"][name]:
            assert f"`{key}`" in known["metrics.<name>"], (name, key)
    for key in {key for row in report["pictures"] for key in row} - {"scores"}:
        assert f"`{key}`" in known["pictures"], key
    for key in report["counts"]:
        assert f"`{key}`" in known["counts"], key
    for key in {"value", "interval", "not_computed", "missing"}:
        assert f"`{key}`" in known["total"], key


def test_a_subset_of_metrics_uses_the_networks_it_needs(score, clip):
    report, out = score("--metrics", "hist,lpips")
    assert set(report["backbones"]["networks"]) == {"lpips"}
    for name, entry in report["metrics"].items():
        assert (entry["value"] is None) == (name not in ("hist", "lpips"))
    assert set(report["metrics"]["lpips"]["per_style"]) == {"00", "01"} and "DINO" not in out
    assert report["metrics"]["dino"] == {"value": None, "not_computed": "not asked for"}


def test_without_the_small_clip_the_text_says_what_is_missing_and_the_rest_is_scored(score, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.backbones.LITE_CLIP", tmp_path / "none")
    report, out = score("--metrics", "hist,clip_r,clip_score")
    reason = report["metrics"]["clip_r"]["not_computed"]
    assert reason == report["metrics"]["clip_score"]["not_computed"]
    assert reason.startswith(f"needs the small CLIP, and {tmp_path / 'none' / 'config.json'} is not there")
    assert "jdiff export RUN" in reason and "clip=FOLDER" in reason
    assert report["metrics"]["hist"]["value"] is not None and f"CLIP-R not computed: {reason}" in out


@pytest.mark.parametrize("name", ["model.safetensors", "merges.txt", "image_projection.safetensors"])
def test_a_damaged_small_clip_is_named_with_both_hashes_and_not_used(score, clip, name):
    wanted = {line[66:]: line[:64] for line in (clip / "SHA256SUMS").read_text().splitlines()}[name]
    (clip / name).write_bytes((clip / name).read_bytes()[:-1] + b"\x00")
    report, _ = score("--metrics", "hist,clip_r")
    reason = report["metrics"]["clip_r"]["not_computed"]
    assert f"{clip / name} is damaged: its SHA-256 is " in reason and f" instead of {wanted};" in reason
    assert report["metrics"]["hist"]["value"] is not None


def test_a_small_clip_without_its_hashes_is_not_used(score, clip):
    (clip / "SHA256SUMS").unlink()
    report, _ = score("--metrics", "hist,clip_r")
    assert f"{clip / 'SHA256SUMS'} is not there" in report["metrics"]["clip_r"]["not_computed"]


def test_the_small_clip_s_pictures_are_projected_features(score, clip, tmp_path):
    """CLIP-score by hand: the network's features, their roots, the file's matrix; and the same as clip=FOLDER."""
    import torch
    from safetensors.numpy import load_file
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    from eval import weights
    from eval.networks.efficientnet_lite import EfficientNetLite0, prepare

    found = {}
    for label, options in (("lite", ("--metrics", "clip_score,dino")), ("own", ("--metrics", "clip_score"))):
        report, _ = score(*options, *(("--backbones", "official", f"clip={clip}") if label == "own" else ()))
        found[label] = {(r["style"], r["word"]): r["scores"]["clip_score"] for r in report["pictures"]}
    assert found["own"] == pytest.approx(found["lite"], abs=1e-5)
    network = EfficientNetLite0.from_file(weights.find("efficientnet_lite0").path)
    matrix = load_file(clip / "image_projection.safetensors")["weight"].astype(np.float64)
    text, tokenizer = CLIPTextModelWithProjection.from_pretrained(clip), CLIPTokenizer.from_pretrained(clip)
    for (style, word), value in found["lite"].items():
        (path,) = (tmp_path / "made" / style).glob(f"{word}.*")
        features = network.features(torch.from_numpy(prepare(Image.open(path))[None])).numpy()[0].astype(np.float64)
        image = matrix @ (np.sqrt(features) / np.sqrt(features.sum()))
        with torch.no_grad():
            words = text(**tokenizer([word], return_tensors="pt")).text_embeds.numpy()[0].astype(np.float64)
        cosine = image @ words / np.linalg.norm(image) / np.linalg.norm(words)
        assert value == pytest.approx(100 * max(cosine, 0), abs=1e-3)


def test_a_projection_for_another_network_is_refused(score, clip):
    about = json.loads((clip / "image_projection.json").read_text())
    (clip / "image_projection.json").write_text(json.dumps({**about, "sha256": "0" * 64}))
    write_sums(clip)
    report, _ = score("--metrics", "hist,clip_r")
    assert "its projection is for EfficientNet-Lite0 with SHA-256 0000" in report["metrics"]["clip_r"]["not_computed"]


def test_few_pictures_are_few_for_lite_s_rough_fid_too(score, clip):
    report, _ = score("--metrics", "fid")
    reason = "6 generated images and 6 reference images, needs 20 (--minimum)"
    assert report["metrics"]["fid"]["not_computed"] == reason


def test_the_quality_of_lite_falls_with_blur_and_noise(tmp_path, capsys):
    """On true pictures that the anchors were not made of, at two sizes."""
    pack = ROOT / "data" / "packs" / "emoji-2"
    styles = {
        folder.name: [
            folder / "targets" / f"{word}.png"
            for word in list(json.loads((folder / "prompt.json").read_text()).values())[::7]
        ]
        for folder in sorted(pack.glob("0?"))
    }
    noise = np.random.default_rng(0)

    def degrade(image, kind):
        scale = image.width / 128
        if kind.startswith("blur"):
            return image.filter(ImageFilter.GaussianBlur(float(kind[4:]) * scale))
        pixels = np.asarray(image, np.float32)
        return Image.fromarray((pixels + noise.normal(0, float(kind[5:]), pixels.shape)).clip(0, 255).astype(np.uint8))

    found = {}
    for kind in ("noise0", "blur2", "blur4", "noise32", "noise64"):
        for style, paths in styles.items():
            (tmp_path / kind / style).mkdir(parents=True)
            for number, path in enumerate(paths):
                image = Image.open(path).convert("RGB")
                image = image.resize((200, 200), Image.Resampling.BICUBIC) if number % 2 else image
                degrade(image, kind).save(tmp_path / kind / style / path.name)
        words = ["--generated", str(tmp_path / kind), "--pack", str(pack), "--metrics", "clip_iqa"]
        assert main([*words, "--backbones", "lite", "--json", "-", "--bootstrap", "0"]) == 0
        report = json.loads(capsys.readouterr().out)
        rows = {(row["style"], row["word"]): row["scores"] for row in report["pictures"] if row["state"] == "scored"}
        found[kind] = {key: scores["clip_iqa"] for key, scores in rows.items()}
    assert len(found["noise0"]) == 8
    means = {kind: np.mean(list(values.values())) for kind, values in found.items()}
    assert means["noise0"] > means["blur2"] > means["blur4"] and means["noise0"] > means["noise32"] > means["noise64"]
    assert means["noise0"] > 0.6 and max(means["blur4"], means["noise64"]) < 0.45
    for key, value in found["noise0"].items():
        assert value > max(found["blur4"][key], found["noise64"][key]), key


def test_the_clip_that_comes_with_the_project_knows_true_pictures_and_their_names(tmp_path, capsys):
    """The pack's own true pictures, first under their names, then each under the name of the next."""
    pack = ROOT / "data" / "packs" / "emoji-2"
    found = {}
    for label, shift in (("right", 0), ("wrong", 7)):
        for folder in sorted(pack.glob("0?")):
            words = list(json.loads((folder / "prompt.json").read_text()).values())
            place = tmp_path / label / folder.name
            place.mkdir(parents=True)
            for word, shown in zip(words, words[shift:] + words[:shift]):
                (place / f"{word}.png").write_bytes((folder / "targets" / f"{shown}.png").read_bytes())
        metrics = "all" if label == "right" else "clip_r,clip_score,hist"
        words = ["--generated", str(tmp_path / label), "--pack", str(pack), "--metrics", metrics, "--bootstrap", "20"]
        assert main([*words, "--backbones", "lite", "--minimum", "2", "--json", "-"]) == 0
        found[label] = json.loads(capsys.readouterr().out)
    right, wrong = ({name: entry["value"] for name, entry in found[key]["metrics"].items()} for key in ("right", "wrong"))
    names = found["right"]["backbones"]["networks"]["clip"]
    assert names["path"] == str(ROOT / "data" / "base" / "emoji-clip") and names["checked"] == "SHA-256"
    parts = {part: right[part] for part in PARTS}
    assert found["right"]["total"]["value"] == pytest.approx(total_score(**parts)) and found["right"]["total"]["value"] > 0.3
    assert right["clip_r"] > 0.5 and wrong["clip_r"] < right["clip_r"] / 2
    assert wrong["clip_score"] < right["clip_score"] and wrong["hist"] == pytest.approx(right["hist"])
