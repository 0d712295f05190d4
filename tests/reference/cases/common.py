"""What several cases share: inputs from NumPy, arrays out of tensors, digests of weights, and small models."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig

from . import Arrays


def normal(seed: int, *shape: int) -> torch.Tensor:
    """Standard normal float32 numbers that do not come from torch."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def integers(seed: int, low: int, high: int, *shape: int) -> torch.Tensor:
    """int64 numbers in [low, high)."""
    return torch.from_numpy(np.random.RandomState(seed).randint(low, high, shape).astype(np.int64))


def array(tensor: torch.Tensor) -> np.ndarray:
    """The values of a tensor; half precision becomes float32."""
    tensor = tensor.detach()
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return tensor.cpu().numpy().copy()


def digest(model: torch.nn.Module) -> np.ndarray:
    """Three numbers a parameter, (parameters, 3): first value, sum and norm, in the order of ``named_parameters``."""
    rows = []
    for _, parameter in model.named_parameters():
        values = array(parameter).astype(np.float64).ravel()
        rows.append([values[0], values.sum(), np.sqrt((values**2).sum())])
    return np.array(rows)


def gradients(model: torch.nn.Module, names: Iterable[str]) -> Arrays:
    """``grad/<name>`` for the named parameters, which must have one."""
    table = dict(model.named_parameters())
    return {f"grad/{name}": array(table[name].grad) for name in names}


def gradient_norms(model: torch.nn.Module) -> np.ndarray:
    """The norm of each parameter's gradient; -1 where there is none."""
    norms = []
    for _, parameter in model.named_parameters():
        g = parameter.grad
        norms.append(-1.0 if g is None else float(np.sqrt((array(g).astype(np.float64) ** 2).sum())))
    return np.array(norms)


SD15 = dict(attention_head_dim=8, cross_attention_dim=24)
SD21 = dict(attention_head_dim=[1, 2, 4, 4], cross_attention_dim=40, use_linear_projection=True)
SDXL = dict(
    block_out_channels=(32, 64, 64),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=[1, 1, 2],
    attention_head_dim=[1, 2, 4],
    addition_embed_type="text_time",
    addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=6 * 8 + 32,
    use_linear_projection=True,
    cross_attention_dim=56,
)


def unet(seed: int = 0, **settings) -> UNet2DConditionModel:
    """The UNet of Stable Diffusion with few channels: 4 levels unless `settings` (``SD15``, ``SD21``, ``SDXL``, …) say
    otherwise."""
    torch.manual_seed(seed)
    base = dict(sample_size=8, block_out_channels=(32, 32, 64, 64), layers_per_block=1, norm_num_groups=8)
    return UNet2DConditionModel(**{**base, **settings}).eval()


def autoencoder(seed: int = 0, **settings) -> AutoencoderKL:
    """The autoencoder of Stable Diffusion (factor 8) with few channels; its last convolution is scaled up so that
    pictures from random weights are not plain grey."""
    torch.manual_seed(seed)
    base = dict(
        block_out_channels=(32, 32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
    )
    model = AutoencoderKL(**{**base, **settings}).eval()
    with torch.no_grad():
        model.decoder.conv_out.weight.mul_(1.5)
    return model


def text_config(**settings) -> CLIPTextConfig:
    """The configuration of a small CLIP text encoder."""
    base = dict(
        vocab_size=520,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=518,
        eos_token_id=519,
        pad_token_id=519,
    )
    return CLIPTextConfig(**{**base, **settings})


def token_ids(seed: int = 0, batch: int = 2, length: int = 77) -> torch.Tensor:
    """Token numbers as CLIP's tokenizer gives them: begin, words, end, padded with end."""
    ids = integers(seed, 0, 500, batch, length)
    ids[:, 0] = 518
    for row in range(batch):
        ids[row, 9 + 5 * row :] = 519
    return ids
