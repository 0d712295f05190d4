"""Reductions, sorting, products and linear algebra against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import PLACES, floats, tensor_at

quick = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
AXES = st.sampled_from([None, 0, 1, 2, -1, (0, 2), (1, 2)])

REDUCTIONS = {
    "sum": np.sum, "mean": np.mean, "amax": np.max, "amin": np.min, "prod": np.prod,
    "std": lambda a, axis, keepdims: np.std(a, axis=axis, keepdims=keepdims, ddof=1),
    "var": lambda a, axis, keepdims: np.var(a, axis=axis, keepdims=keepdims, ddof=1),
    "logsumexp": lambda a, axis, keepdims: np.log(np.sum(np.exp(a), axis=axis, keepdims=keepdims)),
    "norm": lambda a, axis, keepdims: np.sqrt(np.sum(a * a, axis=axis, keepdims=keepdims)),
    "any": lambda a, axis, keepdims: np.any(a, axis=axis, keepdims=keepdims),
    "all": lambda a, axis, keepdims: np.all(a, axis=axis, keepdims=keepdims),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", sorted(REDUCTIONS))
@quick
@given(a=floats((2, 3, 4)), axis=AXES, keep=st.booleans())
def test_reductions_equal_numpy(name, place, a, axis, keep):
    t = tensor_at(a, place)
    every = tuple(range(3)) if axis is None else axis
    if name == "prod":  # torch takes one axis
        every = every[0] if isinstance(every, tuple) else every
    if name == "norm":
        got = torch.norm(t, dim=every, keepdim=keep)
    else:
        got = getattr(torch, name)(t, dim=every, keepdim=keep)
    want = REDUCTIONS[name](a.astype(np.float64), axis=every, keepdims=keep)
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
@quick
@given(a=floats((2, 3, 4)))
def test_whole_tensor_reductions(place, a):
    t = tensor_at(a, place)
    np.testing.assert_allclose(t.sum().item(), a.sum(), rtol=1e-5, atol=1e-5)
    assert t.max().item() == a.max()
    assert t.min().item() == a.min()
    assert t.argmax().item() == a.argmax()
    np.testing.assert_allclose(torch.softmax(t, 1).numpy().sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(torch.log_softmax(t, 2).exp().numpy(), torch.softmax(t, 2).numpy(), rtol=1e-5,
                               atol=1e-7)
    np.testing.assert_allclose(t.cumsum(1).numpy(), a.cumsum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
@quick
@given(a=floats((3, 5)), down=st.booleans())
def test_sorting_equals_numpy(place, a, down):
    t = tensor_at(a, place)
    v, i = t.sort(dim=1, descending=down)
    want = np.sort(a, 1)[:, ::-1] if down else np.sort(a, 1)
    np.testing.assert_array_equal(v.numpy(), want)
    np.testing.assert_array_equal(np.take_along_axis(a, i.numpy(), 1), want)
    top = t.topk(2, dim=1)
    np.testing.assert_array_equal(top.values.numpy(), np.sort(a, 1)[:, ::-1][:, :2])
    np.testing.assert_array_equal(t.max(1).values.numpy(), a.max(1))
    np.testing.assert_array_equal(t.unique().numpy(), np.unique(a))


def test_searchsorted_and_bucketize():
    s = torch.tensor([1.0, 3.0, 5.0])
    assert torch.searchsorted(s, torch.tensor([0.0, 3.0, 6.0])).tolist() == [0, 1, 3]
    assert torch.searchsorted(s, torch.tensor([3.0]), right=True).tolist() == [2]
    assert torch.bucketize(torch.tensor([4.0]), s).tolist() == [2]


EQUATIONS = ["ij,jk->ik", "bij,bjk->bik", "bhid,bhjd->bhij", "i,j->ij", "ii->i", "ij->", "...ij,...jk->...ik",
             "bi,bi->b", "ij,ik,kl->jl", "b h i d, b h j d -> b h i j", "bij,jk"]
SIZES = {"i": 2, "j": 3, "k": 4, "l": 2, "b": 2, "h": 2, "d": 3}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_equals_numpy(equation):
    terms = equation.replace(" ", "").split("->")[0].split(",")
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=[SIZES[c] for c in t.replace("...", "b")]).astype(np.float32) for t in terms]
    got = torch.einsum(equation, *map(torch.from_numpy, arrays))
    np.testing.assert_allclose(got.numpy(), np.einsum(equation.replace(" ", ""), *arrays), rtol=1e-5, atol=1e-6)


SHAPES = [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)),
          ((2, 1, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((130, 70), (70, 90)), ((4, 70, 70), (4, 70, 70))]


@pytest.mark.parametrize(("sa", "sb"), SHAPES)
@pytest.mark.parametrize("place", PLACES)
def test_matmul_and_its_gradients_equal_numpy(sa, sb, place):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=sa).astype(np.float32), rng.normal(size=sb).astype(np.float32)
    ta, tb = tensor_at(a, place).requires_grad_(), tensor_at(b, place).requires_grad_()
    out = ta @ tb
    np.testing.assert_allclose(out.detach().numpy(), a @ b, rtol=1e-5, atol=2e-5)
    assert out.shape == (a @ b).shape
    (out * out).sum().backward()
    wa = torch.from_numpy(a.astype(np.float64)).requires_grad_()
    wb = torch.from_numpy(b.astype(np.float64)).requires_grad_()
    h = 1e-6
    direction = rng.normal(size=sa)
    f = [(((a + s * h * direction) @ b.astype(np.float64)) ** 2).sum() for s in (1, -1)]
    np.testing.assert_allclose((ta.grad.numpy() * direction).sum(), (f[0] - f[1]) / (2 * h), rtol=2e-3)
    direction = rng.normal(size=sb)
    f = [((a.astype(np.float64) @ (b + s * h * direction)) ** 2).sum() for s in (1, -1)]
    np.testing.assert_allclose((tb.grad.numpy() * direction).sum(), (f[0] - f[1]) / (2 * h), rtol=2e-3)
    assert wa.shape == ta.shape
    assert wb.shape == tb.shape


def test_transposed_operands_are_read_without_a_copy_and_right():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(4, 70, 30)).astype(np.float32), rng.normal(size=(4, 50, 70)).astype(np.float32)
    ta, tb = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b).requires_grad_()
    out = ta.transpose(1, 2) @ tb.transpose(1, 2)
    np.testing.assert_allclose(out.detach().numpy(), a.swapaxes(1, 2) @ b.swapaxes(1, 2), rtol=1e-4, atol=1e-5)
    out.sum().backward()
    np.testing.assert_allclose(ta.grad.numpy(), np.broadcast_to(b.sum(1)[:, :, None], a.shape), rtol=1e-4, atol=1e-4)


def test_linear_algebra_equals_numpy():
    a = np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32)
    t = torch.from_numpy(a)
    u, s, vh = torch.linalg.svd(t)
    np.testing.assert_allclose((u * s @ vh).numpy(), a, atol=1e-5)
    np.testing.assert_allclose((torch.linalg.inv(t) @ t).numpy(), np.eye(4), atol=1e-4)
    np.testing.assert_allclose(torch.linalg.solve(t, t[:, :2]).numpy(), np.eye(4)[:, :2], atol=1e-4)
    np.testing.assert_allclose(torch.linalg.norm(t, dim=1).numpy(), np.linalg.norm(a, axis=1), rtol=1e-6)
    with pytest.raises(NotImplementedError, match=r"gradient of torch\.linalg\.svd"):
        torch.linalg.svd(t.requires_grad_())


def test_fourier_transforms_equal_numpy():
    a = np.random.default_rng(4).normal(size=(2, 4, 6)).astype(np.float32)
    f = torch.fft.fftn(torch.from_numpy(a), dim=(-2, -1))
    np.testing.assert_allclose(f.numpy(), np.fft.fftn(a, axes=(-2, -1)), rtol=1e-4, atol=1e-5)
    back = torch.fft.ifftn(torch.fft.ifftshift(torch.fft.fftshift(f, dim=(-2, -1)), dim=(-2, -1)), dim=(-2, -1)).real
    np.testing.assert_allclose(back.numpy(), a, atol=1e-6)
