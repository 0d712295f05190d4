"""Losses against their formulas in NumPy."""

import numpy as np
import pytest
import torch

from jdiff_style.errors import UserError
from jdiff_style.losses import make_loss, snr

ALPHAS = torch.linspace(0.999, 0.01, 20)
TIMES = torch.tensor([0, 7, 19])


def tensors():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((3, 4, 5, 5)).astype(np.float32) for _ in range(3)]


def expected(kind, gamma, prediction, latents, noise):
    alpha2 = ALPHAS.numpy()[TIMES.numpy()].astype(np.float64)
    ratio = alpha2 / (1 - alpha2)
    a, s = (np.sqrt(v).reshape(-1, 1, 1, 1) for v in (alpha2, 1 - alpha2))
    target = noise if kind == "epsilon" else a * noise - s * latents
    each = ((prediction - target) ** 2).mean(axis=(1, 2, 3))
    if gamma:
        each = each * np.minimum(ratio, gamma) / (ratio if kind == "epsilon" else ratio + 1)
    return each.mean()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 5.0])
def test_value(kind, gamma):
    prediction, latents, noise = tensors()
    loss = make_loss(kind, ALPHAS, gamma)(*map(torch.from_numpy, (prediction, latents, noise)), TIMES)
    assert float(loss) == pytest.approx(expected(kind, gamma, prediction, latents, noise), rel=1e-5)


def test_v_target_agrees_with_the_noise_scheduler():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(prediction_type="v_prediction")
    _, latents, noise = map(torch.from_numpy, tensors())
    times = torch.tensor([3, 500, 999])
    target = scheduler.get_velocity(latents, noise, times)
    assert float(make_loss("v_prediction", scheduler.alphas_cumprod)(target, latents, noise, times)) < 1e-12


def test_snr():
    np.testing.assert_allclose(snr(ALPHAS, TIMES).numpy(), (ALPHAS / (1 - ALPHAS)).numpy()[[0, 7, 19]], rtol=1e-6)


def test_gradient_reaches_the_prediction_only():
    prediction, latents, noise = map(torch.from_numpy, tensors())
    prediction.requires_grad_(True)
    make_loss("epsilon", ALPHAS, 5.0)(prediction, latents, noise, TIMES).backward()
    assert prediction.grad is not None and float(prediction.grad.abs().max()) > 0


def test_unknown_prediction_type():
    with pytest.raises(UserError, match=r"'sample'.*epsilon and v_prediction"):
        make_loss("sample", ALPHAS)
