"""What is timed: each workload is plain torch, diffusers, transformers or peft code and runs in both environments.

Sizes follow Stable Diffusion 1.5. "mini" is its architecture with blocks 128, 256, 512 and 512 wide (full: 320, 640,
1280, 1280). Weights and inputs come from NumPy with fixed seeds, so they are the same bits in both environments. All is
float32 on the CPU.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Callable

import numpy as np
import torch

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass
class Prepared:
    """A workload that is ready to run: `step` runs it once and returns everything it computes, read back.

    `seconds`, if given, replaces the stopwatch around `step`: the durations that `step` itself found.
    `model` is what channels-last would turn. One call of `step` does `repeats` times what the title names.
    """

    step: Callable[[], Arrays]
    model: torch.nn.Module | None = None
    seconds: list[float] | None = None
    repeats: int = 1


@dataclasses.dataclass(frozen=True)
class Workload:
    """`title` stands in the table; `heavy` ones run fewer times; `images` tells that channels-last is worth a trial."""

    title: str
    prepare: Callable[[], Prepared]
    heavy: bool = False
    images: bool = True


def normal(seed: int, *shape: int) -> torch.Tensor:
    """Standard normal float32 values from NumPy's generator."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def fill(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give all parameters random values of a usual size; returns the model in eval mode."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = random.standard_normal(tuple(parameter.shape), dtype=np.float32)
            if name.endswith("bias"):
                values *= 0.02
            elif values.ndim == 1:
                values = 1 + 0.1 * values
            else:
                values /= np.sqrt(max(1, values[0].size), dtype=np.float32)
            set_parameter(model, name, torch.from_numpy(values))
    return model.eval()


def set_parameter(model: torch.nn.Module, name: str, value: torch.Tensor) -> None:
    """Replace a parameter, which may be on the meta device."""
    path, _, last = name.rpartition(".")
    owner = model.get_submodule(path)
    setattr(owner, last, torch.nn.Parameter(value, requires_grad=owner.get_parameter(last).requires_grad))


def empty(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """The module without time spent on initial values, which `fill` replaces."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return make()


# --- models ------------------------------------------------------------------------------------------------------------
WIDTHS = {"mini": (128, 256, 512, 512), "full": (320, 640, 1280, 1280)}


def unet(size: str) -> torch.nn.Module:
    """SD 1.5's UNet at one of `WIDTHS`: 8 heads at every level, 77 text states of width 768."""
    from diffusers import UNet2DConditionModel

    return fill(empty(lambda: UNet2DConditionModel(
        sample_size=64, block_out_channels=WIDTHS[size], cross_attention_dim=768, attention_head_dim=8)), 1)


def vae() -> torch.nn.Module:
    """SD 1.5's autoencoder at half width."""
    from diffusers import AutoencoderKL

    return fill(empty(lambda: AutoencoderKL(
        block_out_channels=(64, 128, 256, 256), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)), 2)


def unet_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents [2, 4, 64, 64], time steps [2], text states [2, 77, 768]."""
    return normal(3, 2, 4, 64, 64), torch.tensor([501, 501]), normal(4, 2, 77, 768)


# --- workloads ---------------------------------------------------------------------------------------------------------
def unet_forward(size: str) -> Prepared:
    """One noise prediction with guidance."""
    model, (latents, time, text) = unet(size), unet_inputs()

    def step() -> Arrays:
        with torch.inference_mode():
            both = model(latents, time, text).sample
            without, with_text = both.chunk(2)
            return {"out": (without + 7.5 * (with_text - without)).numpy()}

    return Prepared(step, model)


def lora_step(size: str, rank: int, checkpointing: bool) -> Prepared:
    """Forward, loss, backward and AdamW of a LoRA on all attention projections."""
    from peft import LoraConfig

    model, (latents, time, text) = unet(size), unet_inputs()
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian",
                                 target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    random = np.random.default_rng(5)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for p in trained.values():
            p.copy_(torch.from_numpy(random.standard_normal(tuple(p.shape), dtype=np.float32)) * 0.02)
    model.train()
    if checkpointing:
        model.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(list(trained.values()), lr=1e-6)
    target = normal(6, 2, 4, 64, 64)

    def step() -> Arrays:
        predicted = model(latents, time, text).sample
        loss = torch.nn.functional.mse_loss(predicted, target)
        loss.backward()
        found = {"out": predicted.detach().numpy(), "loss": np.array(loss.item())}
        found |= {f"grad/{name}": p.grad.numpy() for name, p in trained.items()}
        optimizer.step()
        optimizer.zero_grad()
        found["last"] = next(reversed(trained.values())).detach().numpy()  # the optimizer has run, too
        return found

    return Prepared(step, model)


def drawing(model: torch.nn.Module, decoder: torch.nn.Module) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """What draws a picture with a UNet and an autoencoder, in their type and on their device: 20 steps with guidance.

    It returns the last latents [1, 4, 64, 64] and the picture [1, 3, 512, 512], 0 to 1.
    """
    from diffusers import DDIMScheduler

    latents, _, text = (t.to(model.device) for t in unet_inputs())
    latents, text = latents[:1].to(model.dtype), text.to(model.dtype)
    schedule = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                             set_alpha_to_one=False, steps_offset=1)
    schedule.set_timesteps(20)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        x = latents
        with torch.inference_mode():
            for time in schedule.timesteps:
                without, with_text = model(torch.cat([x, x]), time, text).sample.chunk(2)
                x = schedule.step(without + 5.0 * (with_text - without), time, x).prev_sample
            picture = decoder.decode(x / x.std() / 2).sample
            return x, (picture / 2 + 0.5).clamp(0, 1)

    return draw


def ddim_picture() -> Prepared:
    """20 steps with guidance at 64 x 64 latents, decoded to 512 px."""
    model = unet("mini")
    draw = drawing(model, vae())

    def step() -> Arrays:
        latents, picture = draw()
        return {"latents": latents.numpy(), "picture": picture.numpy()}

    return Prepared(step, model)


def vae_decode() -> Prepared:
    """64 x 64 latents to one 512 px picture."""
    model, latents = vae(), normal(7, 1, 4, 64, 64)

    def step() -> Arrays:
        with torch.inference_mode():
            return {"out": model.decode(latents).sample.numpy()}

    return Prepared(step, model)


def clip_text() -> Prepared:
    """CLIP ViT-L/14's text tower on 8 captions of 77 tokens."""
    from transformers import CLIPTextConfig, CLIPTextModel

    model = fill(empty(lambda: CLIPTextModel(CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768))), 8)
    ids = torch.from_numpy(np.random.default_rng(9).integers(0, 49408, (8, 77)))

    def step() -> Arrays:
        with torch.inference_mode():
            found = model(ids)
            return {"out": found.last_hidden_state.numpy(), "out/pooled": found.pooler_output.numpy()}

    return Prepared(step)


def dinov2() -> Prepared:
    """DINOv2-base on 4 pictures of 224 px."""
    from transformers import Dinov2Config, Dinov2Model

    model = fill(empty(lambda: Dinov2Model(Dinov2Config(image_size=518, patch_size=14))), 10)
    pixels = normal(11, 4, 3, 224, 224)

    def step() -> Arrays:
        with torch.inference_mode():
            return {"out": model(pixels).last_hidden_state.numpy()}

    return Prepared(step)


def adamw() -> Prepared:
    """AdamW over 10 million values in 500 tensors, LoRA-shaped."""
    random = np.random.default_rng(12)
    shapes = [(20, 1000) if i % 2 else (1000, 20) for i in range(500)]
    weights = [torch.nn.Parameter(torch.from_numpy(random.standard_normal(s, dtype=np.float32))) for s in shapes]
    grads = [torch.from_numpy(random.standard_normal(s, dtype=np.float32)) for s in shapes]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1e-2)

    def step() -> Arrays:
        for p, g in zip(weights, grads):
            p.grad = g
        optimizer.step()
        return {f"out/{i}": p.detach().numpy() for i, p in enumerate(weights)}

    return Prepared(step)


def train_step() -> Prepared:
    """`jdiff train` on the sample recipe: pictures, captions, VAE, text encoder, UNet, AdamW, the log."""
    from jdiff_style.launch import read_pack
    from jdiff_style.recipe import make_recipe, read_recipe
    from jdiff_style.tiny_base import make_tiny_base
    from jdiff_style.train import Trainer

    temporary = tempfile.TemporaryDirectory(prefix="jdiff-benchmark-")
    folder = Path(temporary.name)
    make_tiny_base(folder / "base")
    source = Path(__file__).resolve().parents[1] / "data" / "recipes" / "sample.yaml"
    recipe = make_recipe({**read_recipe(source), "steps": 60, "checkpoint_every": 0}, str(source))
    trainer = Trainer(recipe, read_pack(recipe), folder / "base")
    prepared = Prepared(lambda: {}, seconds=[], repeats=recipe.steps)

    def step() -> Arrays:
        run = Path(tempfile.mkdtemp(prefix="run", dir=temporary.name))
        trainer.train(run, 0)
        log = [json.loads(line) for path in sorted(run.glob("*.jsonl")) for line in path.read_text().splitlines()]
        ends = [entry["seconds"] for entry in log]
        prepared.seconds[:] = [(ends[-1] - ends[9]) / (len(ends) - 10)]
        return {"loss": np.array([entry["loss"] for entry in log])}

    prepared.step = step
    return prepared


WORKLOADS = {
    "unet-mini": Workload("UNet forward, mini, batch 2, 64×64", lambda: unet_forward("mini")),
    "unet-full": Workload("UNet forward, SD 1.5, batch 2, 64×64", lambda: unet_forward("full"), heavy=True),
    "lora-mini-r4": Workload("LoRA step, mini, rank 4", lambda: lora_step("mini", 4, False)),
    "lora-mini-r4-ckpt": Workload("LoRA step, mini, rank 4, checkpointing", lambda: lora_step("mini", 4, True)),
    "lora-mini-r128": Workload("LoRA step, mini, rank 128", lambda: lora_step("mini", 128, False)),
    "lora-mini-r128-ckpt": Workload("LoRA step, mini, rank 128, checkpointing", lambda: lora_step("mini", 128, True)),
    "lora-full-r4": Workload("LoRA step, SD 1.5, rank 4", lambda: lora_step("full", 4, False), heavy=True),
    "lora-full-r4-ckpt": Workload("LoRA step, SD 1.5, rank 4, checkpointing", lambda: lora_step("full", 4, True),
                                  heavy=True),
    "lora-full-r128": Workload("LoRA step, SD 1.5, rank 128", lambda: lora_step("full", 128, False), heavy=True),
    "lora-full-r128-ckpt": Workload("LoRA step, SD 1.5, rank 128, checkpointing", lambda: lora_step("full", 128, True),
                                    heavy=True),
    "ddim-20": Workload("20 DDIM steps and decode, mini, 512 px", ddim_picture, heavy=True),
    "vae-decode": Workload("VAE decode, half width, 512 px", vae_decode),
    "clip-text": Workload("CLIP-L text encoder, batch 8", clip_text, images=False),
    "dinov2": Workload("DINOv2-base, 4 pictures", dinov2, images=False),
    "adamw": Workload("AdamW, 10 M values in 500 tensors", adamw, images=False),
    "train-step": Workload("`jdiff train` step, sample recipe", train_step, images=False),
}
