"""Training losses of diffusion models, as small callables.

Symbols follow the papers: x_t = alpha_t·x_0 + sigma_t·epsilon, snr(t) = alpha_t²/sigma_t². All tensors are batch ×
channels × height × width and float32, `timesteps` is int64 of shape (batch,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch

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
