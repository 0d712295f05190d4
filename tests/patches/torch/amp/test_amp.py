"""Autocast and gradient scaling. The scaler's sequence of scales was checked to equal PyTorch's, step for step."""

import pickle
import threading

import numpy as np
import pytest
import torch
from torch.amp import GradScaler, custom_bwd, custom_fwd

X = torch.sin(torch.arange(12.0)).reshape(3, 4)


def _weight():
    return torch.nn.Parameter(torch.cos(torch.arange(16.0)).reshape(4, 4))


def test_products_run_in_low_precision_and_losses_in_float32():
    w = _weight()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (X @ w).dtype is torch.bfloat16
        assert torch.nn.functional.linear(X, w).dtype is torch.bfloat16
        assert torch.nn.functional.mse_loss(X @ w, X @ w).dtype is torch.float32
        assert (X + 1).dtype is torch.float32
        assert (X.double() @ w.double()).dtype is torch.float64
        with torch.autocast("cpu", enabled=False):
            assert (X @ w).dtype is torch.float32
    assert (X @ w).dtype is torch.float32


def test_state_and_its_restoration():
    assert not torch.is_autocast_cpu_enabled() and torch.get_autocast_cpu_dtype() is torch.bfloat16
    with pytest.raises(KeyError), torch.autocast("cpu", dtype=torch.float16, cache_enabled=False):
        assert torch.is_autocast_cpu_enabled() and torch.get_autocast_cpu_dtype() is torch.float16
        assert not torch.is_autocast_cache_enabled() and not torch.is_autocast_enabled()
        raise KeyError
    assert not torch.is_autocast_cpu_enabled() and torch.get_autocast_cpu_dtype() is torch.bfloat16
    assert torch.is_autocast_cache_enabled() and not torch.amp.autocast_mode.ACTIVE


def test_other_threads_are_not_affected():
    seen = []
    with torch.autocast("cpu"):
        thread = threading.Thread(target=lambda: seen.append((torch.is_autocast_cpu_enabled(), (X @ X.T).dtype)))
        thread.start()
        thread.join()
    assert seen == [(False, torch.float32)]


def test_decorator():
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def product(depth=1):
        return product(depth - 1) if depth else X @ X.T

    assert product().dtype is torch.bfloat16 and (X @ X.T).dtype is torch.float32


def test_gradients_are_float32_and_two_backwards_may_share_a_cast():
    w = _weight()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, second = (X @ w).float().sum(), (X @ w).float().sum()
        first.backward()
        once = w.grad.clone()
        second.backward()
    assert w.grad.dtype is torch.float32 and torch.equal(w.grad, 2 * once)
    expected = X.sum(0)[:, None].expand(4, 4)
    assert torch.allclose(once, expected, rtol=2e-2, atol=2e-2)


def test_a_changed_parameter_is_cast_again():
    w = _weight()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        before = X @ w
        w.mul_(2)
        assert torch.equal(X @ w, before * 2)


def test_cuda_autocast_without_cuda_does_nothing_and_says_so():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.warns(UserWarning, match="CUDA is not available"):
        context = torch.cuda.amp.autocast()
    with context:
        assert (X @ X.T).dtype is torch.float32
    with pytest.warns(UserWarning, match="CUDA is not available"):
        scaler = torch.cuda.amp.GradScaler()
    assert not scaler.is_enabled() and scaler.scale(X) is X and scaler.get_scale() == 1.0 and scaler.state_dict() == {}


def test_bad_arguments():
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'tpu'"):
        torch.autocast("tpu")
    with pytest.warns(UserWarning, match="torch.float64 is not supported"):
        torch.autocast("cpu", dtype=torch.float64)
    with pytest.raises(ValueError, match="growth factor"):
        GradScaler("cpu", growth_factor=1.0)


def test_custom_function_casts_its_inputs():
    seen = []

    class Double(torch.autograd.Function):
        @staticmethod
        @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(ctx, x):
            seen.append((x.dtype, torch.is_autocast_cpu_enabled()))
            return x * 2

        @staticmethod
        @custom_bwd(device_type="cpu")
        def backward(ctx, gradient):
            seen.append(torch.is_autocast_cpu_enabled())
            return gradient * 2

    w = _weight()
    with torch.autocast("cpu"):
        Double.apply(X @ w).sum().backward()
    assert seen == [(torch.float32, False), False] and w.grad is not None


def _train(scaler, overflow_at, steps, unscale_first=False):
    """(scale after each step, whether the parameter moved)."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([p], lr=0.125)
    log = []
    for step in range(steps):
        optimizer.zero_grad()
        scaler.scale(p.sum()).backward()
        if step in overflow_at:
            p.grad[1] = overflow_at[step]
        if unscale_first:
            scaler.unscale_(optimizer)
            if step not in overflow_at:
                assert p.grad.tolist() == [1, 1, 1]
        before = p.tolist()
        scaler.step(optimizer)
        scaler.update()
        log.append((scaler.get_scale(), p.tolist() != before))
    return log


@pytest.mark.parametrize("unscale_first", [False, True])
@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_scale_grows_shrinks_and_skips(bad, unscale_first):
    log = _train(GradScaler("cpu", init_scale=8.0, growth_interval=2), {3: bad}, 6, unscale_first)
    assert log == [(8, True), (16, True), (16, True), (8, False), (8, True), (16, True)]


def test_scaler_state_moves_on():
    scaler = GradScaler("cpu", init_scale=8.0, growth_interval=3)
    _train(scaler, {}, 2)
    state = scaler.state_dict()
    assert state == {"scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 3,
                     "_growth_tracker": 2}
    for other in (GradScaler("cpu"), pickle.loads(pickle.dumps(scaler))):
        other.load_state_dict(state)
        assert _train(other, {}, 1) == [(16, True)]
    with pytest.raises(RuntimeError, match="state dict is empty"):
        GradScaler("cpu").load_state_dict({})


def test_order_of_calls_is_checked():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([p], lr=0.125)
    scaler = GradScaler("cpu")
    with pytest.raises(RuntimeError, match=r"scaler.scale\(loss\)"):
        scaler.step(optimizer)
    scaler.scale(p.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called on this optimizer"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="already been called since the last update"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(optimizer)
    scaler.update(new_scale=4.0)
    assert scaler.get_scale() == 4.0


def test_float16_gradients_are_refused():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float16))
    scaler = GradScaler("cpu", init_scale=2.0)
    scaler.scale(p.sum()).backward()
    with pytest.raises(ValueError, match="FP16"):
        scaler.unscale_(torch.optim.SGD([p], lr=1.0))


def test_scale_of_containers():
    scaler = GradScaler("cpu", init_scale=4.0)
    a, (b,) = scaler.scale((torch.ones(1), [torch.full((1,), 2.0)]))
    np.testing.assert_array_equal([a.item(), b.item()], [4, 8])
