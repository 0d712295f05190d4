"""What only a card can show. Skipped where this process does not compute on one (JTORCH_CUDA=1 asks for it)."""

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no card, or JTORCH_CUDA=1 is not set")


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(got, expected, part=2e-5):
    got = np.asarray(got, np.float64)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= part * max(1.0, np.abs(expected).max())


def test_tensors_go_there_and_back():
    a = normal(0, 64, 65)
    t = torch.from_numpy(a).to("cuda")
    assert t.is_cuda and t.device.type == "cuda" and t.get_device() == 0
    assert torch.cuda.is_initialized() and torch.cuda.current_device() == 0
    assert (t.cpu().numpy() == a).all() and not t.cpu().is_cuda
    close((t @ t.T).cpu().numpy(), a.astype(np.float64) @ a.T, 1e-4)
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.cuda.get_device_name(99)


def test_random_numbers_are_those_of_the_cpu():
    draws = []
    for device in ("cuda", "cpu"):
        torch.manual_seed(7)
        draws.append([x.cpu().numpy() for x in (torch.randn(40, 50, device=device), torch.rand(3, device=device),
                                                torch.randint(0, 9, (5,), device=device))])
    for here, there in zip(*draws):
        assert (here == there).all()


def test_gradients_equal_those_of_the_cpu():
    found = []
    for device in ("cuda", "cpu"):
        torch.manual_seed(1)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.GroupNorm(4, 8), torch.nn.SiLU(),
                                  torch.nn.Flatten(), torch.nn.Linear(512, 10)).to(device)
        x = torch.from_numpy(normal(2, 4, 3, 8, 8)).to(device)
        torch.nn.functional.mse_loss(net(x), torch.zeros(4, 10, device=device)).backward()
        found.append([p.grad.cpu().numpy() for p in net.parameters()])
    for here, there in zip(*found):
        close(here, there, 1e-3)  # convolutions may use TF32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_scaler(dtype):
    w = torch.nn.Parameter(torch.from_numpy(normal(3, 16, 16)).to("cuda"))
    scaler = torch.cuda.amp.GradScaler(init_scale=256.0)
    with torch.autocast("cuda", dtype=dtype):
        y = w @ w
        assert y.dtype is dtype
        assert torch.softmax(y, -1).dtype is torch.float32
        loss = y.float().square().mean()
    scaler.scale(loss).backward()
    optimizer = torch.optim.SGD([w], lr=0.1)
    scaler.step(optimizer)
    scaler.update()
    assert w.grad.dtype is torch.float32 and np.isfinite(w.grad.cpu().numpy()).all()
    assert scaler.get_scale() == 256.0


def test_figures_are_true():
    properties = torch.cuda.get_device_properties(0)
    assert properties.name == torch.cuda.get_device_name() and properties.multi_processor_count > 0
    assert (properties.major, properties.minor) == torch.cuda.get_device_capability()
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total and abs(total - properties.total_memory) < total / 20
    before = torch.cuda.memory_allocated()
    t = torch.zeros(64 << 20, device="cuda") + 1
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() >= before + (256 << 20) <= torch.cuda.max_memory_allocated()
    del t
    torch.cuda.empty_cache()


def test_events_measure_work():
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    x = torch.ones(2048, 2048, device="cuda")
    start.record()
    y = x
    for _ in range(20):
        y = y @ x * 1e-3
    end.record()
    torch.cuda.synchronize()
    assert start.elapsed_time(end) > 0.1


@pytest.mark.parametrize(("dtype", "part"), [("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 3e-2)])
def test_kernels_agree_with_numpy(dtype, part):
    from jtorch.kernels import attention, on_cuda
    from jtorch.startup import import_jittor

    jt = import_jittor()
    torch.cuda.init()

    def given(seed, *shape):
        v = jt.array(normal(seed, *shape)).cast(dtype)
        return v, v.cast("float32").numpy().astype(np.float64)

    def read(v):
        return v.cast("float32").numpy()

    (x, seen), (g, grad) = given(4, 6, 90), given(5, 6, 90)
    e = np.exp(seen - seen.max(1, keepdims=True))
    soft = e / e.sum(1, keepdims=True)
    close(read(on_cuda.softmax(x)), soft, part)
    y, mean, rstd = on_cuda.norm(x, None, None, (6, 90), 1, 1, 1e-5)
    unit = (seen - seen.mean(1, keepdims=True)) / np.sqrt(seen.var(1, keepdims=True) + 1e-5)
    close(read(y), unit, part)
    expected = (grad - grad.mean(1, keepdims=True) - unit * (grad * unit).mean(1, keepdims=True)) * read(rstd)[:, None]
    close(read(on_cuda.norm_backward(x, g, mean, rstd, None, (6, 90), 1, 1)), expected, 2 * part)
    close(read(on_cuda.activate("silu", x)), seen / (1 + np.exp(-seen)), part)
    for width in (40, 64, 160):
        sizes = (2, 3, 130, 77, width, width)
        (q, qs), (k, ks), (v, vs), (d, ds) = (given(6, 2, 3, 130, width), given(7, 2, 3, 77, width),
                                              given(8, 2, 3, 77, width), given(9, 2, 3, 130, width))
        s = qs @ ks.swapaxes(-1, -2) * width**-0.5
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        rows = [attention.rows(t) for t in (q, k, v)]
        out, lse = on_cuda.attention(*rows, sizes, width**-0.5)
        close(read(out), p @ vs, part)
        dp = ds @ vs.swapaxes(-1, -2)
        slope = p * (dp - (dp * p).sum(-1, keepdims=True)) * width**-0.5
        got = on_cuda.attention_backward(*rows, attention.rows(out), lse, attention.rows(d), sizes, width**-0.5)
        for one, want in zip(got, (slope @ ks, slope.swapaxes(-1, -2) @ qs, p.swapaxes(-1, -2) @ ds)):
            close(read(one), want, 2 * part)
