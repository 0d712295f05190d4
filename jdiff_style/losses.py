"""Training losses of diffusion models, as small callables, and one of pictures for what decodes them.

Symbols follow the papers: x_t = alpha_t·x_0 + sigma_t·epsilon, snr(t) = alpha_t²/sigma_t². All tensors are batch ×
channels × height × width and float32, `timesteps` is int64 of shape (batch,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping

import torch
from torch.nn.functional import conv2d

from jdiff_style.errors import UserError

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def snr(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio of each timestep, shape (batch,). `alphas_cumprod` holds alpha_t² for t = 0 … T-1."""
    alpha2 = alphas_cumprod.to(timesteps.device)[timesteps].to(torch.float32)
    return alpha2 / (1.0 - alpha2)


def _weighted_mse(prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    error = (prediction.to(torch.float32) - target.to(torch.float32)) ** 2
    if weight is None:
        return error.mean()
    return (error.mean(dim=(1, 2, 3)) * weight).mean()


@dataclass(frozen=True)
class EpsilonLoss:
    """Mean squared error of the predicted noise (Ho et al. 2020, eq. 14).

    `min_snr_gamma` > 0 weights each sample by min(snr, gamma)/snr (Hang et al. 2023, eq. 8 for a noise prediction).
    """

    alphas_cumprod: torch.Tensor
    min_snr_gamma: float = 0.0

    def __call__(
        self, prediction: torch.Tensor, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        weight = None
        if self.min_snr_gamma > 0:
            ratio = snr(self.alphas_cumprod, timesteps)
            weight = ratio.clamp(max=self.min_snr_gamma) / ratio
        return _weighted_mse(prediction, noise, weight)


@dataclass(frozen=True)
class VPredictionLoss:
    """Mean squared error of v = alpha_t·epsilon - sigma_t·x_0 (Salimans and Ho 2022, section 4).

    `min_snr_gamma` > 0 weights each sample by min(snr, gamma)/(snr + 1), the same weighting expressed for v.
    """

    alphas_cumprod: torch.Tensor
    min_snr_gamma: float = 0.0

    def __call__(
        self, prediction: torch.Tensor, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        alpha2 = self.alphas_cumprod.to(latents.device)[timesteps].to(torch.float32).reshape(-1, 1, 1, 1)
        target = alpha2.sqrt() * noise - (1.0 - alpha2).sqrt() * latents
        weight = None
        if self.min_snr_gamma > 0:
            ratio = snr(self.alphas_cumprod, timesteps)
            weight = ratio.clamp(max=self.min_snr_gamma) / (ratio + 1.0)
        return _weighted_mse(prediction, target, weight)


def make_loss(prediction_type: str, alphas_cumprod: torch.Tensor, min_snr_gamma: float = 0.0) -> Loss:
    """The loss for a noise scheduler's `prediction_type`; UserError for one that this training does not know."""
    kinds: dict[str, Callable[[torch.Tensor, float], Loss]] = {"epsilon": EpsilonLoss, "v_prediction": VPredictionLoss}
    if prediction_type not in kinds:
        raise UserError(f"base: its noise scheduler predicts {prediction_type!r}; training knows {' and '.join(kinds)}")
    return kinds[prediction_type](alphas_cumprod, min_snr_gamma)


FILTERS, FILTER_SIDES = 16, (3, 5, 9)
# Of the filters, so many per cent see differences only; the rest see colour and brightness, too.
BLIND_PERCENT = 80


def draw_filters(generator: torch.Generator) -> torch.Tensor:
    """Random directions in the space of patches, float32 FILTERS × 3 × side × side of norm 1, with a side by chance."""
    side = FILTER_SIDES[int(torch.randint(len(FILTER_SIDES), (1,), generator=generator))]
    filters = torch.randn((FILTERS, 3, side, side), generator=generator)
    blind = (torch.randint(100, (FILTERS, 1, 1, 1), generator=generator) < BLIND_PERCENT).to(torch.float32)
    filters = filters - blind * filters.mean(dim=(2, 3), keepdim=True)
    return filters / (filters**2).sum(dim=(1, 2, 3), keepdim=True).sqrt()


def patch_distance(found: torch.Tensor, true: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """How far apart the patches of each pair of pictures are as sets, wherever in the picture they lie; a scalar.

    The sliced Wasserstein-1 distance, along the directions `filters` (n × channels × side × side), between all patches of
    a picture and all of its counterpart, both batch × channels × height × width; mean over pairs and directions (Elnekave
    and Weiss 2022, "Generating natural images with direct patch distributions matching", section 3.1). A squared error
    takes the mean of all pictures that may be meant, which is a blur; this distance has no use for patches that the true
    picture does not hold.
    """
    ours, theirs = (conv2d(pictures, filters).flatten(2).sort(dim=2)[0] for pictures in (found, true))
    return (ours - theirs).abs().mean()


def pixel_loss(
    decoded: torch.Tensor, pictures: torch.Tensor, weights: Mapping[str, float], generator: torch.Generator
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The errors of decoded pictures, batch × 3 × side × side in [-1, 1]: their sum with these weights, and each by itself.

    `l1` and `l2` are the mean absolute and the mean squared error, `colour` is both of these for what differs between red,
    green and blue, `texture` the `patch_distance` along directions that `generator` draws; it is left out if it has no
    weight.
    """
    decoded = decoded.to(torch.float32)
    error = decoded - pictures
    hue = error - error.mean(dim=1, keepdim=True)
    terms = {"l1": error.abs().mean(), "l2": (error**2).mean(), "colour": hue.abs().mean() + (hue**2).mean()}
    if weights.get("texture"):
        terms["texture"] = patch_distance(decoded, pictures, draw_filters(generator).to(decoded.device))
    loss = torch.zeros((), device=decoded.device)
    for name, weight in weights.items():
        if weight:
            loss = loss + weight * terms[name]
    return loss, terms
