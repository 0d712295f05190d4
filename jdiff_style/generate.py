"""Pictures from prompts: a base model in diffusers layout, a LoRA merged into it, one noise seed for each picture.

torch and diffusers are imported inside the functions that need them: ``--dry-run`` and the process that only hands out
work start at once, and a worker can still choose its thread count before torch reads it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jdiff_style.errors import UserError
from jdiff_style.hashes import check_sums
from jdiff_style.model_folder import check_model_folder

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from PIL import Image

    from jdiff_style.drafts import Drafter
    from jdiff_style.prompts import Prompt

Item = TypeVar("Item")

# name -> (diffusers class, what is changed in the base model's scheduler configuration)
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "deis": ("DEISMultistepScheduler", {"algorithm_type": "deis"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}
DTYPES = ("float32", "float16", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class SamplingOptions:
    """What decides a picture besides its prompt and the weights.

    Attributes:
        steps: noise scheduler steps, 1 to 1000.
        guidance: guidance scale; 1 or less turns classifier-free guidance off.
        scheduler: a name out of :data:`SCHEDULERS`, or ``saved`` for the base model's own.
        seed: every picture's noise follows from it, 0 or more.
        height: pixels, a multiple of 8; None for the base model's size.
        width: likewise.
        lora_scale: how much of the LoRA is merged; 1 as trained, 0 nothing.
        draft_strength: noise on a draft, where a prompt has one: at 1 nothing is left of it, near 0 it stays as it is.
        draft_strengths: the same for styles that have one of their own, by the style's id.
        draft_guidance: guidance scale of the drafts; None for `guidance`.
    """

    steps: int = 50
    guidance: float = 7.5
    scheduler: str = "saved"
    seed: int = 0
    height: int | None = None
    width: int | None = None
    lora_scale: float = 1.0
    draft_strength: float = 0.5
    draft_strengths: Mapping[str, float] = field(default_factory=dict)
    draft_guidance: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise UserError(f"--steps: {self.steps} is outside 1 to 1000; 20 to 100 is usual")
        for name, scale in (("guidance", self.guidance), ("draft-guidance", self.draft_guidance)):
            if scale is not None and not 0 <= scale <= 100:  # nor is NaN
                raise UserError(f"--{name}: {scale} is outside 0 to 100; 7.5 is usual, 1 turns guidance off")
        if self.scheduler != "saved" and self.scheduler not in SCHEDULERS:
            raise UserError(f"--scheduler: {self.scheduler!r} is unknown; choose saved, {', '.join(SCHEDULERS)}")
        if self.seed < 0:
            raise UserError(f"--seed: {self.seed} is negative; use 0 or more")
        for name, value in (("height", self.height), ("width", self.width)):
            if value is not None and (value % 8 or not 16 <= value <= 8192):
                raise UserError(f"--{name}: {value} pixels is no multiple of 8 from 16 to 8192; use for example 512")
        if not math.isfinite(self.lora_scale):
            raise UserError(f"--lora-scale: {self.lora_scale} is not a finite number; 1 is as trained")
        for strength in (self.draft_strength, *self.draft_strengths.values()):
            if not 0 < strength <= 1:
                raise UserError(f"--draft-strength: {strength} is outside 0 to 1; 0.5 is usual")

    def strength(self, style: str) -> float:
        """Noise on the drafts of `style`. Where it has one of its own, one step at least is drawn."""
        if style not in self.draft_strengths:
            return self.draft_strength
        return min(1.0, max(self.draft_strengths[style], 1.5 / self.steps))  # diffusers cuts steps × strength to a whole


def in_batches(items: Sequence[Item], size: int, strength: Callable[[Item], float]) -> list[list[Item]]:
    """The items in their order, at most `size` in a batch, and in each only such of one draft strength, as
    :func:`draw` needs them.
    """
    runs_of_one = (list(own) for _, own in itertools.groupby(items, strength))
    return [own[first : first + size] for own in runs_of_one for first in range(0, len(own), size)]


def noise_seed(seed: int, style: str, word: str) -> int:
    """The seed of one picture's noise, 0..2^32-1, from the run's seed, the style and the prompt word alone.

    So a picture depends neither on the batch it was in, nor on which others were made, nor on their order. 32 bits, as
    torch's CPU generator starts from no more.
    """
    text = json.dumps([seed, style, word])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def load_pipeline(base: Path, lora: Path | None, options: SamplingOptions, device: str = "cpu", dtype: str = "float32"):
    """The base model with the LoRA merged in at ``options.lora_scale``, ready to draw.

    Args:
        base: folder in diffusers layout.
        lora: ``pytorch_lora_weights.safetensors`` in diffusers format, or a folder holding it; None for the base alone.
        options: its scheduler and LoRA scale are used.
        device: a torch device, e.g. ``cpu`` or ``cuda:1``.
        dtype: ``float32``, ``float16`` or ``bfloat16``.

    Returns:
        A diffusers ``StableDiffusionPipeline`` without safety checker. Where the LoRA has one of the decoder, too, its
        attribute ``style_decoder`` is a ``StyleDecoder``, with which :func:`draw` decodes.

    Raises:
        UserError: the base is incomplete or damaged, or the LoRA was made for another architecture.
    """
    variant = "fp16" if "fp16" in check_model_folder(base, "--base").values() else None
    check_sums(base, "--base")
    import diffusers
    import torch
    import transformers

    # Their advice (no safety checker, long prompts) is reported once by the command instead.
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    try:
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
            str(base),
            torch_dtype=getattr(torch, dtype),
            variant=variant,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    # A damaged folder fails in many ways, each with its own type of error; whichever it is, the folder is at fault.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        logging.getLogger(__name__).debug("loading %s failed", base, exc_info=True)
        raise UserError(f"--base: {base} cannot be loaded ({_first_line(error)}); restore it from its source") from error
    if options.scheduler != "saved":
        class_name, changes = SCHEDULERS[options.scheduler]
        pipeline.scheduler = getattr(diffusers, class_name).from_config(pipeline.scheduler.config, **changes)
    if lora is not None:
        from jdiff_style.lora import load_lora, read_decoder
        from jdiff_style.style_decoder import StyleDecoder

        load_lora(pipeline, lora)
        for module in (pipeline.unet, pipeline.text_encoder):
            merge_lora(module, options.lora_scale)
        if parts := read_decoder(lora):
            pipeline.style_decoder = StyleDecoder(pipeline.vae, parts, str(lora), options.lora_scale)
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def merge_lora(module: torch.nn.Module, scale: float) -> int:
    """Add ``scale`` times the LoRA of every layer of ``module`` to its weight and drop the LoRA layers.

    A packed LoRA's rank (896 for 28 styles) is beyond many a layer's width: merged, a step costs what the base costs.

    Returns:
        How many layers were merged.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    merged = 0
    for name, layer in list(module.named_modules()):
        if not isinstance(layer, BaseTunerLayer):
            continue
        base_layer = layer.get_base_layer()
        dtype = base_layer.weight.dtype
        with torch.no_grad():
            layer.scale_layer(scale)
            layer.merge()
            # A float32 LoRA on a float16 weight gives a float32 sum.
            base_layer.weight.data = base_layer.weight.data.to(dtype)
        parent, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(parent), leaf, base_layer)
        merged += 1
    if merged and hasattr(module, "_hf_peft_config_loaded"):
        module._hf_peft_config_loaded = False
    return merged


def draw(
    pipeline: DiffusionPipeline,
    prompts: Sequence[Prompt],
    options: SamplingOptions,
    on_step: Callable[[int, int], None] | None = None,
    drafter: Drafter | None = None,
) -> list[Image.Image]:
    """Draw one batch, a picture per prompt.

    The noise of a picture, that of its start and that of ancestral schedulers, comes from its own generator (see
    :func:`noise_seed`): whatever else is in the batch, the picture is the same up to float rounding.

    Args:
        pipeline: from :func:`load_pipeline`.
        prompts: the batch.
        options: how to sample.
        on_step: called with (steps done, steps in all) of this batch.
        drafter: the base alone; needed if the prompts ask for drafts, as all of a batch do or none.

    Returns:
        RGB pictures in the order of the prompts.

    Raises:
        UserError: the model answered with something that is not a number.
    """
    import numpy as np
    import torch
    from PIL import Image

    if not prompts:
        return []
    generators = [
        torch.Generator(device="cpu").manual_seed(noise_seed(options.seed, prompt.style, prompt.word)) for prompt in prompts
    ]

    def report(_pipeline: Any, step: int, _timestep: Any, tensors: dict) -> dict:
        if on_step is not None:
            on_step(step + 1, _pipeline.num_timesteps)
        return tensors

    # A LoRA of the decoder has a part for each style.
    decoder = getattr(pipeline, "style_decoder", None)
    styles = [prompt.style for prompt in prompts]
    if decoder is not None:
        decoder.check(styles)
    start: dict[str, Any] = {"height": options.height, "width": options.width}
    if prompts[0].draft:
        assert drafter is not None, "a prompt asks for a draft and there is nothing to draw it with"
        drafts = drafter.latents([prompt.draft for prompt in prompts])
        strengths = {options.strength(style) for style in styles}
        if len(strengths) > 1:
            raise ValueError(f"drafts of one batch have one strength, not {sorted(strengths)}; see in_batches")
        pipeline, start = from_drafts(pipeline, drafts, *strengths)
    with torch.no_grad():
        pixels = pipeline(
            prompt=[prompt.positive for prompt in prompts],
            negative_prompt=[prompt.negative for prompt in prompts],
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            generator=generators,
            output_type="np" if decoder is None else "latent",
            callback_on_step_end=report,
            **start,
        ).images
        if decoder is not None:
            pixels = decoder.pictures(pixels, styles)
    if not np.isfinite(pixels).all():
        raise UserError("the model's output is not a number (NaN); try --dtype float32, or check the LoRA and its scale")
    levels = (pixels * 255).round().astype(np.uint8)
    return [Image.fromarray(picture) for picture in levels]


def from_drafts(pipeline: Any, drafts: torch.Tensor, strength: float) -> tuple[Any, dict[str, Any]]:
    """A pipeline of the same modules that starts at noisy drafts, and what its call takes for that besides the usual.

    `drafts` are latents as the UNet takes them, batch × c × h × w.
    """
    import torch

    from jdiff_style.draft_pipeline import DraftPipeline

    made = DraftPipeline(**pipeline.components, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    made.drafts = drafts
    return made, {"image": torch.zeros((len(drafts), 3, 8, 8)), "strength": strength}


def cut_prompts(pipeline: DiffusionPipeline, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Those prompts whose positive text is longer than the text encoder reads (77 tokens for CLIP), so is cut there."""
    tokenizer = pipeline.tokenizer
    return [prompt for prompt in prompts if len(tokenizer(prompt.positive).input_ids) > tokenizer.model_max_length]


def choose_device(wanted: str, worker: int = 0) -> str:
    """The torch device for a worker: ``cuda`` devices it sees are dealt out in turn, ``auto`` takes one if there is one.

    Raises:
        UserError: ``cuda`` is asked for and torch sees no device.
    """
    import torch

    if wanted == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        if wanted == "cuda":
            raise UserError("--device: no CUDA device is usable here; use --device cpu, or see `jdiff doctor`")
        return "cpu"
    return f"cuda:{worker % torch.cuda.device_count()}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
