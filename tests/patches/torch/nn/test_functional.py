"""`torch.nn.functional` against golden values of real PyTorch, and what golden values cannot say."""

import importlib.util
import inspect
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).parents[3] / "golden"
_spec = importlib.util.spec_from_file_location("functional_cases", GOLDEN / "functional_cases.py")
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


@pytest.fixture(scope="module")
def golden():
    table = {}
    with np.load(GOLDEN / "functional.npz") as f:
        for key in f.files:
            name, _, part = key.rpartition("/")
            table.setdefault(name, {})[part] = f[key]
    return table


def _close(got, want, tol):
    assert got.shape == want.shape and got.dtype == want.dtype
    scale = max(np.abs(want).max(), 0.1) if want.size else 1
    assert np.abs(got.astype(np.float64) - want).max(initial=0) <= tol * scale


@pytest.mark.parametrize("name", sorted(cases.CASES))
def test_equals_pytorch(name, golden):
    """Results and gradients within 1e-5 of the largest value, second gradients within 1e-4."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = cases.run(torch, name)
    for part, want in golden[name].items():
        if part not in got:
            assert not want.any(), part  # no gradient at all counts as zero
            continue
        _close(got[part], want, 1e-4 if part.startswith("second") else 1e-5)


def test_every_case_has_a_golden_value(golden):
    assert set(cases.CASES) == {n for n in golden if n}


def test_float64_convolution_is_exact():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 2))
    tx, tw = torch.from_numpy(x).requires_grad_(), torch.from_numpy(w).requires_grad_()
    y = F.conv2d(tx, tw, stride=(2, 1), padding=(1, 0))
    xp = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    win = np.lib.stride_tricks.sliding_window_view(xp, (3, 2), (2, 3))[:, :, ::2]
    want = np.einsum("ncyxab,ocab->noyx", win, w)
    assert y.dtype is torch.float64
    np.testing.assert_allclose(y.detach().numpy(), want, rtol=1e-12, atol=1e-12)
    y.sum().backward()
    np.testing.assert_allclose(tw.grad.numpy(), np.broadcast_to(win.sum((0, 2, 3)), w.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_rounded_float32_result(dtype):
    torch.manual_seed(0)
    x, w = torch.randn(2, 8, 6, 6).to(dtype), torch.randn(8, 8, 3, 3).to(dtype)
    g, b = torch.randn(8).to(dtype), torch.randn(8).to(dtype)
    q = torch.randn(2, 9, 8).to(dtype)
    ulp = torch.finfo(dtype).eps
    for f, args in (
        (lambda x, w, b: F.conv2d(x, w, b, padding=1), (x, w, b)),
        (lambda x, g, b: F.group_norm(x, 2, g, b), (x, g, b)),
        (lambda q, g, b: F.layer_norm(q, (8,), g, b), (q, g, b)),
        (F.silu, (x,)),
        (F.gelu, (x,)),
        (lambda q: F.softmax(q, -1), (q,)),
        (lambda q, w: F.linear(q, w[:, :, 0, 0]), (q, w)),
        (lambda x: F.interpolate(x, (9, 9), mode="bilinear"), (x,)),
        (lambda x: F.mse_loss(x, x * 0), (x,)),
    ):
        half, wide = f(*args), f(*(a.float() for a in args))
        assert half.dtype is dtype
        assert float((half.float() - wide).abs().max()) <= 2.5 * ulp * float(wide.abs().max())


def test_gradients_keep_their_dtype_in_bfloat16():
    x = torch.randn(2, 8, 12).bfloat16().requires_grad_()
    w = torch.ones(12, dtype=torch.bfloat16, requires_grad=True)
    F.silu(F.layer_norm(x, (12,), w, w * 0)).sum().backward()
    assert x.grad.dtype is w.grad.dtype is torch.bfloat16


def test_autocast_runs_matrix_work_low_and_losses_wide():
    """The lists of the CPU: norms and softmax stay in the type they get (on CUDA they would be float32)."""
    x, w = torch.randn(4, 16), torch.randn(16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = F.linear(x, w)
        assert y.dtype is torch.bfloat16
        assert F.layer_norm(y, (16,)).dtype is F.group_norm(y, 2).dtype is F.softmax(y, -1).dtype is torch.bfloat16
        assert F.layer_norm(x, (16,)).dtype is torch.float32
        assert F.mse_loss(y, y).dtype is F.mse_loss(y, x).dtype is torch.float32
        assert F.cross_entropy(y, torch.tensor([1, 2, 3, 4])).dtype is torch.float32
        q = torch.randn(1, 4, 16)
        assert F.scaled_dot_product_attention(q, q, q).dtype is torch.bfloat16
        assert F.conv2d(torch.randn(1, 4, 5, 5), torch.randn(4, 4, 3, 3)).dtype is torch.bfloat16


# --- chance ------------------------------------------------------------------------------------------------------------
def test_dropout_keeps_the_mean_and_masks_the_gradient():
    torch.manual_seed(3)
    x = torch.ones(100, 100, requires_grad=True)
    y = F.dropout(x, 0.25)
    y.sum().backward()
    values = set(np.unique(y.detach().numpy()).tolist())
    assert values == {0.0, np.float32(1) / np.float32(0.75)}
    assert abs(float(y.mean()) - 1) < 0.03
    assert bool((x.grad == y.detach()).all())


def test_dropout_is_the_identity_in_evaluation_and_repeats_with_its_seed():
    x = torch.randn(5, 20)
    assert F.dropout(x, 0.5, training=False) is x
    torch.manual_seed(1)
    a = F.dropout(x, 0.5)
    torch.manual_seed(1)
    assert bool((a == F.dropout(x, 0.5)).all())
    assert not F.dropout(x, 1.0).any()


def test_channel_dropout_drops_whole_channels():
    torch.manual_seed(0)
    y = F.dropout2d(torch.ones(8, 16, 3, 3), 0.5).numpy()
    assert ((y == 0).all((2, 3)) | (y == 2).all((2, 3))).all() and (y == 0).any() and (y == 2).any()


def test_attention_dropout_acts_without_a_training_flag():
    q = torch.ones(1, 64, 8)
    torch.manual_seed(0)
    y = F.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
    assert float(y.std()) > 0


def test_gumbel_softmax_hard_is_one_hot_with_a_gradient():
    torch.manual_seed(0)
    x = torch.randn(6, 12, requires_grad=True)
    y = F.gumbel_softmax(x, hard=True)
    assert np.allclose(np.sort(y.detach().numpy(), 1), np.eye(12)[-1], atol=1e-6)
    (y * torch.arange(12.0)).sum().backward()
    assert bool((x.grad != 0).any())


# --- properties --------------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_linear_interpolation_reproduces_a_ramp(n, out, align):
    """A ramp stays a ramp between the outermost samples; weights sum to one everywhere."""
    x = torch.arange(float(n)).reshape(1, 1, n)
    ones = F.interpolate(x * 0 + 1, out, mode="linear", align_corners=align).numpy()
    assert np.allclose(ones, 1, atol=1e-6)
    y = F.interpolate(x, out, mode="linear", align_corners=align).numpy().ravel()
    i = np.arange(out)
    at = i * ((n - 1) / (out - 1) if out > 1 else 0) if align else (i + 0.5) * n / out - 0.5
    assert np.allclose(y, at.clip(0, n - 1), atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from(["bilinear", "bicubic"]))
def test_antialiased_resizing_keeps_constants(n, out, mode):
    x = torch.ones(1, 1, n, 3)
    assert np.allclose(F.interpolate(x, (out, 3), mode=mode, antialias=True).numpy(), 1, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=4, max_size=4), st.sampled_from(["reflect", "replicate", "circular"]))
def test_padding_agrees_with_numpy(amounts, mode):
    x = np.arange(30, dtype=np.float32).reshape(1, 5, 6)
    names = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    left, right, top, bottom = amounts
    want = np.pad(x, ((0, 0), (top, bottom), (left, right)), names[mode])
    assert np.array_equal(F.pad(torch.from_numpy(x), tuple(amounts), mode).numpy(), want)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))
def test_fold_is_the_adjoint_of_unfold(k, s, p, d):
    p = min(p, k)
    rng = np.random.default_rng(k * 100 + s * 10 + p)
    x = torch.from_numpy(rng.standard_normal((1, 2, 7, 6)).astype(np.float32))
    cols = F.unfold(x, k, d, p, s)
    y = torch.from_numpy(rng.standard_normal(cols.shape).astype(np.float32))
    a = float((cols * y).sum())
    b = float((x * F.fold(y, (7, 6), k, d, p, s)).sum())
    assert a == pytest.approx(b, rel=1e-4, abs=1e-4)


def test_pixel_shuffle_is_undone():
    x = torch.randn(2, 12, 3, 5)
    assert bool((F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2) == x).all())


def test_large_rows_keep_float32_accuracy():
    """A long normalised row has mean 0 and variance 1 to single precision, also far from zero."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy((rng.standard_normal((1, 4, 256, 256)) + 3).astype(np.float32))
    y = F.group_norm(x, 1).numpy().astype(np.float64)
    assert abs(y.mean()) < 2e-6 and abs(y.var() - 1) < 2e-5


def test_embedding_max_norm_scales_the_rows_in_place():
    w = torch.full((10, 9), 2.0)
    F.embedding(torch.tensor([1, 3, 1]), w, max_norm=3.0)
    norms = np.linalg.norm(w.numpy(), axis=1)
    assert np.allclose(norms[[1, 3]], 3, atol=1e-4) and np.allclose(norms[[0, 2, 4]], 6)


# --- doors and errors ----------------------------------------------------------------------------------------------------
def test_signatures_are_those_of_torch_2_2():
    def names(f):
        return list(inspect.signature(f).parameters)

    assert names(F.interpolate) == ["input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor",
                                    "antialias"]
    assert names(F.scaled_dot_product_attention) == ["query", "key", "value", "attn_mask", "dropout_p", "is_causal",
                                                     "scale"]
    assert names(F.mse_loss) == ["input", "target", "size_average", "reduce", "reduction"]
    assert names(F.group_norm) == ["input", "num_groups", "weight", "bias", "eps"]


def test_unknown_names_say_so():
    assert not hasattr(F, "rms_norm")
    with pytest.raises(NotImplementedError, match=r"torch\.nn\.functional\.rms_norm"):
        _ = F.rms_norm


X = torch.zeros(1, 4, 8, 8)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: F.linear(torch.zeros(2, 3), torch.zeros(4, 5)), RuntimeError, "2x3 and 5x4"),
    (lambda: F.linear(torch.zeros(2, 3), torch.zeros(4, 3).double()), RuntimeError, "same dtype"),
    (lambda: F.conv2d(X, torch.zeros(2, 3, 3, 3)), RuntimeError, "to have 3 channels, but got 4"),
    (lambda: F.conv2d(X, torch.zeros(2, 4, 9, 9)), RuntimeError, "Kernel size can't be greater"),
    (lambda: F.conv2d(X, torch.zeros(2, 4, 3, 3), padding="some"), RuntimeError, "'some'"),
    (lambda: F.conv2d(X, torch.zeros(2, 4, 3, 3), padding="same", stride=2), RuntimeError, "strided"),
    (lambda: F.group_norm(X, 3), RuntimeError, "num_groups=3"),
    (lambda: F.layer_norm(X, (9,)), RuntimeError, r"\[\*, 9\]"),
    (lambda: F.gelu(X, approximate="fast"), RuntimeError, "'fast'"),
    (lambda: F.glu(torch.zeros(3)), RuntimeError, "size 3"),
    (lambda: F.dropout(X, 1.5), ValueError, "1.5"),
    (lambda: F.interpolate(X), ValueError, "either size or scale_factor"),
    (lambda: F.interpolate(X, 4, 2.0), ValueError, "only one of"),
    (lambda: F.interpolate(X, 4, mode="trilinear"), NotImplementedError, "trilinear"),
    (lambda: F.interpolate(X, 4, align_corners=True), ValueError, "align_corners"),
    (lambda: F.pad(X, (1,)), RuntimeError, "divisible by 2"),
    (lambda: F.pad(X[0], (8, 0), "reflect"), RuntimeError, r"padding \(8, 0\)"),
    (lambda: F.pixel_shuffle(X, 3), RuntimeError, "not divisible by 9"),
    (lambda: F.max_pool2d(X, 2, padding=2), RuntimeError, "at most half"),
    (lambda: F.avg_pool2d(X, 9), RuntimeError, "too small"),
    (lambda: F.mse_loss(X, X, reduction="avg"), ValueError, "avg"),
    (lambda: F.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3])), IndexError, "Target 3"),
    (lambda: F.one_hot(torch.tensor([3]), 3), RuntimeError, "smaller than num_classes"),
    (lambda: F.embedding(torch.tensor([5]), torch.zeros(4, 3)), IndexError, "out of range"),
    (lambda: F.embedding(torch.tensor([0.0]), torch.zeros(4, 3)), RuntimeError, "Long or Int"),
    (lambda: F.scaled_dot_product_attention(X, X, X, torch.zeros(8, 8), is_causal=True), RuntimeError, "is_causal"),
    (lambda: F.grid_sample(X, torch.zeros(1, 2, 2, 2), mode="cubic"), ValueError, "cubic"),
    (lambda: F.ctc_loss(X, X, X, X), NotImplementedError, "ctc_loss"),
])
def test_errors_name_the_fault(call, error, text):
    with pytest.raises(error, match=text):
        call()
