"""Recipes of the stages that train a small Stable Diffusion from scratch: `vae`, `clip`, `base` on top of both, and
`decoder`, which makes the pictures of a finished base cleaner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from jdiff_style.errors import UserError
from jdiff_style.schema import MAIN, field

TIMESTEPS = 1000  # of the noise schedule, as in Stable Diffusion
MODEL, HYPER, DATA, SPEED, OUTPUT = "model", "hyperparameters", "data", "performance", "output"
APPEARANCE_STYLE = "the style whose drawings appearances change; without it the first of the data"


@dataclass(frozen=True)
class PretrainRecipe:
    """What all stages share. `steps` may be raised or lowered on resuming: the rate falls over the last `cooldown_steps`
    before the end, wherever that is (a trapezoid: Hägele et al. 2024), so a run needs no final length at its start.
    """

    stage: str
    data: Optional[str] = field(
        None, MAIN, "pictures and captions: images.npy and metadata.jsonl", "FOLDER", path=True
    )
    out: str = field("outputs", MAIN, "folder that receives the numbered run folder", "FOLDER")
    seed: int = field(0, MAIN, "every random draw follows from it", "INT", low=0, high=2**31 - 1)

    steps: int = field(1000, HYPER, "optimiser steps", "STEPS", low=1, high=10**8)
    batch_size: int = field(32, HYPER, "pictures in a step", "IMAGES", low=1, high=4096)
    optimizer: str = field(
        "adamw", HYPER, "muon makes every update of a matrix orthogonal, and is AdamW for the rest", "NAME",
        choices=("adamw", "muon"),
    )  # fmt: skip
    learning_rate: float = field(3e-4, HYPER, "the rate between warm-up and cool-down", "RATE", above=0.0, high=1.0)
    warmup_steps: int = field(100, HYPER, "steps over which the rate rises linearly from 0", "STEPS", low=0, high=10**8)
    cooldown_steps: int = field(
        0, HYPER, "last steps, over which the rate falls linearly to 0", "STEPS", low=0, high=10**8
    )
    weight_decay: float = field(1e-2, HYPER, "decoupled weight decay", "FACTOR", low=0.0, high=10.0)
    beta2: float = field(0.99, HYPER, "AdamW's decay of the squared gradients", "FACTOR", low=0.5, high=0.99999)
    max_grad_norm: float = field(1.0, HYPER, "gradient norm is clipped to this; 0 clips nothing", "NORM", low=0.0, high=1e6)
    ema_decay: float = field(
        0.999, HYPER, "decay of the averaged weights, which are what is exported; 0 averages nothing", "FACTOR",
        low=0.0, high=0.999999,
    )  # fmt: skip

    limit: int = field(0, DATA, "use only so many pictures, for trials; 0 is all", "IMAGES", low=0, high=10**9)

    device: str = field("auto", SPEED, "where to compute", "DEVICE", choices=("auto", "cpu", "cuda"))
    mixed_precision: str = field(
        "no", SPEED, "bf16 computes convolutions and matmuls in bfloat16; weights stay float32", "DTYPE",
        choices=("no", "bf16"),
    )  # fmt: skip

    checkpoint_every: int = field(500, OUTPUT, "steps between checkpoints; 0 keeps only the end", "STEPS", low=0, high=10**8)
    keep_checkpoints: int = field(
        2, OUTPUT, "newest checkpoints kept; 2 lets a damaged one fall back", "COUNT", low=1, high=10**4
    )
    validate_every: int = field(
        500, OUTPUT, "steps between measurements and sample pictures; 0 makes them only at the end", "STEPS",
        low=0, high=10**8,
    )  # fmt: skip
    validate_images: int = field(256, OUTPUT, "pictures of each measurement", "IMAGES", low=1, high=10**6)

    def check(self) -> None:
        """Raise UserError for fields that contradict each other."""
        if self.warmup_steps + self.cooldown_steps > self.steps:
            raise UserError(
                f"steps: {self.steps} is less than warmup_steps {self.warmup_steps} and cooldown_steps "
                f"{self.cooldown_steps} together; give more steps or shorten these"
            )


@dataclass(frozen=True)
class MeasuredRecipe(PretrainRecipe):
    """What the stages share that are measured on other styles."""

    measure: Optional[str] = field(
        None, DATA, "pictures that are measured and never trained on: styles.npy and styles.jsonl", "FOLDER", path=True
    )


@dataclass(frozen=True)
class PixelRecipe(PretrainRecipe):
    """What the stages share that decode latents to pictures."""

    l1_weight: float = field(1.0, HYPER, "weight of the mean absolute error, pixels in [-1, 1]", "FACTOR", low=0.0, high=1e3)
    l2_weight: float = field(1.0, HYPER, "weight of the mean squared error", "FACTOR", low=0.0, high=1e3)
    colour_weight: float = field(
        0.0, HYPER, "weight of both errors again for what differs between red, green and blue", "FACTOR", low=0.0, high=1e3
    )
    texture_weight: float = field(
        0.0, HYPER, "weight of the difference between the patches of both pictures, wherever they lie; what is a little "
        "out of place is then not blurred", "FACTOR", low=0.0, high=1e3,
    )  # fmt: skip
    alter: float = field(
        0.0, DATA, "share of pictures changed in colours, ground, size or texture", "PROBABILITY", low=0.0, high=1.0
    )

    @property
    def pixel_weights(self) -> dict[str, float]:
        """What `losses.pixel_loss` takes."""
        return {"l1": self.l1_weight, "l2": self.l2_weight, "colour": self.colour_weight, "texture": self.texture_weight}

    def check(self) -> None:
        """Raise UserError for fields that contradict each other."""
        super().check()
        if not self.l1_weight and not self.l2_weight:
            raise UserError("l1_weight: 0 together with l2_weight: 0 leaves nothing to learn; raise one of them")


@dataclass(frozen=True)
class VaeRecipe(MeasuredRecipe, PixelRecipe):
    """An AutoencoderKL: L1 and squared error of the picture, and a little Kullback-Leibler term. No adversary."""

    stage: str = field("vae", MAIN, "what is trained", "STAGE", choices=("vae",))
    channels: tuple[int, ...] = field(
        (16, 32, 64, 128), MODEL, "width of each level, each level halving the side after the first", "WIDTHS",
        low=4, high=4096,
    )  # fmt: skip
    latent_channels: int = field(4, MODEL, "channels of a latent", "CHANNELS", low=1, high=64)
    base: Optional[str] = field(
        None, MAIN, "go on from this autoencoder, which may have fewer latent_channels; a vae run, or the folder it was "
        "exported to", "FOLDER", path=True,
    )  # fmt: skip
    keep_latents: float = field(
        0.0, HYPER, "weight of the mean squared difference between the first latents and those of base; a UNet trained on "
        "them can then go on, too", "FACTOR", low=0.0, high=1e3,
    )  # fmt: skip
    layers: int = field(1, MODEL, "residual blocks of a level (the decoder has one more)", "BLOCKS", low=1, high=8)
    norm_groups: int = field(8, MODEL, "groups of a normalisation", "GROUPS", low=1, high=256)
    kl_weight: float = field(
        3e-4, HYPER, "weight of the Kullback-Leibler divergence from a unit Gaussian, mean over the latent's elements",
        "FACTOR", low=0.0, high=1e3,
    )  # fmt: skip
    latent_noise: float = field(
        0.0, HYPER, "most noise added to half of the latents before they are decoded, as a share of their spread; how much "
        "is drawn evenly from 0 on", "FACTOR", low=0.0, high=10.0,
    )  # fmt: skip
    coarse_latents: float = field(
        0.0, HYPER, "share of steps that decode latents and pictures of half the side; makes latents smooth", "PROBABILITY",
        low=0.0, high=1.0,
    )  # fmt: skip
    settle_steps: int = field(
        0, HYPER, "latent_noise and coarse_latents begin after so many steps", "STEPS", low=0, high=10**9
    )
    flip: bool = field(True, DATA, "flip half of the pictures")
    paintings: float = field(
        0.0, DATA, "share of pictures that are paintings of training objects instead, from paintings.npy in data",
        "PROBABILITY", low=0.0, high=1.0,
    )  # fmt: skip

    def check(self) -> None:
        """Raise UserError for fields that contradict each other."""
        super().check()
        _divides("channels", self.channels, self.norm_groups)
        if self.keep_latents and not self.base:
            raise UserError("keep_latents: without base there are none to keep; name an autoencoder with --base")
        if self.latent_noise and self.batch_size < 2:
            raise UserError("latent_noise: half of a batch gets it, and batch_size is 1; take a larger batch, or no noise")


@dataclass(frozen=True)
class TextRecipe(PretrainRecipe):
    """What the stages that read captions share."""

    keywords: int = field(5, DATA, "most keywords added to a caption", "WORDS", low=0, high=100)


@dataclass(frozen=True)
class ClipRecipe(TextRecipe, MeasuredRecipe):
    """A text tower and its byte-pair tokenizer on picture features that are computed beforehand: the symmetric contrastive
    loss (Radford et al. 2021, figure 3) with the image side locked (Zhai et al. 2022).
    """

    stage: str = field("clip", MAIN, "what is trained", "STAGE", choices=("clip",))
    merges: int = field(3000, MODEL, "byte-pair merges learnt from the captions", "MERGES", low=0, high=48894)
    max_tokens: int = field(40, MODEL, "longest caption in tokens, both ends included", "TOKENS", low=8, high=77)
    text_width: int = field(192, MODEL, "width of the text tower", "WIDTH", low=8, high=4096)
    text_layers: int = field(4, MODEL, "layers of the text tower", "LAYERS", low=1, high=64)
    head_width: int = field(32, MODEL, "width of an attention head", "WIDTH", low=4, high=256)
    projection: int = field(192, MODEL, "width of the shared space", "WIDTH", low=8, high=4096)
    feature_dropout: float = field(
        0.3, HYPER, "share of the picture features left out of each picture", "PROBABILITY", low=0.0, high=0.99
    )

    def check(self) -> None:
        """Raise UserError for fields that contradict each other."""
        super().check()
        if self.text_width % self.head_width:
            raise UserError(f"text_width: {self.text_width} is not a multiple of head_width {self.head_width}")
        if self.batch_size < 2:
            raise UserError("batch_size: 1 leaves no other caption to tell apart; use 2 or more, 128 is usual here")


@dataclass(frozen=True)
class SheetRecipe(PretrainRecipe):
    """What the stages share whose samples are drawn from captions."""

    sample_words: int = field(
        6, OUTPUT, "columns of the sample sheet, half of them held-out words", "WORDS", low=2, high=100
    )
    sample_steps: int = field(20, OUTPUT, "noise scheduler steps of a sample", "STEPS", low=1, high=1000)
    sample_guidance: float = field(3.0, OUTPUT, "guidance scale of the samples", "SCALE", low=0.0, high=100.0)

    def check(self) -> None:
        """Raise UserError for fields that contradict each other."""
        super().check()
        _divides_timesteps("sample_steps", self.sample_steps)


@dataclass(frozen=True)
class BaseRecipe(TextRecipe, SheetRecipe):
    """A UNet2DConditionModel on the latents of a finished `vae` stage and the text tower of a finished `clip` stage."""

    stage: str = field("base", MAIN, "what is trained", "STAGE", choices=("base",))
    vae: Optional[str] = field(None, MAIN, "a vae run, or the folder it was exported to", "FOLDER", path=True)
    clip: Optional[str] = field(None, MAIN, "a clip run, or the folder it was exported to", "FOLDER", path=True)
    words: Optional[str] = field(
        None, MAIN, "only the objects in this file, a name on each line, are drawn; without it all are", "FILE", path=True
    )
    base: Optional[str] = field(
        None, MAIN, "go on from UNet and text tower of this base, which has to be of the same sizes and latents", "FOLDER",
        path=True,
    )  # fmt: skip
    channels: tuple[int, ...] = field(
        (64, 128, 224), MODEL, "width of each level, each level halving the side after the first", "WIDTHS",
        low=4, high=4096,
    )  # fmt: skip
    attention: tuple[int, ...] = field(
        (0, 1, 1), MODEL, "which levels attend to the text: 1 yes, 0 no", "LEVELS", low=0, high=1
    )
    layers: int = field(1, MODEL, "blocks of a level (upwards one more)", "BLOCKS", low=1, high=8)
    heads: int = field(8, MODEL, "attention heads", "HEADS", low=1, high=256)
    pooled_text: bool = field(
        False, MODEL, "besides attending, scale and shift every block by the pooled caption (and the timestep)"
    )
    norm_groups: int = field(16, MODEL, "groups of a normalisation", "GROUPS", low=1, high=256)
    prediction_type: str = field(
        "v_prediction", MODEL, "what the UNet predicts", "TYPE", choices=("v_prediction", "epsilon")
    )
    min_snr_gamma: float = field(
        0.0, HYPER, "min-SNR loss weighting (5 is usual); 0 is the plain loss", "SNR", low=0.0, high=1e4
    )
    train_text_encoder: bool = field(True, HYPER, "train the text tower too; off keeps the clip stage's")
    text_rate: float = field(0.25, HYPER, "rate of the text tower, as a share of learning_rate", "FACTOR", low=0.0, high=1e3)
    timestep_power: float = field(
        1.0, HYPER, "timesteps are drawn as a power of even numbers from 0 to 1; below 1 there is more noise", "POWER",
        low=0.1, high=10.0,
    )  # fmt: skip
    plain_captions: float = field(
        0.0, DATA, "share of the captions that are only `a STYLE emoji of OBJECT`; the others are written in many ways",
        "PROBABILITY", low=0.0, high=1.0,
    )  # fmt: skip
    appearances: float = field(
        0.0, DATA, "share of pictures changed in lines, colours, ground or surface, with the words for it in the caption",
        "PROBABILITY", low=0.0, high=1.0,
    )  # fmt: skip
    drafts: float = field(
        0.0, DATA, "share of pictures learnt from noise on the same object's drawing in appearance_style instead of on the "
        "picture itself, so that the model can draw a draft again in another style", "PROBABILITY", low=0.0, high=1.0,
    )  # fmt: skip
    draft_timesteps: int = field(
        1000, DATA, "drafts are learnt from at timesteps below this one of 1000; more noise than pictures are drawn from "
        "later teaches nothing about them", "TIMESTEPS", low=1, high=1000,
    )  # fmt: skip
    paintings: float = field(
        0.0, DATA, "share of pictures that are paintings of the same object instead, from paintings.npy in data, with words "
        "for how it is painted in the caption", "PROBABILITY", low=0.0, high=1.0,
    )  # fmt: skip
    appearance_style: Optional[str] = field(None, DATA, APPEARANCE_STYLE, "STYLE")
    appearance_style_share: float = field(
        0.0, DATA, "share of the pictures as they are that are taken in appearance_style, whatever style their turn was: "
        "what drafts are drawn in is to be drawn best", "PROBABILITY", low=0.0, high=1.0,
    )  # fmt: skip
    appearance_copies: int = field(12, DATA, "changed copies for each picture", "COPIES", low=1, high=1000)
    drop_caption: float = field(
        0.1, DATA, "share of captions left empty, for guidance (Ho and Salimans 2022)", "PROBABILITY", low=0.0, high=0.9
    )
    compile: bool = field(False, SPEED, "compile the UNet's step with torch.compile (real PyTorch only)")

    def check(self) -> None:
        """Raise UserError for fields that contradict each other."""
        super().check()
        _divides("channels", self.channels, self.norm_groups)
        _divides("channels", self.channels, self.heads)
        if len(self.attention) != len(self.channels):
            raise UserError(
                f"attention: {len(self.attention)} levels, but channels has {len(self.channels)}; give one number for each"
            )
        if self.appearances + self.paintings > 1:
            raise UserError(f"paintings: {self.paintings} and appearances {self.appearances} are together more than all")
        if not any(self.attention):
            raise UserError("attention: no level attends to the text; set at least one to 1")


@dataclass(frozen=True)
class DecoderRecipe(PixelRecipe, SheetRecipe):
    """The decoder of a finished `base` stage, taught on what the base draws. Encoder, UNet and text tower stay."""

    stage: str = field("decoder", MAIN, "what is trained", "STAGE", choices=("decoder",))
    base: Optional[str] = field(None, MAIN, "a base run, or the folder it was exported to", "FOLDER", path=True)
    drawn: float = field(
        0.6, HYPER, "share of a batch that the base draws; the rest are true pictures, encoded", "PROBABILITY",
        low=0.0, high=1.0,
    )  # fmt: skip
    latent_noise: float = field(
        0.0, HYPER, "most noise added to the latents of true pictures, as a share of their spread; how much is drawn evenly "
        "from 0 on", "FACTOR", low=0.0, high=10.0,
    )  # fmt: skip
    appearances: float = field(
        0.0, DATA, "share of what is drawn whose caption asks for changed lines, colours, ground or surface; for bases that "
        "learnt these words", "PROBABILITY", low=0.0, high=1.0,
    )  # fmt: skip
    appearance_style: Optional[str] = field(None, DATA, APPEARANCE_STYLE, "STYLE")
    draws: int = field(2, DATA, "how often every training caption is drawn to learn from", "DRAWS", low=1, high=1000)
    draw_steps: int = field(4, DATA, "noise scheduler steps of these", "STEPS", low=1, high=1000)
    draw_guidance: float = field(2.0, DATA, "guidance scale of these", "SCALE", low=0.0, high=100.0)

    def check(self) -> None:
        """Raise UserError for fields that contradict each other."""
        super().check()
        _divides_timesteps("draw_steps", self.draw_steps)


KINDS: dict[str, type] = {"vae": VaeRecipe, "clip": ClipRecipe, "base": BaseRecipe, "decoder": DecoderRecipe}


def _divides_timesteps(name: str, steps: int) -> None:
    if TIMESTEPS % steps:
        near = min((n for n in range(1, TIMESTEPS + 1) if TIMESTEPS % n == 0), key=lambda n: abs(n - steps))
        raise UserError(f"{name}: {steps} does not divide the {TIMESTEPS} timesteps of training; use {near}")


def _divides(name: str, widths: tuple[int, ...], divisor: int) -> None:
    for width in widths:
        if width % divisor:
            raise UserError(f"{name}: {width} is not a multiple of {divisor}; use {max(1, width // divisor) * divisor}")
