"""The tape: accumulation, modes, hooks, custom functions, second derivatives, memory."""

import gc
import weakref

import pytest
import torch


def leaf(*values):
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


def test_gradients_accumulate_and_unreached_leaves_stay_none():
    used, unused = leaf(1, 2), leaf(1, 2)
    (used * 2).sum().backward()
    (used * 3).sum().backward()
    assert used.grad.tolist() == [5, 5]
    assert unused.grad is None


def test_grad_returns_without_touching_leaves():
    x, y = leaf(2.0), leaf(3.0)
    gx, gy = torch.autograd.grad(x * y, (x, y))
    assert (gx.item(), gy.item()) == (3, 2)
    assert x.grad is None
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(x * 2, (x, y))
    assert torch.autograd.grad(x * 2, (x, y), allow_unused=True)[1] is None


def test_modes():
    x = leaf(1.0)
    with torch.no_grad():
        assert not (x * 2).requires_grad
        with torch.enable_grad():
            assert (x * 2).requires_grad
    with torch.inference_mode():
        assert not torch.is_grad_enabled()

    @torch.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad
    assert (x * 2).requires_grad
    assert not (x * 2).detach().requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        (x.detach() * 2).backward()


def test_generators_decorated_with_no_grad_do_not_leak_the_mode():
    @torch.no_grad()
    def f():
        yield torch.is_grad_enabled()
        yield torch.is_grad_enabled()

    for inside in f():
        assert not inside
        assert torch.is_grad_enabled()


def test_the_graph_is_freed_and_can_be_retained():
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_hooks_change_gradients_of_leaves_and_of_results():
    x = leaf(1.0)
    handle = x.register_hook(lambda g: g * 10)
    y = x * 2
    y.register_hook(lambda g: g + 1)
    y.retain_grad()
    (y * 3).sum().backward()
    assert y.grad.item() == 4
    assert x.grad.item() == 80
    handle.remove()
    x.grad = None
    (x * 2).backward()
    assert x.grad.item() == 2
    seen = []
    x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.item()))
    (x * 2).backward()
    assert seen == [4]


def test_second_derivatives():
    x = leaf(2.0, 3.0)
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    g.sum().backward()
    assert x.grad.tolist() == [12, 18]
    x = leaf(0.5)
    (g,) = torch.autograd.grad(x.exp().tanh(), x, create_graph=True)
    (g2,) = torch.autograd.grad(g, x)
    h = 1e-3
    d = [torch.tensor(0.5 + s * h, dtype=torch.float64).exp().tanh() for s in (1, 0, -1)]
    assert abs(g2.item() - ((d[0] - 2 * d[1] + d[2]) / h**2).item()) < 1e-4


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * x * factor, x.detach() > 0

    @staticmethod
    def backward(ctx, g, _):
        (x,) = ctx.saved_tensors
        return 2 * x * g * ctx.factor, None


def test_custom_functions():
    x = leaf(3.0)
    y, flag = Square.apply(x, 5)
    assert not flag.requires_grad
    y.backward()
    assert x.grad.item() == 30


def test_custom_functions_with_wrong_gradients_raise():
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises(RuntimeError, match="incorrect number of gradients"):
        Bad.apply(leaf(1.0), leaf(1.0)).backward()


def test_in_place_writes_after_use_do_not_change_gradients():
    x = leaf(1.0, 2.0)
    y = x * 3
    z = y * y
    y.add_(100)  # PyTorch refuses this; here the saved value is the old one
    z.sum().backward()
    assert x.grad.tolist() == [18, 36]


def test_in_place_on_a_view_is_differentiable():
    x = torch.ones(2, 3, requires_grad=True)
    y = x * 2
    y[0].mul_(5)
    y[:, 1] = 0
    y.sum().backward()
    assert x.grad.tolist() == [[10, 0, 10], [2, 0, 2]]


def test_saved_values_are_released_with_the_graph():
    x = leaf(1.0)
    kept = torch.ones(1)
    ref = weakref.ref(kept)
    y = x * kept
    del kept
    node = y.grad_fn
    y.backward()
    assert node.fn is None
    del y, node
    gc.collect()
    assert ref() is None


def test_leaf_rules():
    with pytest.raises(RuntimeError, match="floating point"):
        torch.ones(2, dtype=torch.int64).requires_grad_()
    y = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match="leaf variables"):
        y.requires_grad_(False)
    with pytest.raises(RuntimeError, match="scalar outputs"):
        leaf(1.0, 2.0).backward()
    with pytest.raises(RuntimeError, match="requires grad"):
        leaf(1.0).numpy()
