"""The convolution kernels: float32 against float64 on the host, for every path through them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from jtorch.kernels import conv as kernels
from torch import _conv, _raw


def draw(seed, *shape):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def agree(found, exact, tol):
    assert found.shape == exact.shape
    assert np.abs(found - exact).max() <= tol * np.abs(exact).max()


def check(n, channels, outputs, size, kernel, stride=1, padding=0, dilation=1, groups=1):
    """The three kernels, with and without a bias, against sums in float64."""
    stride, padding, dilation = ((v, v) if isinstance(v, int) else v for v in (stride, padding, dilation))
    geo = _conv.Geometry(stride, padding, dilation, groups)
    out = geo.out(size, kernel)
    x, b, y = draw(0, n, channels, *size), draw(1, outputs), draw(2, n, outputs, *out)
    w = draw(3, outputs, channels // groups, *kernel) / np.sqrt(channels // groups * kernel[0] * kernel[1], dtype=np.float32)
    vx, vw, vb, vy = map(_raw.to_var, (x, w, b, y))
    x, w, b, y = (v.astype(np.float64) for v in (x, w, b, y))
    exact = _conv._host_conv(x, w, geo)
    agree(kernels.conv(vx, vw, None, out, geo.flat()).numpy(), exact, 5e-6)
    agree(kernels.conv(vx, vw, vb, out, geo.flat()).numpy(), exact + b[:, None, None], 5e-6)
    agree(kernels.conv_data(vw, vy, size, geo.flat()).numpy(), _conv._host_conv_x(w, y, size, geo), 5e-6)
    agree(kernels.conv_weights(vx, vy, kernel, geo.flat()).numpy(), _conv._host_conv_w(x, y, kernel, geo), 2e-5)


@pytest.mark.parametrize("case", [
    dict(n=2, channels=64, outputs=48, size=(20, 23), kernel=(3, 3), padding=1),  # Winograd, ragged tiles
    dict(n=1, channels=64, outputs=64, size=(21, 22), kernel=(3, 3)),
    dict(n=1, channels=64, outputs=64, size=(190, 170), kernel=(3, 3), padding=1),  # bands of rows
    dict(n=1, channels=8, outputs=24, size=(250, 131), kernel=(5, 3), stride=(2, 1), padding=(2, 1)),
    dict(n=5, channels=64, outputs=32, size=(80, 80), kernel=(3, 3), padding=1),  # groups of images, the last smaller
    dict(n=1, channels=736, outputs=1280, size=(16, 24), kernel=(3, 3), padding=1),  # chunks of output channels
    dict(n=1, channels=40, outputs=4, size=(150, 150), kernel=(1, 1)),
    dict(n=2, channels=8, outputs=12, size=(150, 150), kernel=(1, 1), stride=2),
    dict(n=1, channels=3, outputs=16, size=(160, 160), kernel=(3, 3), padding=1),
    dict(n=2, channels=12, outputs=24, size=(140, 120), kernel=(3, 3), padding=2, dilation=2, groups=4),
    dict(n=1, channels=4, outputs=4, size=(150, 150), kernel=(3, 3), padding=7),  # rows that see padding only
    dict(n=2, channels=16, outputs=16, size=(1, 70), kernel=(1, 4), padding=(0, 2)),
    dict(n=1, channels=3, outputs=40, size=(56, 56), kernel=(14, 14), stride=14),
])
def test_equals_float64(case):
    check(**case)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_geometry(data):
    def pick(low, high):
        return data.draw(st.integers(low, high))

    groups, kernel = pick(1, 3), (pick(1, 4), pick(1, 4))
    padding, dilation = (pick(0, 3), pick(0, 3)), (pick(1, 2), pick(1, 2))
    size = tuple(max(1, d * (k - 1) + 1 - 2 * p) + pick(0, 9) for k, d, p in zip(kernel, dilation, padding))
    check(pick(1, 3), groups * pick(1, 6), groups * pick(1, 6), size, kernel, (pick(1, 3), pick(1, 3)), padding, dilation,
          groups)


@pytest.mark.parametrize("options", [dict(padding=1), dict(stride=2, padding=1, groups=2), dict(dilation=2)])
def test_gradients_of_input_weight_and_bias(options):
    arrays = draw(0, 2, 8, 12, 11), draw(1, 6, 8 // options.get("groups", 1), 3, 3), draw(2, 6)
    found = []
    for dtype in (torch.float32, torch.float64):
        x, w, b = (torch.from_numpy(a).to(dtype).requires_grad_() for a in arrays)
        y = F.conv2d(x, w, b, **options)
        y.square().sum().backward()
        found.append([v.detach().numpy() for v in (y, x.grad, w.grad, b.grad)])
    for a, e in zip(*found, strict=True):
        agree(a, e, 1e-5)


def test_bias_alone_is_trained():
    b = torch.zeros(3, requires_grad=True)
    F.conv2d(torch.ones(2, 4, 9, 9), torch.ones(3, 4, 3, 3), b).sum().backward()
    assert b.grad.tolist() == [98.0] * 3


def test_second_derivative_of_a_winograd_convolution():
    arrays = draw(0, 1, 64, 24, 24), draw(1, 64, 64, 3, 3) / 24
    found = []
    for dtype in (torch.float32, torch.float64):
        x, w = (torch.from_numpy(a).to(dtype).requires_grad_() for a in arrays)
        (g,) = torch.autograd.grad(F.conv2d(x, w, padding=1).square().sum(), x, create_graph=True)
        g.square().sum().backward()
        found.append([x.grad.numpy(), w.grad.numpy()])
    for a, e in zip(*found, strict=True):
        agree(a, e, 1e-5)


def test_output_padding_beyond_the_stride():
    """Rows of the result that no input reaches are zero and pass no gradient."""
    arrays = draw(0, 2, 4, 6, 5), draw(1, 4, 3, 3, 3)
    found = []
    for dtype in (torch.float32, torch.float64):
        y, w = (torch.from_numpy(a).to(dtype).requires_grad_() for a in arrays)
        x = F.conv_transpose2d(y, w, dilation=2, output_padding=1)
        x.square().sum().backward()
        found.append([v.detach().numpy() for v in (x, y.grad, w.grad)])
    for a, e in zip(*found, strict=True):
        agree(a, e, 1e-5)


def test_changed_weights_are_seen():
    """Only what depends on shapes is kept between calls."""
    x, w = torch.from_numpy(draw(0, 1, 64, 24, 24)), torch.from_numpy(draw(1, 64, 64, 3, 3))
    first = F.conv2d(x, w, padding=1).numpy()
    w.mul_(2)
    agree(F.conv2d(x, w, padding=1).numpy(), 2 * first, 1e-6)
    w.zero_()
    assert not F.conv2d(x, w, padding=1).numpy().any()


def test_not_a_number_stays():
    x = torch.zeros(1, 64, 24, 24)
    x[0, 5, 10, 10] = float("nan")
    y = F.conv2d(x, torch.ones(64, 64, 3, 3), padding=1).numpy()
    assert np.isnan(y[:, :, 9:12, 9:12]).all()


_THREADS = """
import numpy as np, torch, torch.nn.functional as F
r = np.random.default_rng(0)
x = torch.from_numpy(r.standard_normal((2, 64, 96, 100)).astype(np.float32)).requires_grad_()
w = torch.from_numpy(r.standard_normal((64, 64, 3, 3)).astype(np.float32) / 24).requires_grad_()
for threads in (1, 2, 8, 2):
    torch.set_num_threads(threads)
    y = F.conv2d(x, w, padding=1)
    found = [y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y.square().sum(), (x, w)))]
    if threads == 1:
        first = found
    for a, b in zip(first, found):
        assert np.abs(a - b).max() <= 2e-5 * np.abs(a).max(), threads
"""


def test_any_number_of_threads():
    subprocess.run([sys.executable, "-c", _THREADS], check=True, env=os.environ)
