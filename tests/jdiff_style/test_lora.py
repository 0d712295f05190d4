"""The packed LoRA: where it sits, how fast it learns, and its file."""

import math

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model

from jdiff_style import lora
from jdiff_style.base import load_base
from jdiff_style.errors import UserError
from jdiff_style.generate import merge_lora
from jdiff_style.lora_files import LORA_FILE

PROMPT_IDS = torch.tensor([[0, 5, 6, 1, 1]])
ALL_LAYERS = lora.unet_targets("attention+convolutions")


@pytest.fixture
def base(tiny_base):
    return load_base(tiny_base, torch.float32, torch.device("cpu"))


def attached(base, rank=6, dora=False, targets=lora.UNET_TARGETS):
    torch.manual_seed(0)
    lora.attach(base.unet, targets, rank, dora=dora)
    lora.attach(base.text_encoder, lora.TEXT_TARGETS, rank, dora=dora)
    return {"unet": base.unet, "text_encoder": base.text_encoder}


def stirred(modules):
    """Give B random values, so that the LoRA does something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in modules.values():
            for name, parameter in lora.lora_parameters(module).items():
                if "lora_B" in name:
                    parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return modules


def outputs(unet, text_encoder):
    with torch.no_grad():
        text = text_encoder.eval()(PROMPT_IDS)[0]
        latents = torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8)
        return unet.eval()(latents, torch.tensor([10]), text).sample, text


def distance(first, second):
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def test_every_target_is_reached_and_nothing_else_learns(base):
    reached = lora.attach(base.unet, lora.UNET_TARGETS, 6)
    assert reached == {"to_q": 8, "to_k": 8, "to_v": 8, "to_out.0": 8}
    learning = [name for name, p in base.unet.named_parameters() if p.requires_grad]
    assert len(learning) == 64 and all(".lora_A." in n or ".lora_B." in n for n in learning)
    assert lora.attach(base.text_encoder, lora.TEXT_TARGETS, 6) == {"q_proj": 2, "k_proj": 2, "v_proj": 2}


def test_convolutions_are_reached_at_every_level(base):
    convolutions = {name for name, layer in base.unet.named_modules() if isinstance(layer, torch.nn.Conv2d)}
    reached = lora.attach(base.unet, ALL_LAYERS, 6)
    # Residual blocks: one on each of two levels down, two in the middle, two on each level up.
    assert reached["conv1"] == reached["conv2"] == reached["time_emb_proj"] == 8
    assert reached["conv_in"] == reached["conv_out"] == 1 and reached["conv"] == 2 and reached["to_q"] == 8
    with_lora = {name for name, _ in lora.lora_layers(base.unet)}
    # What remains are the attention blocks' own projections, which are 1 x 1.
    assert {name.rsplit(".", 1)[-1] for name in convolutions - with_lora} == {"proj_in", "proj_out"}
    down = next(layer for name, layer in lora.lora_layers(base.unet) if name.endswith("downsamplers.0.conv"))
    assert tuple(down.lora_A["default"].weight.shape) == (6, 32, 3, 3) and down.lora_A["default"].stride == (2, 2)
    assert tuple(down.lora_B["default"].weight.shape) == (32, 6, 1, 1)


@pytest.mark.parametrize("targets", [lora.UNET_TARGETS, ALL_LAYERS], ids=["attention", "convolutions"])
def test_start_leaves_the_output_as_it_was(base, targets):
    before = outputs(base.unet, base.text_encoder)
    modules = attached(base, targets=targets)
    assert distance(before, outputs(**modules)) == 0.0
    down = torch.cat([p.reshape(-1) for n, p in lora.lora_parameters(base.unet).items() if "lora_A" in n])
    assert float(down.detach().std()) == pytest.approx(1 / 6, rel=0.05)
    assert distance(before, outputs(**stirred(modules))) > 1e-3


def test_a_model_without_targets_is_refused(base):
    with pytest.raises(UserError, match="UNet2DConditionModel has none of the layers nowhere"):
        lora.attach(base.unet, ["nowhere"], 4)


@pytest.mark.parametrize(
    "width, rank, gamma, factor",
    [
        (320, 896, 1.0, 1.0),
        (1024, 896, 1.0, math.sqrt(1024 / 896)),
        (1280, 896, 1.0, 1.1952286093343936),
        (320, 32, 1.0, 3.1622776601683795),
        (320, 896, 4.0, 2.390457218668787),
        (1280, 4, 0.0, 1.0),
    ],
)
def test_rate_factor(width, rank, gamma, factor):
    assert lora.b_rate_factor(width, rank, gamma) == pytest.approx(factor, rel=1e-12)


def test_groups_have_exact_rates_and_hold_every_parameter_once(base):
    modules = attached(base, rank=8)
    groups = lora.parameter_groups(modules, 1e-4, 2.0)
    assert [g["lr"] for g in groups] == pytest.approx([1e-4, 4e-4, 1e-4 * 2 * math.sqrt(8)], rel=1e-12)
    assert [g["factor"] for g in groups] == pytest.approx([1.0, 4.0, 2 * math.sqrt(8)])
    # Width 32: 6 text layers, 2 attentions x 3 blocks x 4 and the 2 text-wide layers of the middle block; 64: the rest.
    assert [len(g["params"]) for g in groups] == [38, 32, 6]
    named = {id(p): n for m in modules.values() for n, p in m.named_parameters() if p.requires_grad}
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(named)
    assert all("lora_A" in named[id(p)] for p in groups[0]["params"])
    for group, width in zip(groups[1:], (32, 64), strict=True):
        for parameter in group["params"]:
            assert "lora_B" in named[id(parameter)]
        owners = [layer for m in modules.values() for _, layer in lora.lora_layers(m)]
        widths = {
            layer.in_features for layer in owners if any(layer.lora_B["default"].weight is p for p in group["params"])
        }
        assert widths == {width}


def test_a_convolution_s_width_is_what_its_a_sums_over(base):
    lora.attach(base.unet, ["conv1"], 8)
    groups = lora.parameter_groups({"unet": base.unet}, 1e-4, 2.0)
    owner = {id(layer.lora_B["default"].weight): layer for _, layer in lora.lora_layers(base.unet)}
    assert len(groups) > 2
    for group in groups[1:]:
        inputs = {owner[id(p)].in_features for p in group["params"]}
        assert len(inputs) == 1
        factor = 2 * math.sqrt(9 * inputs.pop() / 8)
        assert (group["factor"], group["lr"]) == pytest.approx((factor, 1e-4 * factor), rel=1e-12)


def test_no_lora_plus_is_one_rate(base):
    groups = lora.parameter_groups(attached(base), 1e-4, 0.0)
    assert [g["lr"] for g in groups] == [1e-4, 1e-4]


def test_file_loads_with_our_loader_and_gives_the_same_output(base, tiny_base, tmp_path):
    modules = stirred(attached(base))
    file = lora.save_lora(tmp_path, base.unet, base.text_encoder)
    assert file.name == "pytorch_lora_weights.safetensors"
    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny_base), local_files_only=True)
    assert lora.load_lora(pipeline, tmp_path) == 6
    assert distance(outputs(**modules), outputs(pipeline.unet, pipeline.text_encoder)) == 0.0


@pytest.mark.parametrize("targets", [lora.UNET_TARGETS, ALL_LAYERS], ids=["attention", "convolutions"])
def test_file_loads_with_the_loader_of_diffusers(base, tiny_base, tmp_path, targets):
    modules = stirred(attached(base, targets=targets))
    lora.save_lora(tmp_path, base.unet, base.text_encoder)
    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny_base), local_files_only=True)
    before = outputs(pipeline.unet, pipeline.text_encoder)
    pipeline.load_lora_weights(str(tmp_path), weight_name=LORA_FILE)
    after = outputs(pipeline.unet, pipeline.text_encoder)
    assert distance(outputs(**modules), after) < 1e-6 and distance(before, after) > 1e-3


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_convolutions_merged_and_from_a_file_give_the_same_output(base, tiny_base, tmp_path, dora):
    modules = stirred(attached(base, dora=dora, targets=ALL_LAYERS))
    trained = outputs(**modules)
    lora.save_lora(tmp_path, base.unet, base.text_encoder)
    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny_base), local_files_only=True)
    plain = outputs(pipeline.unet, pipeline.text_encoder)
    assert lora.load_lora(pipeline, tmp_path) == 6
    assert distance(trained, outputs(pipeline.unet, pipeline.text_encoder)) == 0.0
    layers = len(lora.lora_layers(pipeline.unet))
    assert merge_lora(pipeline.unet, 1.0) == layers and merge_lora(pipeline.text_encoder, 1.0) == 6
    assert not lora.lora_layers(pipeline.unet)
    merged = outputs(pipeline.unet, pipeline.text_encoder)
    assert distance(trained, merged) < 1e-5 and distance(plain, merged) > 1e-2


def test_a_convolution_of_another_kernel_is_refused(tiny_base, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny_base), local_files_only=True)
    other = torch.nn.Module()
    other.conv_in = torch.nn.Conv2d(4, 32, 1)
    inject_adapter_in_model(LoraConfig(r=4, target_modules=["conv_in"]), other)
    lora.save_lora(tmp_path, other)
    with pytest.raises(UserError, match="input width 4, kernel 1 x 1, the model's is width 4, kernel 3 x 3"):
        lora.load_lora(pipeline, tmp_path)


def test_unet_only_file(base, tiny_base, tmp_path):
    lora.attach(base.unet, lora.UNET_TARGETS, 4)
    lora.save_lora(tmp_path, base.unet, base.text_encoder)
    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny_base), local_files_only=True)
    assert lora.load_lora(pipeline, tmp_path) == 4
    assert not lora.lora_layers(pipeline.text_encoder)


def test_dora_file(base, tiny_base, tmp_path):
    modules = stirred(attached(base, dora=True))
    with torch.no_grad():
        for name, parameter in lora.lora_parameters(base.unet).items():
            if "magnitude" in name:
                parameter.mul_(1.5)
    learning = sum(len(g["params"]) for g in lora.parameter_groups(modules, 1e-4, 1.0))
    assert learning == 3 * (32 + 6)
    lora.save_lora(tmp_path, base.unet, base.text_encoder)
    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny_base), local_files_only=True)
    lora.load_lora(pipeline, tmp_path)
    assert distance(outputs(**modules), outputs(pipeline.unet, pipeline.text_encoder)) == 0.0


def test_a_lora_of_another_architecture_names_the_first_keys_and_changes_nothing(base, tiny_base, tmp_path):
    other = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 96), layers_per_block=1, cross_attention_dim=48, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
    )  # fmt: skip
    lora.attach(other, lora.UNET_TARGETS, 4)
    lora.save_lora(tmp_path, other)
    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny_base), local_files_only=True)
    names = [name for name, _ in pipeline.unet.named_modules()]
    with pytest.raises(UserError) as caught:
        lora.load_lora(pipeline, tmp_path)
    message = str(caught.value)
    assert "another architecture" in message and "attn2.to_k" in message and "48" in message and "more" in message
    assert [name for name, _ in pipeline.unet.named_modules()] == names


def test_copying_another_rank_changes_nothing(base, tiny_base, tmp_path):
    lora.attach(base.unet, lora.UNET_TARGETS, 4)
    lora.save_lora(tmp_path, base.unet)
    fresh = load_base(tiny_base, torch.float32, torch.device("cpu")).unet
    lora.attach(fresh, lora.UNET_TARGETS, 6)
    before = {n: p.detach().clone() for n, p in lora.lora_parameters(fresh).items()}
    with pytest.raises(UserError, match=r"\[4, 32\] in the file, \[6, 32\] in the model"):
        lora.copy_into({"unet": fresh}, lora.read_lora(tmp_path), "x")
    assert all(bool((before[n] == p).all()) for n, p in lora.lora_parameters(fresh).items())


@pytest.mark.parametrize("content, word", [(None, "does not exist"), (b"abc", "damaged"), (b"", "damaged")])
def test_unreadable_files(tmp_path, content, word):
    file = tmp_path / "x.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=word):
        lora.read_lora(file)


def test_a_file_that_is_no_lora(tiny_base):
    with pytest.raises(UserError, match="not in diffusers format"):
        lora.read_lora(tiny_base / "unet" / "diffusion_pytorch_model.safetensors")
