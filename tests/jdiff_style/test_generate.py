"""Loading a base with a LoRA and drawing batches, on the tiny base model."""

import shutil

import numpy as np
import pytest

from jdiff_style.errors import UserError
from jdiff_style.generate import (
    SCHEDULERS,
    SamplingOptions,
    choose_device,
    cut_prompts,
    draw,
    load_pipeline,
    merge_lora,
    noise_seed,
)
from jdiff_style.prompts import Prompt

PROMPTS = [Prompt("00", str(i), word, f"style_00, {word}") for i, word in enumerate(["Ring", "Hotel"])]
FAST = SamplingOptions(steps=2)


@pytest.fixture(scope="module")
def lora_file(tiny_base, tmp_path_factory):
    """A LoRA of rank 8 whose effect is large: both matrices random."""
    import torch

    from jdiff_style import lora

    pipeline = load_pipeline(tiny_base, None, FAST)
    generator = torch.Generator().manual_seed(1)
    for module, targets in ((pipeline.unet, lora.UNET_TARGETS), (pipeline.text_encoder, lora.TEXT_TARGETS)):
        lora.attach(module, targets, 8)
        with torch.no_grad():
            for _, layer in lora.lora_layers(module):
                for matrix in (layer.lora_A[lora.ADAPTER], layer.lora_B[lora.ADAPTER]):
                    matrix.weight.copy_(torch.randn(matrix.weight.shape, generator=generator) * 0.3)
    return lora.save_lora(tmp_path_factory.mktemp("lora"), pipeline.unet, pipeline.text_encoder)


def pixels(pictures):
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


@pytest.fixture(scope="module")
def with_lora(tiny_base, lora_file):
    return load_pipeline(tiny_base, lora_file, FAST)


def test_a_picture_does_not_depend_on_its_batch(with_lora):
    together = pixels(draw(with_lora, PROMPTS, FAST))
    alone = pixels([draw(with_lora, [prompt], FAST)[0] for prompt in PROMPTS])
    reversed_order = pixels(draw(with_lora, PROMPTS[::-1], FAST))[::-1]
    assert np.abs(together - alone).max() <= 1
    assert np.abs(together - reversed_order).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 8


def test_ancestral_noise_belongs_to_the_picture_too(tiny_base):
    options = SamplingOptions(steps=2, scheduler="euler_a")
    pipeline = load_pipeline(tiny_base, None, options)
    together = pixels(draw(pipeline, PROMPTS, options))
    assert np.abs(together[1:] - pixels(draw(pipeline, PROMPTS[1:], options))).max() <= 1


def test_merged_lora_equals_unmerged(tiny_base, lora_file, with_lora):
    from jdiff_style.lora import load_lora

    plain = load_pipeline(tiny_base, None, FAST)
    base = pixels(draw(plain, PROMPTS[:1], FAST))
    load_lora(plain, lora_file)
    merged = pixels(draw(with_lora, PROMPTS[:1], FAST))
    assert np.abs(pixels(draw(plain, PROMPTS[:1], FAST)) - merged).max() <= 2
    assert np.abs(base - merged).max() > 8
    assert not any("lora" in name for name, _ in with_lora.unet.named_parameters())


def test_lora_scale(tiny_base, lora_file):
    from jdiff_style.lora import load_lora

    plain = load_pipeline(tiny_base, None, FAST)
    none = load_pipeline(tiny_base, lora_file, SamplingOptions(lora_scale=0.0))
    before = dict(plain.unet.named_parameters())
    for name, parameter in none.unet.named_parameters():
        assert np.array_equal(parameter.detach().numpy(), before[name].detach().numpy()), name
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    weight = plain.unet.get_submodule(name).weight.detach().numpy().copy()
    load_lora(plain, lora_file)
    layer = plain.unet.get_submodule(name)
    down, up = (matrix["default"].weight.detach().numpy() for matrix in (layer.lora_A, layer.lora_B))
    assert merge_lora(plain.unet, 0.5) > 10
    np.testing.assert_allclose(plain.unet.get_submodule(name).weight.detach().numpy(), weight + 0.5 * up @ down, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_every_scheduler_name_exists_and_takes_the_base_configuration(name, tiny_base):
    import diffusers

    class_name, changes = SCHEDULERS[name]
    saved = diffusers.PNDMScheduler.from_pretrained(str(tiny_base), subfolder="scheduler")
    scheduler = getattr(diffusers, class_name).from_config(saved.config, **changes)
    scheduler.set_timesteps(3)
    assert len(scheduler.timesteps) >= 3


def test_progress_and_size(with_lora):
    seen = []
    options = SamplingOptions(steps=2, height=32, width=48)
    (picture,) = draw(with_lora, PROMPTS[:1], options, lambda done, total: seen.append((done, total)))
    assert picture.size == (48, 32) and picture.mode == "RGB"
    assert seen[-1][0] == seen[-1][1] == len(seen)
    assert draw(with_lora, [], options) == []


def test_a_picture_that_is_not_a_number_is_refused(tiny_base):
    pipeline = load_pipeline(tiny_base, None, FAST)
    pipeline.vae.decoder.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(UserError, match="not a number"):
        draw(pipeline, PROMPTS[:1], FAST)


def test_long_prompts_are_noticed(with_lora):
    long = Prompt("00", "0", "Ring", ", ".join(["Ring"] * 60))
    assert cut_prompts(with_lora, [PROMPTS[0], long]) == [long]


def test_noise_seeds_differ_and_stay():
    assert noise_seed(0, "00", "Ring") == 1249239807
    seeds = {noise_seed(seed, style, word) for seed in (0, 1) for style in ("00", "01") for word in ("Ring", "Cat", "0")}
    assert len(seeds) == 12 and all(0 <= seed < 2**32 for seed in seeds)


def test_a_lora_for_another_architecture_names_the_first_keys(tiny_base, tmp_path):
    import safetensors.numpy

    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_{}.weight"
    wrong = {key.format("A"): np.zeros((4, 320), np.float32), key.format("B"): np.zeros((320, 4), np.float32)}
    safetensors.numpy.save_file(wrong, str(tmp_path / "pytorch_lora_weights.safetensors"))
    with pytest.raises(UserError, match=r"another architecture: unet\.down_blocks\.0.*to_q\.lora_A.*320.*32"):
        load_pipeline(tiny_base, tmp_path, FAST)


def test_a_damaged_base_is_refused(tiny_base, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"^--base: .* cannot be loaded"):
        load_pipeline(base, None, FAST)


def test_half_precision_files_are_found(tiny_base, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        (base / part / f"{stem}.safetensors").rename(base / part / f"{stem}.fp16.safetensors")
    assert draw(load_pipeline(base, None, FAST), PROMPTS[:1], FAST)[0].size == (64, 64)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 1001),
        ("guidance", float("nan")),
        ("guidance", -1),
        ("scheduler", "magic"),
        ("seed", -1),
        ("height", 100),
        ("width", 8),
        ("lora_scale", float("inf")),
    ],
)
def test_impossible_sampling_is_refused(field, value):
    with pytest.raises(UserError, match=f"^--{field.replace('_', '-')}: "):
        SamplingOptions(**{field: value})


def test_devices():
    import torch

    assert choose_device("cpu", 3) == "cpu"
    if torch.cuda.is_available():
        assert choose_device("auto", 0) == "cuda:0"
    else:
        assert choose_device("auto") == "cpu"
        with pytest.raises(UserError, match="no CUDA device"):
            choose_device("cuda")
