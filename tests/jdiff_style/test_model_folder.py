"""What is said of a folder that is no Stable Diffusion, by every command that takes one."""

import json
import shutil

import pytest

from jdiff_style.errors import UserError
from jdiff_style.model_folder import COMPONENTS, check_model_folder

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.fixture
def folder(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "base")


def refused(folder, reason):
    with pytest.raises(UserError, match=rf"^--base: .*{reason}"):
        check_model_folder(folder, "--base")


def test_a_whole_base_is_one(folder):
    assert check_model_folder(folder, "--base") == dict.fromkeys(COMPONENTS)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_missing_component_is_named(folder, name):
    shutil.rmtree(folder / name)
    refused(folder, f"lacks {name};")


@pytest.mark.parametrize("name", WEIGHTS)
def test_missing_weights_are_named(folder, name):
    (folder / name / f"{WEIGHTS[name]}.safetensors").unlink()
    refused(folder, f"{name} holds no weights")


@pytest.mark.parametrize(
    "file",
    [
        "unet/config.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
    ],
)
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    refused(folder, f"lacks {file.split('/')[-1]};")


def test_weights_under_another_library_s_name_do_not_count(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "model.safetensors")
    refused(folder, "unet holds no weights")


def test_a_tokenizer_of_one_file_is_enough(folder):
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink()
    check_model_folder(folder, "--base")


def test_other_pipelines_are_refused(folder):
    index = folder / "model_index.json"
    index.write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    refused(folder, "is a StableDiffusionXLPipeline; give a StableDiffusionPipeline")
    for text in ("{", "[1, 2]", "{}"):
        index.write_text(text)
        refused(folder, r"model_index.json cannot be read \(")
    index.write_text(json.dumps({"_class_name": "StableDiffusionPipeline", "tokenizer": [None, None]}))
    refused(folder, "names no tokenizer")


def test_a_hub_name_and_a_single_file(tmp_path):
    refused(tmp_path / "stabilityai" / "stable-diffusion-2-1", "there is no such folder; .* nothing is downloaded")
    (tmp_path / "sd.safetensors").write_text("")
    refused(tmp_path / "sd.safetensors", "convert single-file checkpoints first")


def test_half_precision_weights_are_told(folder):
    for name in ("unet", "text_encoder"):
        (folder / name / f"{WEIGHTS[name]}.safetensors").rename(folder / name / f"{WEIGHTS[name]}.fp16.safetensors")
    variants = check_model_folder(folder, "--base")
    assert {name for name, variant in variants.items() if variant == "fp16"} == {"unet", "text_encoder"}
    assert variants["vae"] is None
