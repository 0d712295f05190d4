"""Fixtures of the training tests: a tiny base model, small packs, and the `jdiff` command run in this process or its
own.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import settings
from PIL import Image

# A busy machine or a kernel being compiled must not fail a property.
settings.register_profile("jdiff", deadline=None)
settings.load_profile("jdiff")

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "data" / "packs" / "sample"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """The random-weight Stable Diffusion, made once per test session."""
    from jdiff_style.tiny_base import make_tiny_base

    return make_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


def write_picture(path, size=(40, 32), seed=0, mode="RGB"):
    """Write a small random picture; the format follows the file's ending."""
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze(), mode).save(path)
    return path


@pytest.fixture(scope="session")
def picture():
    """`picture(path, size, seed, mode)` writes a small random picture."""
    return write_picture


@pytest.fixture(scope="session")
def sample():
    """The sample pack's folder."""
    return SAMPLE


@pytest.fixture
def pack_folder(tmp_path):
    """A pack in the challenge's layout: styles 00 and 01 with two pictures each."""
    root = tmp_path / "pack"
    for number, style in enumerate(("00", "01")):
        for index, name in enumerate(("red_apple", "boat")):
            write_picture(root / style / "images" / f"{name}.png", seed=10 * number + index)
        tags = {"item": {"red_apple": "apple, fruit", "boat": "boat, sail"}, "style": f"style tag {number}"}
        (root / style / "tag.json").write_text(json.dumps(tags, indent=1))
        (root / style / "prompt.json").write_text('{"0": "Ring", "1": "Hotel"}')
    return root


@pytest.fixture
def jdiff(capsys):
    """Run `jdiff` in this process: returns (exit code, standard output, standard error)."""
    from jdiff_style.cli import main

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def start_process(*words, variables=None, **options):
    """Start `jdiff` in a process of its own, with `variables` besides those of the environment."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "jdiff_style.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(variables or {}), "PYTHONPATH": path},
        **options,
    )


@pytest.fixture(scope="session")
def start_jdiff():
    """`start_jdiff(*words, **options)` starts `jdiff` in a process of its own."""
    return start_process


# The stages that train from scratch, in miniature.
PRETRAIN = {"batch_size": 4, "steps": 6, "warmup_steps": 2, "validate_every": 3, "validate_images": 4, "checkpoint_every": 2}
STAGES = {
    "vae": {"channels": [8, 16], "norm_groups": 4, "learning_rate": 2e-3, "latent_noise": 0.2, "coarse_latents": 0.5},
    "clip": {
        "merges": 60, "max_tokens": 16, "text_width": 16, "text_layers": 1, "head_width": 8, "projection": 16,
    },
    "base": {"channels": [16, 32], "attention": [0, 1], "norm_groups": 8, "heads": 2, "sample_steps": 2, "sample_words": 2,
             "pooled_text": True, "timestep_power": 0.5, "optimizer": "muon", "words": "words.txt", "plain_captions": 0.5,
             "appearances": 0.4, "appearance_copies": 2, "drafts": 0.5},
    "decoder": {"learning_rate": 2e-3, "draw_steps": 2, "sample_steps": 2, "sample_words": 2, "alter": 0.5,
                "colour_weight": 1.0, "texture_weight": 1.0, "latent_noise": 0.3,
                "appearances": 0.5},
}  # fmt: skip
STANDS_ON = {"base": ("vae", "clip"), "decoder": ("base",)}


def write_pretrain_data(folder, objects=10, side=16):
    """Two styles of plain discs on white; object number i has a colour and a size of its own. One in five is held out."""
    ys, xs = np.mgrid[:side, :side] - (side - 1) / 2
    images, rows = [], []
    for style in ("flat", "ring"):
        for number in range(objects):
            distance = np.hypot(xs, ys)
            radius = side * (0.2 + 0.25 * number / objects)
            inside = (distance < radius) & ((style == "flat") | (distance > radius / 2))
            picture = np.full((side, side, 3), 255, np.uint8)
            picture[inside] = np.random.default_rng(number).integers(0, 200, 3)
            images.append(picture)
            row = {"object": f"thing {chr(97 + number)}", "style": style, "keywords": ["round", "disc"], "group": "x"}
            rows.append(row | {"split": "held_out" if number % 5 == 4 else "train"})
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", np.stack(images))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_features(folder, "images")
    return folder


def write_features(folder, name):
    """Two versions of 48 numbers for each picture, as if a network had made them: its pixels through a random matrix."""
    images = np.load(folder / f"{name}.npy")
    flat = 1 - images.reshape(len(images), -1) / 255
    seen = np.maximum(flat @ np.random.default_rng(0).normal(size=(flat.shape[1], 48)), 0)
    np.save(folder / f"{name}.features.npy", np.stack([seen, 0.9 * seen], 1).astype(np.float16))
    made_of = {f"{name}.npy": hashlib.sha256((folder / f"{name}.npy").read_bytes()).hexdigest()}
    (folder / "features.json").write_text(json.dumps({"network": "matrix", "sha256": "0", "width": 48, "of": made_of}))


@pytest.fixture(scope="session")
def pretrain_data():
    """`pretrain_data(folder, objects)` writes a small images.npy and metadata.jsonl."""
    return write_pretrain_data


@pytest.fixture(scope="session")
def pretrain_recipes():
    """`pretrain_recipes(folder)` writes data and the recipes of all stages; stage -> recipe file."""

    def write(folder):
        write_pretrain_data(folder / "data")
        (folder / "words.txt").write_text("thing a\nthing c\nthing_d\n\nthing h\n")
        recipes = {}
        for stage, own in STAGES.items():
            recipes[stage] = folder / f"{stage}.yaml"
            recipes[stage].write_text(yaml.safe_dump({"stage": stage, "data": "data", **PRETRAIN, **own}))
        return recipes

    return write


@pytest.fixture(scope="session")
def trained(tmp_path_factory, pretrain_recipes):
    """stage -> the folder of its finished run of six steps; `base` stands on the first two, `decoder` on it."""
    from jdiff_style.cli import main

    folder = tmp_path_factory.mktemp("pretrain")
    recipes, found = pretrain_recipes(folder), {}
    for stage in STAGES:
        own = [word for name in STANDS_ON.get(stage, ()) for word in (f"--{name}", str(found[name]))]
        assert main(["train", "--recipe", str(recipes[stage]), "--out", str(folder / stage), *own]) == 0
        (found[stage],) = (folder / stage).glob("00000-*")
    return found
