"""The attention kernels, through `scaled_dot_product_attention`, against float64, which runs on tensor operations."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

attention = F.scaled_dot_product_attention


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def both(f, *arrays, tol=2e-6):
    """Compare f's result and all gradients in float32 (kernel) with float64."""
    found = []
    for dtype in (torch.float32, torch.float64):
        xs = [torch.from_numpy(a).to(dtype).requires_grad_() for a in arrays]
        y = f(*xs)
        y.backward(torch.from_numpy(np.cos(np.arange(y.numel())).reshape(tuple(y.shape))).to(dtype))
        found.append([y.detach().double().numpy()] + [x.grad.double().numpy() for x in xs])
    for a, b in zip(*found, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tol * max(np.abs(b).max(), 1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("rows", "cols", "width", "out"), [
    (1, 77, 66, 66), (63, 64, 16, 16), (64, 65, 40, 32), (65, 129, 16, 5), (130, 190, 160, 7), (257, 257, 64, 64),
    (300, 13, 7, 80), (17, 1, 80, 80), (110, 128, 1, 3)])
def test_sizes_around_the_tiles(rows, cols, width, out, causal):
    both(lambda q, k, v: attention(q, k, v, is_causal=causal),
         draw(2, rows, width), draw(2, cols, width, seed=1), draw(2, cols, out, seed=2))


@pytest.mark.parametrize("matrices", [1, 3, 5])
def test_matrices_shared_by_threads(matrices):
    """Fewer matrices than four for each thread: the sums of the keys' gradients come from several parts."""
    both(lambda q, k, v: attention(q, k, v), draw(matrices, 330, 12), draw(matrices, 150, 12, seed=1),
         draw(matrices, 150, 20, seed=2))


def heads(x, n):
    """[batch, rows, n * width] as [batch, n, rows, width], a view."""
    return x.view(x.shape[0], x.shape[1], n, -1).transpose(1, 2)


@pytest.mark.parametrize("transposed", ["qkv", "q", "k", "v", ""])
def test_heads_between_rows(transposed):
    def f(*xs):
        q, k, v = (heads(x, 3) if c in transposed else x.reshape(2, 3, -1, x.shape[2] // 3) for c, x in zip("qkv", xs))
        y = attention(q, k, v)
        assert y.is_contiguous()
        return y.transpose(1, 2).reshape(2, -1, 48)

    both(f, draw(2, 70, 48), draw(2, 90, 48, seed=1), draw(2, 90, 48, seed=2))


def test_nothing_is_copied_for_heads_between_rows():
    x = torch.from_numpy(draw(2, 70, 48))
    q = heads(x, 3)
    assert q.transpose(1, 2)._data() is q._base._data()
    y = attention(q, q, q)
    assert y.stride() == (3 * 70 * 16, 70 * 16, 16, 1)
    assert y.transpose(1, 2).stride() == (3 * 70 * 16, 16, 70 * 16, 1)
    assert y.transpose(1, 2)._data() is y._stored[1]


def test_rows_that_are_no_rows_in_memory():
    both(lambda q, k, v: attention(q.permute(0, 1, 3, 2), k.permute(0, 3, 2, 1), v.permute(3, 2, 1, 0)),
         draw(2, 3, 16, 40), draw(2, 16, 50, 3, seed=1), draw(8, 50, 3, 2, seed=2))


def test_writes_reach_attention_and_its_result():
    x = torch.from_numpy(draw(2, 70, 48))
    q = heads(x, 3)
    before = attention(q, q, q).numpy()
    x.mul_(2)
    twice = attention(q, q, q)
    again = heads(torch.from_numpy(2 * draw(2, 70, 48)), 3)
    assert np.array_equal(twice.numpy(), attention(again, again, again).numpy())
    q.mul_(0.5)
    assert np.array_equal(x.numpy(), draw(2, 70, 48)) and np.array_equal(attention(q, q, q).numpy(), before)
    view = twice.transpose(1, 2)
    view.zero_()
    assert not twice.numpy().any() and not twice.transpose(1, 2).numpy().any()
    twice.fill_(3)
    assert (view.reshape(2, 70, 48).numpy() == 3).all()


def test_second_derivative_of_heads_between_rows():
    found = []
    for dtype in (torch.float32, torch.float64):
        xs = [torch.from_numpy(draw(1, 20, 32, seed=i)).to(dtype).requires_grad_() for i in range(3)]
        y = attention(*(heads(x, 2) for x in xs)).transpose(1, 2).reshape(1, 20, 32)
        first = torch.autograd.grad(y.square().sum(), xs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), xs)
        found.append([t.detach().double().numpy() for t in (*first, *second)])
    for a, b in zip(*found, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_rows_without_keys_are_zero(dtype, kind):
    """PyTorch's result and gradients; the other rows are those of attention without the masked query."""
    mask = torch.ones(70, 80, dtype=torch.bool)
    mask[3] = False
    if kind == "float":
        mask = torch.zeros(70, 80).masked_fill(~mask, -math.inf).to(dtype)
    xs = [torch.from_numpy(draw(2, n, 16, seed=n)).to(dtype).requires_grad_() for n in (70, 80, 81)]
    v = xs[2][:, :80]
    y = attention(xs[0], xs[1], v, mask)
    y.square().sum().backward()
    assert not y[:, 3].detach().numpy().any() and not xs[0].grad[:, 3].numpy().any()
    keep = [i for i in range(70) if i != 3]
    rest = [x.detach().requires_grad_() for x in xs]
    other = attention(rest[0][:, keep], rest[1], rest[2][:, :80])
    other.square().sum().backward()
    assert np.allclose(y[:, keep].detach().numpy(), other.detach().numpy(), atol=1e-6)
    for a, b in zip(xs, rest):
        assert np.allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-5)


def test_infinities_and_nan():
    q, k, v = (torch.from_numpy(draw(1, n, 70, seed=n)) for n in (80, 90, 91))
    v = v[:, :90]
    q[0, 2, 0], k[0, 85, 1] = math.nan, math.inf
    y, exact = (attention(*(t.to(d) for t in (q, k, v))).double().numpy() for d in (torch.float32, torch.float64))
    assert np.isnan(exact[0, 2]).all() and not np.isnan(exact).all()
    assert np.array_equal(np.isnan(y), np.isnan(exact)) and np.allclose(y, exact, atol=1e-5, equal_nan=True)


def test_the_exponential():
    """Two keys, values 0 and 1: the result is the weight e^x / (1 + e^x), small down to the smallest normal numbers."""
    x = np.linspace(-87, 0, 4001).astype(np.float32).reshape(1, -1, 1)
    keys = torch.tensor([[[0.0], [1.0]]])
    found = attention(torch.from_numpy(x), keys, keys, scale=1.0).double().numpy()
    e = np.exp(x.astype(np.float64))
    relative = np.abs(found / (e / (1 + e)) - 1)
    assert relative.max() <= 3e-7 + 87 * 2.0 ** -23 and relative[x > -1].max() <= 5e-7


def test_the_number_of_threads_changes_rounding_only():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            xs = [torch.from_numpy(draw(3, n, 20, seed=n)).requires_grad_() for n in (330, 150, 151)]
            y = attention(xs[0], xs[1], xs[2][:, :150], is_causal=True)
            y.square().sum().backward()
            found.append([y.detach().numpy()] + [x.grad.numpy() for x in xs])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert np.abs(a - b).max() <= 1e-6 * np.abs(a).max()


@pytest.mark.parametrize(("rows", "cols", "causal", "p"), [
    (63, 64, False, 0.1), (130, 77, False, 0.5), (70, 150, True, 0.25)])
def test_dropout_draws_what_dropout_of_the_weights_would(rows, cols, causal, p):
    def f(q, k, v):
        torch.manual_seed(7)  # float64 drops the weights by tensor operations
        return attention(q, k, v, dropout_p=p, is_causal=causal)

    both(f, draw(2, 3, rows, 16), draw(2, 3, cols, 16, seed=1), draw(2, 3, cols, 20, seed=2))


def test_dropout_beside_a_mask_and_in_second_derivatives():
    keep = torch.from_numpy(draw(9, 11) > 0)

    def f(q, k, v):
        torch.manual_seed(8)
        y = attention(q, k, v, attn_mask=keep.index_fill(1, torch.tensor([0]), True), dropout_p=0.3)
        dq, dk, dv = torch.autograd.grad(y.sin().sum(), (q, k, v), create_graph=True)
        return dq.sum() * dk + dv.mean(-1, keepdim=True)

    both(f, draw(2, 9, 8), draw(2, 11, 8, seed=1), draw(2, 11, 6, seed=2), tol=2e-5)


def test_dropout_of_everything_and_of_impossible_parts():
    q = torch.from_numpy(draw(2, 9, 8))
    assert not attention(q, q, q, dropout_p=1.0).numpy().any()
    with pytest.raises(ValueError, match="between 0 and 1"):
        attention(q, q, q, dropout_p=1.5)


def test_second_derivatives_of_dropout_in_half_precision_keep_their_dtype():
    q = torch.from_numpy(draw(2, 9, 8)).to(torch.float16).requires_grad_()
    y = attention(q, q, q, dropout_p=0.3)
    (g,) = torch.autograd.grad(y.float().sum(), q, create_graph=True)
    g.float().sum().backward()
    assert g.dtype is torch.float16 and q.grad.dtype is torch.float16 and torch.isfinite(q.grad.float()).all()
