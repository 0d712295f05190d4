"""Drafts: an object drawn in a style that the model knows, to be drawn again in another.

A small model has no memory of an object in a style that it learnt from three pictures of others; but what it needs is all
there, in a picture of the object as it does know it. So that picture is made noisy and denoised under the new style's
caption (SDEdit; Meng et al. 2022). To a model that was never taught so, noise of much strength hides the draft and noise of
little strength leaves its looks as they are. Hence the training here: noisy drafts go in, true pictures are to come out.
"""

from __future__ import annotations

import torch

# Below it a noisy draft is the draft nearly as it is, and turning that into another picture would be most of the loss.
FIRST_TIMESTEP = 250


def noise_with_drafts(
    noise: torch.Tensor,
    clean: torch.Tensor,
    drafts: torch.Tensor,
    shares: torch.Tensor,
    timesteps: torch.Tensor,
    alphas_cumprod: torch.Tensor,
) -> torch.Tensor:
    """The noise with which `clean` becomes what `noise` would make of a draft.

    With a = sqrt(alpha_cumprod) and s = sqrt(1 - alpha_cumprod), a draft d made noisy is a·d + s·n = a·z + s·n' for
    n' = n + (a/s)·(d - z): as if the clean latents z had met the noise n', which is then what a model of noise or velocity
    is to predict, under the plain loss. `noise`, `clean` and `drafts` are batch × c × h × w. `shares`, (batch,), mixes: 1 is
    the draft, 0 the clean latents, and between them is what denoising passes through on its way. Samples whose timestep is
    below `FIRST_TIMESTEP` keep their noise.
    """
    alphas = alphas_cumprod.to(noise.device)[timesteps]
    ratio = torch.sqrt(alphas / (1.0 - alphas)) * shares.to(noise.device)
    ratio = torch.where(timesteps >= FIRST_TIMESTEP, ratio, torch.zeros_like(ratio))
    return noise + ratio.view(-1, 1, 1, 1) * (drafts - clean)
