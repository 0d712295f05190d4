"""Losses against their formulas in NumPy."""

import numpy as np
import pytest
import torch

from jdiff_style.errors import UserError
from jdiff_style.losses import draw_filters, make_loss, patch_distance, snr

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


def patches_along(picture, direction):
    """The sorted products of a direction with every patch of a picture, by the definition."""
    side = direction.shape[-1]
    height, width = picture.shape[1] - side + 1, picture.shape[2] - side + 1
    return np.sort([
        float((picture[:, y : y + side, x : x + side] * direction).sum()) for y in range(height) for x in range(width)
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_patch_distance_is_the_mean_over_directions_of_the_sorted_difference(seed):
    rng = np.random.default_rng(seed)
    found, true = (rng.standard_normal((2, 3, 11, 10)).astype(np.float32) for _ in range(2))
    filters = draw_filters(torch.Generator().manual_seed(seed))
    np.testing.assert_allclose((filters.numpy() ** 2).sum(axis=(1, 2, 3)), 1, rtol=1e-5)
    expected = np.mean([
        np.abs(patches_along(one, direction) - patches_along(other, direction)).mean()
        for one, other in zip(found, true)
        for direction in filters.numpy()
    ])  # fmt: skip
    distance = patch_distance(torch.from_numpy(found), torch.from_numpy(true), filters)
    assert float(distance) == pytest.approx(expected, rel=1e-4)


def test_patch_distance_sees_a_blur_and_not_a_place():
    """Stripes that are moved by half a period hold the same patches; their mean, a grey, holds none of them."""
    filters = draw_filters(torch.Generator().manual_seed(1))
    columns = np.arange(24 + filters.shape[-1] - 1)  # three whole periods of patches
    stripes, moved = (
        np.tile(np.where((columns + shift) % 8 < 4, 1.0, -1.0).astype(np.float32), (1, 3, 24, 1)) for shift in (0, 4)
    )
    blurred = np.zeros_like(stripes)
    near, far = (float(patch_distance(torch.from_numpy(p), torch.from_numpy(stripes), filters)) for p in (moved, blurred))
    assert near < 1e-5 < 0.1 < far
    assert np.square(moved - stripes).mean() > np.square(blurred - stripes).mean()


def test_patch_distance_teaches_the_picture_that_is_found():
    found = torch.zeros((1, 3, 12, 12), requires_grad=True)
    true = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 12, 12)).astype(np.float32))
    filters = draw_filters(torch.Generator().manual_seed(0))
    before = patch_distance(found, true, filters)
    before.backward()
    after = patch_distance(found.detach() - found.grad, true, filters)
    assert float(after) < float(before)
