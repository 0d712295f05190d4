"""The trained layer between a fixed image network's features and the text tower's space, and its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from jdiff_style.errors import UserError
from jdiff_style.picture_features import PROJECTION_FILE, PROJECTION_INFO, projection_info


class ImageProjection(nn.Module):
    """One linear layer from features to the space of the text tower.

    The square root evens out the few large ones among features that are never negative (as Arandjelović and Zisserman 2012
    do for SIFT); in training a share `dropout` of them is left out.
    """

    def __init__(self, features: int, projection: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(features, projection, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """float32 batch × features, as the network gives them, to batch × projection of any length."""
        roots = F.normalize(features.clamp(min=0.0).sqrt(), dim=-1) * features.shape[-1] ** 0.5
        return self.linear(F.dropout(roots, self.dropout, self.training))


def save_projection(folder: Path, projection: ImageProjection, info: dict[str, Any]) -> None:
    """Write the projection in float16 and, beside it, for which network's features it is made."""
    weight = projection.linear.weight.detach().cpu().to(torch.float16).contiguous()
    safetensors.torch.save_file({"weight": weight}, str(folder / PROJECTION_FILE))
    about = {name: info[name] for name in ("network", "sha256")}
    about |= {"features": weight.shape[1], "projection": weight.shape[0]}
    (folder / PROJECTION_INFO).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def load_projection(folder: Path) -> ImageProjection:
    """The projection in float32 for inference; UserError if it cannot be read or is of another size than is said."""
    info = projection_info(folder)
    try:
        weight = safetensors.torch.load_file(str(folder / PROJECTION_FILE))["weight"].to(torch.float32)
        projection = ImageProjection(info["features"], info["projection"])
        projection.linear.load_state_dict({"weight": weight})
    except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(f"{folder}: its image projection cannot be read ({error}); export or download it again") from error
    return projection.requires_grad_(False).eval()
