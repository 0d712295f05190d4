"""Fixtures of the training tests: a tiny base model, small packs, and the `jdiff` command run in this process or its
own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
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


def start_process(*words, **options):
    """Start `jdiff` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-m", "jdiff_style.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


@pytest.fixture(scope="session")
def start_jdiff():
    """`start_jdiff(*words, **options)` starts `jdiff` in a process of its own."""
    return start_process
