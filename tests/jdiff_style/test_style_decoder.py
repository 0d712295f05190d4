"""A LoRA of the VAE's decoder, a part for each style: in training, in its file, and merged to draw with."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from jdiff_style import lora, style_decoder
from jdiff_style.base import load_base
from jdiff_style.errors import UserError
from jdiff_style.generate import SamplingOptions, draw, load_pipeline
from jdiff_style.lora_files import DECODER_FILE, LORA_FILE
from jdiff_style.prompts import Prompt
from jdiff_style.style_decoder import StyleDecoder, StyleMask

STYLES = ["00", "b.c", "07"]
LATENTS = torch.linspace(-1, 1, 3 * 256).reshape(3, 4, 8, 8)


def stirred(module, seed=1):
    """B with random values, so that the LoRA does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in lora.lora_parameters(module).items():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def base(tiny_base):
    return load_base(tiny_base, torch.float32, torch.device("cpu"))


@pytest.fixture
def packed(base):
    """The VAE with a packed LoRA of three styles, rank 2 each, and its mask."""
    torch.manual_seed(0)
    lora.attach(base.vae.decoder, lora.DECODER_TARGETS, 6)
    stirred(base.vae.decoder)
    return base.vae.eval(), StyleMask(base.vae.decoder, 3)


@pytest.fixture
def folder(base, packed, tmp_path):
    """A LoRA of UNet and decoder, written."""
    torch.manual_seed(0)
    lora.attach(base.unet, lora.UNET_TARGETS, 6)
    stirred(base.unet, 2)
    parts = style_decoder.split(lora.lora_parameters(packed[0].decoder), STYLES)
    lora.save_lora(tmp_path / "lora", base.unet, decoder=parts)
    return tmp_path / "lora"


def decoded(vae, latents=LATENTS):
    with torch.no_grad():
        return vae.decode(latents).sample


def test_it_reaches_all_convolutions_and_leaves_the_encoder_alone(base):
    reached = lora.attach(base.vae.decoder, lora.DECODER_TARGETS, 3)
    decoder = base.vae.decoder
    convolutions = [name for name, layer in decoder.named_modules() if isinstance(layer, torch.nn.Conv2d)]
    convolutions = {name.removesuffix(".base_layer") for name in convolutions if ".lora_" not in name}
    assert convolutions <= {name for name, _ in lora.lora_layers(decoder)} and reached["conv1"] > 1
    assert not [name for name, p in base.vae.encoder.named_parameters() if p.requires_grad or "lora" in name]


def test_a_picture_of_a_batch_is_decoded_with_its_own_styles_part(packed):
    vae, mask = packed
    mask.styles = [2, 0, 1]
    together = decoded(vae)
    alone = []
    for row, style in enumerate(mask.styles):
        mask.styles = [style]
        alone.append(decoded(vae, LATENTS[row : row + 1]))
    assert float((together - torch.cat(alone)).abs().max()) < 1e-5
    mask.styles = [0, 0, 0]
    assert float((together - decoded(vae)).abs().amax(dim=(1, 2, 3)).min()) == 0.0  # the second is of style 0 in both
    assert float((together - decoded(vae)).abs().max()) > 1e-3


def test_a_picture_teaches_its_own_styles_part_alone(packed):
    vae, mask = packed
    mask.styles = [1, 1, 1]
    (vae.decode(LATENTS).sample ** 2).mean().backward()
    for name, parameter in lora.lora_parameters(vae.decoder).items():
        of_style = parameter.grad.chunk(3, dim=1 if "lora_B" in name else 0)
        assert not bool(of_style[0].any()) and not bool(of_style[2].any()), name
    assert bool(of_style[1].any())


def test_the_file_has_a_part_for_each_style_and_joins_to_the_same(packed, folder):
    parts = load_file(str(folder / DECODER_FILE))
    assert {key.split("/")[0] for key in parts} == set(STYLES)
    assert tuple(parts["b.c/conv_in.lora_A.weight"].shape[:1]) == (2,)
    own = lora.lora_parameters(packed[0].decoder)
    joined = style_decoder.join(lora.read_lora(folder)["decoder"], STYLES, "x")
    assert sorted(joined) == sorted(own) and all(torch.equal(joined[name], own[name]) for name in own)


def test_merged_it_decodes_as_in_training_in_any_order_and_adds_nothing_up(packed, folder, tiny_base):
    vae, mask = packed
    pipeline = load_pipeline(tiny_base, folder, SamplingOptions())
    plain = decoded(pipeline.vae)
    for styles in ([0, 1, 2], [2, 2, 0], [1, 0, 1], [0, 1, 2]):
        mask.styles = styles
        wanted = (decoded(vae, LATENTS / vae.config.scaling_factor) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        found = pipeline.style_decoder.pictures(LATENTS, [STYLES[number] for number in styles])
        assert found.shape == wanted.shape and np.abs(found - wanted).max() < 1e-5
    nothing = load_pipeline(tiny_base, folder / LORA_FILE, SamplingOptions(lora_scale=0))
    nothing.style_decoder.pictures(LATENTS, STYLES)
    assert torch.equal(decoded(nothing.vae), plain)


def test_taken_from_training_it_decodes_the_same_and_leaves_plain_layers(packed):
    vae, mask = packed
    mask.styles = [1, 2, 0]
    wanted = (decoded(vae, LATENTS / vae.config.scaling_factor) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    decoder = StyleDecoder.taken_from(vae, STYLES)
    assert not lora.lora_layers(vae.decoder)
    assert np.abs(decoder.pictures(LATENTS, [STYLES[number] for number in mask.styles]) - wanted).max() < 1e-5


def test_pictures_are_drawn_with_it_and_diffusers_reads_the_other_file(folder, tiny_base):
    prompts = [Prompt(style, "boat", "boat", "a boat") for style in ("00", "07", "00")]
    options = SamplingOptions(steps=2, height=64, width=64)
    whole = [np.asarray(picture) for picture in draw(load_pipeline(tiny_base, folder, options), prompts, options)]
    alone = draw(load_pipeline(tiny_base, folder, options), prompts[1:2], options)
    assert np.abs(whole[1].astype(int) - np.asarray(alone[0])).max() <= 1
    assert np.array_equal(whole[0], whole[2])
    (folder / DECODER_FILE).unlink()
    without = draw(load_pipeline(tiny_base, folder, options), prompts, options)
    assert np.abs(whole[0].astype(int) - np.asarray(without[0])).max() > 2
    other = StableDiffusionPipeline.from_pretrained(str(tiny_base), safety_checker=None)
    other.load_lora_weights(str(folder), weight_name=LORA_FILE)


def test_a_style_that_it_never_learnt_is_named_before_anything_is_drawn(folder, tiny_base):
    options = SamplingOptions(steps=2, height=64, width=64)
    pipeline = load_pipeline(tiny_base, folder, options)
    drawn = []
    with pytest.raises(UserError, match=r"knows the styles 00, 07, b\.c, not '01'"):
        draw(pipeline, [Prompt("01", "boat", "boat", "a boat")], options, on_step=lambda *_: drawn.append(1))
    assert not drawn


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda parts: {"conv_in.lora_A.weight": parts["00/conv_in.lora_A.weight"]}, "expected STYLE/LAYER"),
        (lambda parts: {**parts, "00/nowhere.lora_A.weight": torch.zeros(2, 4, 3, 3)}, "00: the model has no layer nowhere"),
        (lambda parts: {**parts, "07/conv_in.lora_A.weight": torch.zeros(2, 9, 3, 3)}, "style 07: conv_in: "),
        (lambda parts: {key: v for key, v in parts.items() if key != "07/conv_in.lora_B.weight"}, "lora_B.+missing"),
    ],
    ids=["no style", "unknown layer", "shape", "half"],
)
def test_a_file_that_does_not_fit_is_refused(folder, tiny_base, change, message):
    save_file(change(load_file(str(folder / DECODER_FILE))), str(folder / DECODER_FILE))
    with pytest.raises(UserError, match=message):
        load_pipeline(tiny_base, folder, SamplingOptions())


def test_a_damaged_file_is_named(folder):
    (folder / DECODER_FILE).write_bytes(b"no safetensors")
    with pytest.raises(UserError, match=f"{DECODER_FILE} is damaged"):
        lora.read_lora(folder)


def test_parts_of_other_styles_or_with_gaps_do_not_join():
    parts = {f"{style}/x{end}": torch.zeros(2, 2) for style in STYLES for end in (style_decoder.DOWN, style_decoder.UP)}
    with pytest.raises(UserError, match=r"of the styles 00, b\.c, 07, the pack has 00, 01"):
        style_decoder.join(parts, ["00", "01"], "x")
    del parts["07/x.lora_B.weight"]
    with pytest.raises(UserError, match=r"no 07/x\.lora_B\.weight"):
        style_decoder.join(parts, STYLES, "x")


def test_linear_layers_are_masked_by_token():
    down = torch.nn.Linear(3, 6, bias=False)
    mask = SimpleNamespace(count=3, styles=[1, 0])
    output = StyleMask._own_part(mask, down, (), torch.ones(2, 5, 6))
    assert output[0, 0].tolist() == [0, 0, 1, 1, 0, 0] and output[1, 4].tolist() == [1, 1, 0, 0, 0, 0]
