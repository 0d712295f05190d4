"""Networks through the score: equal to transformers and torchmetrics (golden/make_scores.py); lite; what is missing."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.backbones import FEATURES, choose_backbones
from eval.metrics import METRICS
from eval.preprocess import LITE_INPUT
from eval.score import main
from eval.total import PARTS, total_score
from jdiff_style.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import score_cases as cases  # noqa: E402 - its folder has to be on the path


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    cases.write_pack(folder / "pack")
    cases.write_generated(folder / "made")
    cases.write_dino(folder / "dino")
    cases.write_clip(folder / "clip")
    return folder


@pytest.fixture
def score(root, tmp_path, capsys):
    def run(*options):
        words = ["--generated", str(root / "made"), "--pack", str(root / "pack"), "--json", str(tmp_path / "r.json")]
        assert main([*words, *options]) == 0
        out, err = capsys.readouterr()
        return json.loads((tmp_path / "r.json").read_text()), out, err

    return run


def own(root, *more):
    return ["--backbones", f"dino={root / 'dino'}", f"clip={root / 'clip'}", f"clip_iqa={root / 'clip'}", *more]


def test_scores_equal_transformers_and_torchmetrics(score, root):
    expected = json.loads((GOLDEN / "scores.json").read_text())
    names = "dino,clip_iqa,clip_r,clip_r_top1,clip_score"
    report, out, _ = score(*own(root), "--metrics", names)
    found = {(row["style"], row["word"]): row["scores"] for row in report["pictures"]}
    for name in names.split(","):
        for key, value in expected[name].items():
            assert found[tuple(key.split("/"))][name] == pytest.approx(value, abs=1e-4), (name, key)
        # All styles are of one size, so means over styles and over all pictures agree.
        assert report["metrics"][name]["value"] == pytest.approx(np.mean(list(expected[name].values())), abs=1e-4)
        low, high = report["metrics"][name]["interval"]
        assert low <= report["metrics"][name]["value"] <= high
    # Neither all yes nor all no, or the equality above would say little.
    assert all(np.std(list(expected[name].values())) > 0.2 for name in ("clip_iqa", "clip_r", "clip_r_top1"))
    assert report["metrics"]["clip_r"]["candidates"] == len(cases.CANDIDATES)
    assert report["backbones"]["kind"] == "official" and not report["backbones"]["comparable"]
    for role in ("dino", "clip", "clip_iqa"):
        used = report["backbones"]["networks"][role]
        assert len(used["sha256"]) == 64 and used["sha256"][:12] in out
    assert "Not comparable with the leaderboard: dino from" in out


def test_a_comparison_and_the_table_state_the_networks_with_their_hashes(score, root, tmp_path, capsys):
    report, _, _ = score(*own(root), "--metrics", "dino", "--csv", str(tmp_path / "table.csv"))
    digest = report["backbones"]["networks"]["dino"]["sha256"]
    assert f",challenge,official,dino={digest[:12]},no," in (tmp_path / "table.csv").read_text().splitlines()[1]
    words = ["--compare", str(root / "made"), str(root / "made"), "--pack", str(root / "pack"), "--metrics", "dino"]
    assert main([*words, *own(root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("protocol challenge\nbackbones official\n") and f"(SHA-256 {digest[:12]}…)" in out
    assert "\nNot comparable with the leaderboard: dino from" in out


def test_a_second_run_reads_all_from_the_cache_and_gives_the_same(score, root, monkeypatch):
    first, _, _ = score(*own(root), "--metrics", "dino,clip_iqa")
    monkeypatch.setattr("eval.extractors._load_model", lambda *_: pytest.fail("a network was loaded"))
    second, _, _ = score(*own(root), "--metrics", "dino,clip_iqa")
    assert first == second


def test_lite_works_at_once_and_says_so_everywhere(score, root, tmp_path):
    # Pictures one by one, so that one set of kernels serves all calls.
    size = {"styles": ("00",), "words": cases.WORDS[:3]}
    pack, made = cases.write_pack(tmp_path / "p", references=2, **size), cases.write_generated(tmp_path / "m", **size)
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    names = "dino,hist,lpips,fid,clip_iqa,clip_r,kid,diversity,copies"
    lite = ["--backbones", "lite", f"clip={root / 'clip'}", f"clip_iqa={root / 'clip'}"]
    options = [*lite, "--metrics", names, "--minimum", "2", "--html", str(page), "--csv", str(table)]
    options += ["--batch", "1", "--pack", str(pack), "--generated", str(made)]
    report, out, _ = score(*options)
    for name in names.split(","):
        low, high = METRICS[name].range
        assert low <= report["metrics"][name]["value"] <= high
    parts = {part: report["metrics"][part]["value"] for part in PARTS}
    assert report["total"]["value"] == pytest.approx(total_score(**parts))
    assert report["total"]["interval"][0] <= report["total"]["value"] <= report["total"]["interval"][1]
    assert report["not_comparable"].startswith("not comparable with the leaderboard: lite backbones, clip from ")
    assert not report["backbones"]["comparable"] and report["backbones"]["kind"] == "lite"
    assert "Not comparable with the leaderboard: lite backbones" in out
    assert "Not comparable with the leaderboard: lite backbones" in page.read_text()
    assert all(",challenge,lite,clip=" in line and ",no," in line for line in table.read_text().splitlines()[1:])
    again, _, _ = score(*options)
    assert again["metrics"] == report["metrics"] and again["total"] == report["total"]


def test_a_folder_against_itself_is_perfect_and_noise_is_worse_than_blur(root, tmp_path, capsys):
    """With the lite networks: the same pictures, lightly blurred ones, noisy ones."""
    from PIL import ImageFilter

    names = [path.stem for path in sorted((root / "pack" / "00" / "images").iterdir())][:1]
    pack = tmp_path / "pack" / "00"
    (pack / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    found = {}
    for name in names:
        clean = Image.open(root / "pack" / "00" / "images" / f"{name}.png").resize((96, 96))
        clean.save(pack / "images" / f"{name}.png")
        noise = Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
        kinds = {"same": clean, "blur": clean.filter(ImageFilter.GaussianBlur(1)), "noise": noise}
        for kind, image in kinds.items():
            (tmp_path / kind / "00").mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / kind / "00" / f"{name}.png")
    (pack / "prompt.json").write_text(json.dumps(dict(enumerate(names))))
    for kind in kinds:
        words = ["--pack", str(pack.parent), "--metrics", "dino,lpips,copies", "--backbones", "lite", "--batch", "1"]
        assert main(["--generated", str(tmp_path / kind), *words, "--json", "-"]) == 0
        entries = json.loads(capsys.readouterr().out)["metrics"]
        found[kind] = {name: entries[name]["value"] for name in ("dino", "lpips", "copies")}
    assert found["same"] == pytest.approx({"dino": 1, "lpips": 0, "copies": 1}, abs=1e-6)
    assert found["same"]["lpips"] < found["blur"]["lpips"] < found["noise"]["lpips"]
    assert found["same"]["dino"] > found["blur"]["dino"] > found["noise"]["dino"]
    assert found["noise"]["copies"] == 0


def test_each_protocol_scales_what_the_official_clip_iqa_sees(monkeypatch):
    """torchmetrics divides by data_range, which the checker left at 1: 0..255 enters the normalisation unscaled."""
    import torch

    from eval.extractors import clip_iqa
    from eval.networks.clip_resnet import DEVIATION, MEAN, ClipResNet

    class Colour:
        def quality_texts(self):
            return torch.ones(2, 3)

        def quality(self, images, texts):
            assert texts.shape == (2, 3)
            return images.mean(dim=(2, 3))

    monkeypatch.setattr(ClipResNet, "from_file", lambda path: Colour())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    for protocol, scale in (("challenge", 1.0), ("corrected", 255.0)):
        network = clip_iqa(Path("RN50.pt"), "00", protocol)
        expected = (pixels.mean(axis=(2, 3)) / scale - np.array(MEAN)) / np.array(DEVIATION)
        assert network.compute(pixels) == pytest.approx(expected, rel=1e-5)
        assert protocol in network.key


@pytest.mark.parametrize("features", [{"fid64"}, {"fid2048"}, {"fid64", "fid2048"}])
def test_inception_runs_once_and_no_deeper_than_needed(features, monkeypatch):
    import torch

    from eval.extractors import inception
    from eval.networks.inception import FIDInception

    asked = []

    class Depths:
        def __call__(self, images, wanted):
            asked.append(tuple(wanted))
            assert images.dtype == torch.uint8
            return {name: torch.full((len(images), int(name)), float(name)) for name in wanted}

    monkeypatch.setattr(FIDInception, "from_file", lambda path: Depths())
    network = inception(Path("file"), "00", features)
    rows = network.compute(np.zeros((2, 3, 5, 5), np.uint8))
    assert asked == [tuple(name for name in ("64", "2048") if f"fid{name}" in features)]
    assert set(network.gives) == features
    for name, part in network.gives.items():
        width = int(name.removeprefix("fid"))
        assert rows[:, part].shape == (2, width) and (rows[:, part] == width).all()


def test_drift_compares_two_folders(score, root, tmp_path, capsys):
    options = [*own(root), "--metrics", "drift,dino", "--drift", str(root / "made")]
    report, _, _ = score(*options, str(root / "made"))
    assert report["metrics"]["drift"]["value"] == pytest.approx(0, abs=1e-6)
    other = cases.write_generated(tmp_path / "other")
    cases.picture(9).save(other / "00" / "cat.png")
    report, _, _ = score(*options, str(other))
    assert 0 < report["metrics"]["drift"]["value"] < 2
    (other / "00" / "cat.png").unlink()
    words = ["--generated", str(root / "made"), "--pack", str(root / "pack"), *options, str(other)]
    assert main(words) == 1 and "cat.png is missing; draw the same words" in capsys.readouterr().err


def test_few_images_are_said_and_nothing_is_zero(score):
    report, out, _ = score("--backbones", "lite", "--metrics", "fid_2048,hist")
    reason = "16 generated images and 6 reference images, needs 2048 (--minimum)"
    assert report["metrics"]["fid_2048"]["not_computed"] == reason and report["metrics"]["hist"]["value"] is not None
    assert "FID 2048 not computed: 16 generated images and 6 reference" in out


def test_the_lite_input_is_that_of_the_network():
    from eval.networks.efficientnet_lite import prepare

    for size in ((300, 211), (97, 131), (256, 256)):
        rgb = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        assert np.array_equal(LITE_INPUT(rgb), prepare(Image.fromarray(rgb)))


@pytest.mark.parametrize("feature", [name for name, role in FEATURES.items() if role])
def test_missing_weights_are_named_with_their_publisher(feature):
    from eval.backbones import Unavailable

    with pytest.raises(Unavailable, match=r"^needs weights: .* is missing .*https://"):
        choose_backbones(["official"]).require(feature)


def test_own_folders_must_be_models(tmp_path):
    with pytest.raises(UserError, match=r"clip=.* lacks config.json or model.safetensors"):
        choose_backbones([f"clip={tmp_path}"]).require("clip")
    with pytest.raises(UserError, match="neither official nor lite"):
        choose_backbones(["medium"])


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (["dino={clip}"], "dino={clip} is a model of type 'clip'; dino needs one of type 'dinov2'"),
        (["clip_iqa={dino}"], "clip_iqa={dino} is a model of type 'dinov2'; clip_iqa needs one of type 'clip'"),
    ],
)
def test_a_folder_of_another_model_is_refused(root, capsys, roles, message):
    names = {"clip": root / "clip", "dino": root / "dino"}
    words = ["--backbones", *(role.format(**names) for role in roles), "--metrics", "dino,clip_iqa"]
    assert main(["--generated", str(root / "made"), "--pack", str(root / "pack"), *words]) == 1
    assert message.format(**names) in capsys.readouterr().err


def test_weights_that_lack_a_part_are_refused_rather_than_made_up(root, tmp_path, capsys):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(root / "dino", tmp_path / "dino")
    state = load_file(root / "dino" / "model.safetensors")
    state.pop("layernorm.weight")
    save_file(state, tmp_path / "dino" / "model.safetensors", {"format": "pt"})
    words = ["--generated", str(root / "made"), "--pack", str(root / "pack"), "--metrics", "dino"]
    assert main([*words, "--backbones", f"dino={tmp_path / 'dino'}"]) == 1
    assert "its weights lack layernorm.weight (1 such)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("role", "file", "old", "new"),
    [
        ("dino", "preprocessor_config.json", '"height": 28', '"height": 14'),
        ("dino", "config.json", '"gelu"', '"relu"'),
        ("clip_iqa", "merges.txt", "0.2\n", "0.2\ng o\n"),
    ],
)
def test_edited_settings_beside_the_same_weights_are_another_network_to_the_cache(root, tmp_path, role, file, old, new):
    folder = tmp_path / "model"
    shutil.copytree(root / ("dino" if role == "dino" else "clip"), folder)
    def keys():
        return [network.key for network in choose_backbones([f"{role}={folder}"]).extractors({role})]

    before = keys()
    assert keys() == before
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    assert keys() != before


def test_clip_r_with_another_list_is_not_comparable_and_the_list_is_named(root, score, tmp_path, monkeypatch):
    """As if the folders were the published ones: nothing but the list differs."""
    monkeypatch.setattr("eval.backbones.Backbones.deviation", None)
    def run(*options):
        report, _, _ = score(*own(root), "--metrics", "clip_r", *options)
        return report["not_comparable"], report["metrics"]["clip_r"]

    reason, entry = run()
    assert reason is None and entry["list"] == "the pack's clip_r_prompts.txt" and len(entry["list_sha256"]) == 64
    (tmp_path / "list.txt").write_text("\n".join([*cases.CANDIDATES, "sun"]))
    other, changed = run("--clip-r-prompts", str(tmp_path / "list.txt"))
    assert other.endswith(f"CLIP-R among {tmp_path / 'list.txt'}") and changed["list_sha256"] != entry["list_sha256"]
    bare = shutil.copytree(root / "pack", tmp_path / "bare")
    (bare / "clip_r_prompts.txt").unlink()
    assert run("--pack", str(bare))[0].endswith("CLIP-R among the pack's prompt words")


def test_all_words_are_embedded_in_one_call_by_one_tokenizer(score, root, monkeypatch):
    from eval import extractors

    calls, original = [], extractors._load_tokenizer
    monkeypatch.setattr(extractors, "_load_tokenizer", lambda folder: calls.append("tokenizer") or original(folder))
    embed = extractors.Clip.embed_texts
    def counted(self, texts):
        if any(text not in self._texts for text in texts):
            calls.append(len(texts))
        return embed(self, texts)

    monkeypatch.setattr(extractors.Clip, "embed_texts", counted)
    score(*own(root), "--metrics", "clip_r,clip_r_top1,clip_score", "--no-cache")
    assert calls.count("tokenizer") == 1 and len(calls) == 2


def test_drift_tells_pictures_by_their_whole_path_and_names_extra_ones(score, root, tmp_path):
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    for number, name in enumerate(("a/x/cat.png", "b/x/cat.png", "b/x/cat.jpg")):
        for folder, seed in ((base, number), (tuned, number + (name == "a/x/cat.png") * 10)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            cases.picture(seed).save(folder / name)
    cases.picture(7).save(tuned / "b" / "more.png")
    report, _, _ = score(*own(root), "--metrics", "drift", "--drift", str(base), str(tuned))
    drift = report["metrics"]["drift"]
    assert set(drift["per_style"]) == {"a/x", "b/x"}
    assert drift["per_style"]["a/x"] > 1e-3 and drift["per_style"]["b/x"] == pytest.approx(0, abs=1e-6)
    assert report["unexpected"] == [str(tuned / "b" / "more.png")]


def test_drift_alone_looks_at_no_generated_picture_and_loads_one_network(score, root, tmp_path, monkeypatch):
    from eval import extractors

    loaded, looked = [], []
    load, compute = extractors._load_model, extractors.VectorNetwork.compute
    monkeypatch.setattr(extractors, "_load_model", lambda *words: loaded.append(words) or load(*words))
    monkeypatch.setattr(
        extractors.VectorNetwork, "compute", lambda self, inputs: looked.append(len(inputs)) or compute(self, inputs)
    )
    folder = tmp_path / "base"
    folder.mkdir()
    cases.picture(5).save(folder / "cat.png")
    options = ["--drift", str(folder), str(folder), "--no-cache", "--batch", "1"]
    score(*own(root), "--metrics", "hist,drift", *options)
    assert sum(looked) == 2 and len(loaded) == 1
    score(*own(root), "--metrics", "dino,drift", *options)
    assert len(loaded) == 2
