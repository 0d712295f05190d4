"""A small Stable Diffusion with random weights, in diffusers layout, for trials and tests without any download.

The architecture is the real one in miniature: UNet2DConditionModel with cross-attention, AutoencoderKL that shrinks
eight times, CLIPTextModel, a CLIP byte-pair tokenizer. Its pictures are noise: it proves the path, not the taste.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from jdiff_style.errors import UserError
from jdiff_style.runs import open_to_all
from jdiff_style.tokenizer_build import learn_merges, write_tokenizer

SEED = 20240527
MERGES = 900


def tiny_merges() -> list[tuple[str, str]]:
    """The merges of the tiny model's tokenizer, learnt from the word list of this package, each word counted once."""
    lines = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").splitlines()
    return learn_merges(sorted({word for line in lines if not line.startswith("#") for word in line.split()}), MERGES)


def make_tiny_base(folder: Path, prediction_type: str = "epsilon", seed: int = SEED) -> Path:
    """Write the model to `folder` and return it. The same seed gives the same weights; the folder appears only
    complete.

    `prediction_type` is `epsilon` (as Stable Diffusion 1.5) or `v_prediction` (as 2.1). Raises UserError if `folder`
    exists.
    """
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    if folder.exists():
        raise UserError(f"{folder} exists already; name a new folder or remove it first")
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        vocabulary = write_tokenizer(temporary / "tokenizer", tiny_merges())
        tokenizer = CLIPTokenizer.from_pretrained(str(temporary / "tokenizer"))
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=77,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            sample_size=64,
            block_out_channels=(16, 16, 32, 32),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=8,
        )
        scheduler = PNDMScheduler(
            num_train_timesteps=1000,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=prediction_type,
        )
        pipeline = StableDiffusionPipeline(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(str(temporary))
        for weights in temporary.rglob("*.safetensors"):
            open_to_all(weights)
        temporary.rename(folder)
    except OSError as error:
        if folder.exists() and temporary.exists():
            return folder  # another process finished the same model first
        raise UserError(f"cannot write the tiny base model to {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
