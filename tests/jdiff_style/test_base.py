"""Loading base models."""

import shutil

import pytest
import torch

from jdiff_style.base import load_base, resolve_base
from jdiff_style.errors import UserError


@pytest.fixture
def copy(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "copy")


def test_the_recipe_s_field_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^base: .*there is no such folder"):
        load_base(tmp_path / "none", torch.float32, torch.device("cpu"))


def test_damaged_weights_are_named(copy):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot load .*unet"):
        load_base(copy, torch.float32, torch.device("cpu"))


def test_half_precision_files_are_found(copy):
    for name, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        (copy / name / f"{stem}.safetensors").rename(copy / name / f"{stem}.fp16.safetensors")
    base = load_base(copy, torch.bfloat16, torch.device("cpu"))
    assert base.unet.dtype == torch.bfloat16 and base.vae.dtype == torch.float32
    assert not any(p.requires_grad for m in (base.unet, base.vae, base.text_encoder) for p in m.parameters())


def test_tiny_is_made_once(tmp_path):
    folder = resolve_base("tiny", tmp_path / "out")
    stamp = (folder / "model_index.json").stat().st_mtime_ns
    assert resolve_base("tiny", tmp_path / "out") == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == stamp
    load_base(folder, torch.float32, torch.device("cpu"))
