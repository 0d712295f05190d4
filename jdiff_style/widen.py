"""More latent channels for a trained autoencoder or UNet: the first ones keep their weights, so that training can go on."""

from __future__ import annotations

from typing import Any, Mapping

import torch

from jdiff_style.errors import UserError

# Where latents come in or out; everything else has to be of the same size.
_LATENTS = ("encoder.conv_out.", "quant_conv.", "post_quant_conv.", "decoder.conv_in.", "conv_in.", "conv_out.")
# Where an encoder gives means and log variances one after the other, the old ones of each come first among the new.
_HALVES = _LATENTS[:2]


def take_over(module: Any, theirs: Mapping[str, torch.Tensor], what: str) -> None:
    """Load the weights of a model with as many latent channels as `module` has, or with fewer.

    What it computes in its own channels stays what it was: they do not see the new ones yet, and the new ones begin with
    the values that `module` had.

    Raises:
        UserError: the two differ in more than that; `what` names the recipe's field and theirs.
    """
    ours = module.state_dict()
    if set(ours) != set(theirs):
        raise UserError(f"{what} has other layers than this recipe's; name a model of the same recipe")
    module.load_state_dict({name: _placed(name, theirs[name], fresh, what) for name, fresh in ours.items()})


def _placed(name: str, old: torch.Tensor, fresh: torch.Tensor, what: str) -> torch.Tensor:
    old = old.to(device=fresh.device, dtype=fresh.dtype)
    if tuple(old.shape) == tuple(fresh.shape):
        return old
    few = any(own < their for own, their in zip(fresh.shape, old.shape))
    if old.ndim != fresh.ndim or few or not name.startswith(_LATENTS):
        raise UserError(
            f"{what} has other layers than this recipe's: {name} is {tuple(old.shape)} there and {tuple(fresh.shape)} here; "
            f"name a model of the same recipe, with as many latent channels or fewer"
        )
    parts = 2 if name.startswith(_HALVES) else 1
    old_parts, new_parts = old.reshape(parts, -1, *old.shape[1:]), fresh.clone().reshape(parts, -1, *fresh.shape[1:])
    rows = old_parts.shape[1]
    if old.ndim == 1:
        new_parts[:, :rows] = old_parts
        return new_parts.reshape(fresh.shape)
    # A convolution of means and log variances has both among its columns, too.
    halves = parts if name.startswith("quant_conv.") else 1
    old_parts = old_parts.reshape(parts, rows, halves, -1, *old.shape[2:])
    new_parts = new_parts.reshape(parts, new_parts.shape[1], halves, -1, *old.shape[2:])
    new_parts[:, :rows] = 0.0
    new_parts[:, :rows, :, : old_parts.shape[3]] = old_parts
    return new_parts.reshape(fresh.shape)
