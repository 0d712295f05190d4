"""What is easily lost: digits of long sums, rounding of half precision, subnormal numbers, exact integers."""

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("dims", [None, (0,), (1,), (0, 2), (1, 2), (2,)])
def test_long_sums_keep_their_digits(dims):
    a = np.random.default_rng(0).normal(size=(40, 30, 600)).astype(np.float32) + 1
    got = torch.from_numpy(a).sum(dims).numpy()
    want = a.astype(np.float64).sum(dims)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert torch.from_numpy(a).sum(dims or (0, 1, 2), keepdim=True).shape == a.sum(dims, keepdims=True).shape


def test_mean_of_a_million_values():
    x = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))
    want = (x.numpy().astype(np.float64) ** 2).mean()
    assert abs((x * x).mean().item() / want - 1) < 1e-6


def rounded_to_bfloat16(a):
    bits = a.astype(np.float32).view(np.uint32).astype(np.uint64)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


def test_bfloat16_rounds_to_nearest_even():
    a = np.random.default_rng(1).normal(size=(4, 200)).astype(np.float32)
    a[0, :4] = [1.00390625, 1.01171875, np.inf, -np.inf]  # the first two lie halfway between neighbours
    t = torch.from_numpy(a).bfloat16()
    np.testing.assert_array_equal(t.float().numpy(), rounded_to_bfloat16(a))
    product = (t[1:] * t[1:]).float().numpy()
    np.testing.assert_array_equal(product, rounded_to_bfloat16(rounded_to_bfloat16(a[1:]) ** 2))
    assert torch.isnan(torch.tensor([[float("nan")] * 80]).bfloat16()).all()


def test_float16_is_computed_in_single_precision():
    a = np.random.default_rng(2).normal(size=(4, 200)).astype(np.float16)
    t = torch.from_numpy(a)
    np.testing.assert_array_equal((t * t).numpy(), (a.astype(np.float32) ** 2).astype(np.float16))
    np.testing.assert_array_equal(t.exp().numpy(), np.exp(a.astype(np.float32)).astype(np.float16))
    assert torch.full((4, 200), 2048.0, dtype=torch.float16).add(1).sum().item() == np.inf
    assert torch.ones(4, 200, dtype=torch.float16).mul(3).mean().item() == 3


def test_subnormal_numbers_survive_kernels():
    torch.randn(20, 20).exp().sum().item()
    assert 5e-324 > 0
    assert np.float64(1e-310) * 1 > 0
    assert (torch.full((20, 20), 1e-40) * 1).sum().item() > 0


def test_int64_stays_exact():
    big = 2**53 + 1
    t = torch.full((300, 300), big)
    assert t.dtype == torch.int64
    assert (t + 1).max().item() == big + 1
    assert t[:, :3].sum().item() == big * 900
