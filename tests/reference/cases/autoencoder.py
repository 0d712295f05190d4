"""AutoencoderKL: encode, sample, decode, and a gradient through both halves."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from . import Arrays, case
from .common import array, autoencoder, digest, gradient_norms, normal


@case
def autoencoder_kl() -> Arrays:
    """Mean and log variance of the posterior, a sample of it from a seed, and the pictures decoded from it."""
    model = autoencoder(3)
    picture = normal(1, 1, 3, 64, 64).tanh()
    with torch.no_grad():
        posterior = model.encode(picture).latent_dist
        latents = posterior.sample(torch.Generator().manual_seed(4))
        decoded = model.decode(latents).sample
        model.enable_slicing()
        sliced = model.decode(torch.cat([latents, -latents])).sample
    return {
        "init/weights": digest(model),
        "out/mean": array(posterior.mean),
        "out/log variance": array(posterior.logvar),
        "out/kl": array(posterior.kl()),
        "out/sample": array(latents),
        "out/decoded": array(decoded),
        "out/sliced": array(sliced),
    }


@case
def autoencoder_tiled() -> Arrays:
    """Tiled decoding, which blends overlapping tiles in place."""
    model = autoencoder(3)
    model.enable_tiling()
    with torch.no_grad():
        return {"out/tiled": array(model.decode(normal(2, 1, 4, 12, 8)).sample)}


@case
def autoencoder_training() -> Arrays:
    """The gradient of a reconstruction loss with its KL term."""
    model = autoencoder(5).train()
    picture = normal(1, 1, 3, 32, 32).tanh()
    posterior = model.encode(picture).latent_dist
    loss = F.mse_loss(model.decode(posterior.mode()).sample, picture) + 1e-3 * posterior.kl().mean()
    loss.backward()
    return {"loss/loss": array(loss), "grad/norm of each parameter": gradient_norms(model)}
