"""Activation checkpointing: the same gradients, with less memory."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch.utils.checkpoint import checkpoint, checkpoint_sequential


def wave(*shape, phase=0.0):
    n = 1
    for s in shape:
        n *= s
    return torch.sin(torch.arange(n, dtype=torch.float32) * 0.7 + phase).reshape(*shape)


@pytest.fixture
def weights():
    return [wave(6, 6, phase=i).requires_grad_() for i in range(4)]


def block(w):
    return lambda x: torch.tanh(x @ w)


def gradients(tensors):
    out = [None if t.grad is None else t.grad.tolist() for t in tensors]
    for t in tensors:
        t.grad = None
    return out


def direct(function, *args, **kwargs):
    kwargs.pop("use_reentrant", None)
    return function(*args, **kwargs)


def both(weights, body):
    """Gradients of ``body(run)`` with ``run`` calling directly and through `checkpoint`."""
    results = []
    for run in (direct, checkpoint):
        body(run)
        results.append(gradients(weights))
    return results


def close(a, b):
    for x, y in zip(a, b, strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            assert torch.allclose(torch.tensor(x), torch.tensor(y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_equal(weights, reentrant):
    def body(run):
        x = wave(3, 6).requires_grad_(reentrant)
        for w in weights[:3]:
            x = run(block(w), x, use_reentrant=reentrant)
        x.pow(2).sum().backward()

    plain, checkpointed = both(weights, body)
    close(plain, checkpointed)
    assert plain[3] is None and plain[0] is not None


def test_nested_arguments_closures_and_nested_checkpoints(weights):
    def body(run):
        outside = wave(3, 6) @ weights[3]

        def inner(x):
            return torch.tanh(x @ weights[0]) * outside

        def outer(x, *, extra, scale):
            return {"out": run(inner, x, use_reentrant=False) + extra["y"] * scale, "list": [x * 2, None, "text"]}

        extra = {"y": outside * 3}
        out = run(outer, wave(3, 6) @ weights[1], extra=extra, scale=2.0, use_reentrant=False)
        assert out["list"][1:] == [None, "text"]
        (out["out"].pow(2).sum() + out["list"][0].sum() + extra["y"].sum()).backward()

    close(*both(weights, body))


def test_autograd_grad_returns_and_does_not_accumulate(weights):
    w = weights[0]
    out = checkpoint(block(w), wave(3, 6), use_reentrant=False).sum()
    (gradient,) = torch.autograd.grad(out, [w])
    block(w)(wave(3, 6)).sum().backward()
    assert torch.allclose(gradient, w.grad, rtol=1e-5)


def test_dropout_draws_the_same_mask_again(weights):
    def body(run):
        torch.manual_seed(5)
        x = wave(3, 6)
        for w in weights:
            x = run(lambda x, w=w: torch.tanh(x @ w) * (torch.rand(3, 6) > 0.5), x, use_reentrant=False)
        after_forward = torch.rand(1).item()
        x.sum().backward()
        draws.append((after_forward, torch.rand(1).item()))

    draws = []
    close(*both(weights, body))
    assert draws[0] == draws[1]


def test_the_recomputation_happens_once_per_backward(weights):
    calls = []

    def counted(x):
        calls.append(torch.is_grad_enabled())
        return torch.tanh(x @ weights[0])

    loss = checkpoint(counted, wave(3, 6), use_reentrant=False).sum()
    assert len(calls) == 1
    loss.backward(retain_graph=True)
    first = gradients(weights)
    loss.backward()
    assert calls[1:] == [True, True]
    close(first, gradients(weights))
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_a_leafs_hook_runs_once(weights):
    seen = []
    weights[0].register_hook(lambda g: seen.append(g.shape))
    checkpoint(block(weights[0]), wave(3, 6), use_reentrant=False).sum().backward()
    assert len(seen) == 1


def test_writing_into_the_argument_later_does_not_matter(weights):
    def body(run):
        x = wave(3, 6) @ weights[0]
        out = run(block(weights[1]), x, use_reentrant=False)
        x.add_(1)
        (out.sum() + x.sum()).backward()

    results = []
    body(checkpoint)
    results.append(gradients(weights))
    x = wave(3, 6) @ weights[0]
    (block(weights[1])(x).sum() + (x + 1).sum()).backward()
    close(results[0], gradients(weights))


def test_without_gradients_it_is_a_plain_call(weights):
    with torch.no_grad():
        assert not checkpoint(block(weights[0]), wave(3, 6), use_reentrant=False).requires_grad
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True"):
        assert not checkpoint(block(weights[0]), wave(3, 6), use_reentrant=True).requires_grad
    with pytest.warns(UserWarning, match="should be passed explicitly"):
        checkpoint(block(weights[0]), wave(3, 6).requires_grad_())


def test_contexts_surround_the_two_runs(weights):
    from contextlib import contextmanager

    log = []

    @contextmanager
    def note(what):
        log.append(what)
        yield
        log.append(f"end of {what}")

    loss = checkpoint(block(weights[0]), wave(3, 6), use_reentrant=False,
                      context_fn=lambda: (note("first"), note("second"))).sum()
    assert log == ["first", "end of first"]
    loss.backward()
    assert log[2:] == ["second", "end of second"]


def test_a_function_that_does_something_else_the_second_time_is_an_error(weights):
    rows = iter([3, 2])
    loss = checkpoint(lambda x: x[:next(rows)] @ weights[0], wave(3, 6), use_reentrant=False).sum()
    with pytest.raises(torch.utils.checkpoint.CheckpointError, match=r"float32\[3, 6\].* became .*float32\[2, 6\]"):
        loss.backward()
    which = iter([0, 1])
    loss = checkpoint(lambda x: x @ weights[next(which)], wave(3, 6), use_reentrant=False).sum()
    with pytest.raises(torch.utils.checkpoint.CheckpointError, match="first run did not use"):
        loss.backward()


@pytest.mark.parametrize("options, error, message", [
    ({"use_reentrant": True, "scale": 2}, ValueError, "scale"),
    ({"use_reentrant": True, "context_fn": lambda: None}, ValueError, "context_fn"),
    ({"use_reentrant": False, "debug": True}, NotImplementedError, "debug"),
    ({"use_reentrant": False, "determinism_check": "twice"}, ValueError, "'twice'"),
])
def test_options_that_are_refused(weights, options, error, message):
    with pytest.raises(error, match=message):
        checkpoint(block(weights[0]), wave(3, 6).requires_grad_(), **options)


def test_autocast_is_the_same_in_the_recomputation(weights):
    seen = []

    def body(x):
        out = x @ weights[0]
        seen.append(out.dtype)
        return out.float()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = checkpoint(body, wave(3, 6), use_reentrant=False).sum()
    loss.backward()
    assert seen == [torch.bfloat16] * 2 and weights[0].grad.dtype is torch.float32


def test_sequential(weights):
    blocks = [block(w) for w in weights]
    checkpoint_sequential(blocks, 3, wave(3, 6).requires_grad_(), use_reentrant=False).pow(2).sum().backward()
    first = gradients(weights)
    x = wave(3, 6)
    for b in blocks:
        x = b(x)
    x.pow(2).sum().backward()
    close(first, gradients(weights))


def test_peak_memory_falls():
    """Ten blocks with four 8 MB intermediates each: stored 320 MB, checkpointed far less."""
    script = textwrap.dedent("""
        import re, sys, torch
        from torch.utils.checkpoint import checkpoint
        weights = [torch.full((64, 2048), 0.01 * (i + 1)).requires_grad_() for i in range(10)]
        def block(w):
            def run(x):
                h = x @ w
                for _ in range(3):
                    h = torch.tanh(h)
                return h @ w.T
            return run
        def step(use):
            x = torch.ones(1024, 64)
            for w in weights:
                x = checkpoint(block(w), x, use_reentrant=False) if use else block(w)(x)
            x.mean().backward()
            total = sum(float(w.grad.sum()) for w in weights)
            for w in weights:
                w.grad = None
            return total
        def peak():  # of this program alone: ru_maxrss would begin with that of the process that started it
            return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
        before = peak()
        print(step(sys.argv[1] == "1"), peak() - before)
    """)
    results = []
    for use in "01":
        done = subprocess.run([sys.executable, "-c", script, use], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        results.append([float(x) for x in done.stdout.split()[-2:]])
    (plain, plain_mb), (checkpointed, checkpointed_mb) = results
    assert checkpointed == pytest.approx(plain, rel=1e-4)
    assert checkpointed_mb < 0.6 * plain_mb, f"{checkpointed_mb:.0f} MB against {plain_mb:.0f} MB"
