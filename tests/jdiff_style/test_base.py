"""Loading base models, and what is said when a folder is none."""

import json
import shutil

import pytest
import torch

from jdiff_style.base import check_base, load_base, resolve_base
from jdiff_style.errors import UserError


@pytest.fixture
def copy(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "copy")


@pytest.mark.parametrize("name", ["tokenizer", "text_encoder", "vae", "unet", "scheduler"])
def test_a_missing_component_is_named(copy, name):
    shutil.rmtree(copy / name)
    with pytest.raises(UserError, match=f"lacks {name};"):
        check_base(copy)


@pytest.mark.parametrize("name", ["text_encoder", "vae", "unet"])
def test_missing_weights_are_named(copy, name):
    next((copy / name).glob("*.safetensors")).unlink()
    with pytest.raises(UserError, match=f"{name} holds no weights"):
        check_base(copy)


def test_missing_configuration(copy):
    (copy / "unet" / "config.json").unlink()
    with pytest.raises(UserError, match=r"unet lacks config.json"):
        check_base(copy)


def test_other_models_are_refused(copy):
    (copy / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    with pytest.raises(UserError, match="is a StableDiffusionXLPipeline; training supports StableDiffusionPipeline"):
        check_base(copy)
    (copy / "model_index.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        check_base(copy)
    (copy / "model_index.json").unlink()
    with pytest.raises(UserError, match=r"lacks model_index.json"):
        check_base(copy)


def test_no_folder_and_single_files(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        check_base(tmp_path / "none")
    (tmp_path / "sd.safetensors").write_text("")
    with pytest.raises(UserError, match="must be converted first"):
        check_base(tmp_path / "sd.safetensors")


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
    check_base(folder)
