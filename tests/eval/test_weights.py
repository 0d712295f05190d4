"""Finding weights: where, in which order, and what is said when they are missing or damaged."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from eval import weights
from eval.backbones import choose_backbones
from jdiff_style.errors import UserError

CONTENT = b"weights" * 100


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with empty caches and one made-up file in the table."""
    for name in ("JDIFF_WEIGHTS", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = weights.WeightFile(
        "made_up", "made-up.pth", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "MIT", "https://example.org/made-up.pth"
    )
    monkeypatch.setitem(weights.FILES, "made_up", entry)
    return tmp_path


def put(folder: Path, content: bytes = CONTENT, name: str = "made-up.pth") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_a_missing_file_is_named_with_its_place(machine):
    with pytest.raises(UserError) as error:
        weights.find("made_up", [machine / "mine"])
    text = str(error.value)
    assert "made-up.pth is missing" in text and "https://example.org/made-up.pth" in text and "MIT" in text
    assert str(machine / "mine") in text and str(machine / "cache/torch/hub/checkpoints") in text


def test_the_places_in_their_order(machine, monkeypatch):
    hub = put(machine / "cache/torch/hub/checkpoints")
    assert weights.find("made_up").path == hub
    monkeypatch.setenv("JDIFF_WEIGHTS", os.pathsep.join([str(machine / "none"), str(machine / "second")]))
    second = put(machine / "second")
    assert weights.find("made_up").path == second
    first = put(machine / "first")
    assert weights.find("made_up", [machine / "first"]).path == first
    assert weights.find("made_up", [first]).path == first
    monkeypatch.delenv("JDIFF_WEIGHTS")
    other = put(machine / "first", b"something else", "other.pth")
    assert weights.find("made_up", [other]).path == hub


def test_what_is_found_is_hashed(machine):
    found = weights.find("made_up", [put(machine / "x").parent])
    assert (found.name, found.sha256) == ("made_up", hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.parametrize("content", [CONTENT[:-1], b"", CONTENT[:-1] + b"x"])
def test_a_damaged_file_stops_the_search(machine, content):
    """Another copy elsewhere does not hide it."""
    put(machine / "cache/torch/hub/checkpoints")
    path = put(machine / "mine", content)
    with pytest.raises(UserError) as error:
        weights.find("made_up", [machine / "mine"])
    text = str(error.value)
    assert str(path) in text and "damaged or another file" in text
    assert hashlib.sha256(CONTENT).hexdigest() in text and hashlib.sha256(content).hexdigest() in text
    assert (f"{len(content)} bytes of {len(CONTENT)}" in text) == (len(content) != len(CONTENT))


def test_a_file_that_changes_is_hashed_again(machine):
    path = put(machine / "mine")
    weights.find("made_up", [machine / "mine"])
    path.write_bytes(b"changed")
    with pytest.raises(UserError, match="damaged"):
        weights.find("made_up", [machine / "mine"])


def test_a_package_that_carries_it_counts(machine, monkeypatch):
    package = machine / "site" / "carrier"
    put(package / "inside")
    (package / "__init__.py").write_text("raise RuntimeError('located, not imported')")
    monkeypatch.syspath_prepend(str(machine / "site"))
    entry = replace(weights.FILES["made_up"], packages=(("no_such_package", "x"), ("carrier", "inside/made-up.pth")))
    monkeypatch.setitem(weights.FILES, "made_up", entry)
    assert weights.find("made_up").path == package / "inside/made-up.pth"


def test_the_small_network_is_installed():
    found = weights.find("efficientnet_lite0")
    assert found.path.stat().st_size == weights.FILES["efficientnet_lite0"].size


def test_the_table_agrees_with_the_published_names():
    """torchvision and torch-fidelity put the first digits of the hash into the name; so does EfficientNet's package."""
    for name in ("inception", "squeezenet1_1", "alexnet", "vgg16", "efficientnet_lite0"):
        entry = weights.FILES[name]
        assert entry.file.rsplit("-", 1)[1] == f"{entry.sha256[:8]}.pth"
    assert all(len(entry.sha256) == 64 and entry.size > 0 and entry.licence for entry in weights.FILES.values())


# --- model folders -----------------------------------------------------------------------------------------------------
DINO_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "patch_size": 14}
CLIP_LARGE = {
    "projection_dim": 768,
    "text_config": {"hidden_size": 768},
    "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14},
}
CLIP_BASE = CLIP_LARGE | {
    "projection_dim": 512, "vision_config": {"hidden_size": 768, "num_hidden_layers": 12, "patch_size": 32}
}  # fmt: skip


def model(folder: Path, kind: str = "dinov2", weight_file: str | None = "model.safetensors", sizes=None) -> Path:
    folder.mkdir(parents=True)
    sizes = sizes or {"dinov2": DINO_BASE, "clip": CLIP_LARGE}[kind]
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **sizes}))
    if weight_file:
        (folder / weight_file).write_bytes(CONTENT)
    return folder


def test_a_model_folder_is_found_by_itself_and_by_its_name(machine):
    itself = model(machine / "any name")
    found = weights.find_model("dinov2", [itself])
    assert (found.path, found.sha256) == (itself, hashlib.sha256(CONTENT).hexdigest())
    inside = model(machine / "models/dinov2-base", weight_file="pytorch_model.bin")
    assert weights.find_model("dinov2", [machine / "models"]).path == inside
    whole = model(machine / "mirror/facebook/dinov2-base")
    assert weights.find_model("dinov2", [machine / "mirror"]).path == whole


def test_another_kind_of_model_is_passed_by(machine, monkeypatch):
    clip, dino = model(machine / "a", "clip"), model(machine / "b")
    assert weights.find_model("dinov2", [clip, dino]).path == dino
    monkeypatch.setenv("JDIFF_WEIGHTS", str(dino))
    assert weights.find_model("dinov2").path == dino


def test_a_model_of_other_sizes_is_passed_by_and_named(machine):
    """clip-vit-base-patch32 is no clip-vit-large-patch14, whatever folder it is given as."""
    small = model(machine / "clip-vit-large-patch14", "clip", sizes=CLIP_BASE)
    with pytest.raises(UserError, match=r"is missing .*; .*clip-vit-large-patch14 holds another clip model, of other sizes"):
        weights.find_model("clip", [small])
    large = model(machine / "b", "clip")
    assert weights.find_model("clip", [small, large]).path == large
    cache = machine / "cache/huggingface/hub/models--facebook--dinov2-base"
    model(cache / "snapshots/abc", sizes=DINO_BASE | {"hidden_size": 1024})
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("abc")
    with pytest.raises(UserError, match="abc: is not facebook/dinov2-base"):
        weights.find_model("dinov2")


def test_weights_that_are_not_the_published_file_are_said(machine, monkeypatch):
    clip = model(machine / "clip", "clip")
    assert "model.safetensors is not the published file of openai/clip" in weights.find_model("clip", [clip]).deviation
    backbones = choose_backbones(["official"], [clip])
    assert backbones.deviation is None
    backbones.require("clip")
    assert "is not the published file" in backbones.deviation
    choose_backbones([str(clip)]).require("clip")  # a folder alone is one more to look in
    entry = replace(weights.MODELS["clip"], sha256=(hashlib.sha256(CONTENT).hexdigest(),))
    monkeypatch.setitem(weights.MODELS, "clip", entry)
    found = weights.find_model("clip", [clip])
    assert found.deviation is None and found.checked == "SHA-256"
    assert weights.find_model("dinov2", [model(machine / "dino")]).checked == "sizes"


def test_the_hub_cache_counts(machine, monkeypatch):
    cache = machine / "cache/huggingface/hub/models--facebook--dinov2-base"
    snapshot = model(cache / "snapshots/abc")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("abc")
    assert weights.find_model("dinov2").path == snapshot
    monkeypatch.setenv("HF_HOME", str(machine / "elsewhere"))
    with pytest.raises(UserError, match=r"facebook/dinov2-base is missing .*huggingface.co/facebook/dinov2-base"):
        weights.find_model("dinov2")


def test_an_incomplete_or_damaged_model_is_named(machine):
    bare = model(machine / "bare", weight_file=None)
    with pytest.raises(UserError, match=r"bare: has none of model.safetensors, pytorch_model.bin"):
        weights.find_model("dinov2", [bare])
    (bare / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json: no model configuration"):
        weights.find_model("dinov2", [bare])
