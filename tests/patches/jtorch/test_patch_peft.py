"""peft's LoRA linear layer as one operation: against the released forward, and where it must stay peft's."""

import numpy as np
import pytest
import torch
from peft.tuners.lora.layer import Linear
from torch import nn

released = Linear.forward.released


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32))


def layer(bias=True, dropout=0.0, rank=5, width=(24, 40), **more):
    torch.manual_seed(0)
    base = nn.Linear(*width, bias=bias).requires_grad_(False)
    return Linear(base, "default", r=rank, lora_alpha=7, lora_dropout=dropout, init_lora_weights=False, **more)


def run(forward, adapted, x, needs_x=True):
    """(name of the recorded node, [result, gradients of A, B and x])."""
    torch.manual_seed(5)
    adapted.zero_grad()
    x = x.clone().requires_grad_(needs_x)
    y = forward(adapted, x)
    y.backward(draw(*y.shape, seed=3))
    grads = [p.grad for p in (adapted.lora_A.default.weight, adapted.lora_B.default.weight, *([x] if needs_x else []))]
    return y.grad_fn.name, [t.detach().numpy().copy() for t in (y, *grads)]


def compare(found, wanted, tol=1e-6):
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape and np.abs(a - b).max() <= tol * np.abs(b).max()


@pytest.mark.parametrize("needs_x", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("bias", [True, False])
def test_one_node_with_the_released_result(bias, dropout, needs_x):
    adapted, x = layer(bias, dropout), draw(3, 5, 24)
    name, found = run(Linear.forward, adapted, x, needs_x)
    other, wanted = run(released, adapted, x, needs_x)
    assert (name, other) == ("lora_linear", "add")
    compare(found, wanted)
    exact, x64 = layer(bias, dropout).double(), x.double()
    if not dropout:
        compare(found, run(released, exact, x64, needs_x)[1], 2e-6)


@pytest.mark.parametrize(("shape", "width", "rank"), [
    ((66,), (66, 3), 1), ((700, 65), (65, 129), 64), ((2, 3, 40, 8), (8, 8), 8),
])
def test_any_shape(shape, width, rank):
    adapted, x = layer(rank=rank, width=width), draw(*shape)
    x._var()
    compare(run(Linear.forward, adapted, x)[1], run(released, adapted, x)[1], 2e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_second_derivatives(dropout):
    found = []
    for forward in (Linear.forward, released):
        adapted = layer(dropout=dropout)
        torch.manual_seed(5)
        x = draw(4, 24).requires_grad_()
        weights = [adapted.lora_A.default.weight, adapted.lora_B.default.weight]
        grads = torch.autograd.grad((forward(adapted, x) ** 3).sum(), [x, *weights], create_graph=True)
        sum((g * g).sum() for g in grads).backward()
        found.append([t.grad.numpy().copy() for t in (x, *weights)])
    compare(*found, 1e-5)


def test_no_tape_without_gradients():
    adapted, x = layer(), draw(3, 24)
    with torch.no_grad():
        assert adapted(x).grad_fn is None
    compare([adapted(x).detach().numpy()], [released(adapted, x).detach().numpy()])


def _hooked(adapted):
    adapted.base_layer.register_forward_hook(lambda module, args, result: result * 2)


def _hooked_dropout(adapted):
    adapted.lora_dropout.default.register_forward_hook(lambda module, args, result: result * 2)


def _all_dropped(adapted):
    adapted.lora_dropout["default"] = nn.Dropout(1.0)


def test_dropout_draws_as_peft_does_and_not_in_evaluation():
    x, states, adapted = draw(3, 24), [], layer(dropout=0.3)
    for forward in (Linear.forward, released):
        torch.manual_seed(5)
        forward(adapted, x)
        states.append(torch.get_rng_state())
    assert states[0].equal(states[1]) and not states[0].equal(torch.manual_seed(5).get_state())
    adapted.eval()
    assert adapted(x).equal(adapted(x))


def _two(adapted):
    adapted.update_layer("more", 3, lora_alpha=3, lora_dropout=0.0, init_lora_weights=False, use_rslora=False)
    adapted.set_adapter(["default", "more"])


@pytest.mark.parametrize("change", [
    _hooked, _two, lambda m: m.merge(), lambda m: m.enable_adapters(False),
    lambda m: m.base_layer.weight.requires_grad_(True), lambda m: m.set_adapter("missing"), _hooked_dropout, _all_dropped,
], ids=["hook", "two adapters", "merged", "disabled", "trained base", "no such adapter", "hook on dropout", "all dropped"])
def test_other_cases_stay_with_peft(change):
    adapted, x = layer(), draw(3, 24).requires_grad_()
    change(adapted)
    y = adapted(x)
    assert y.grad_fn.name != "lora_linear"
    assert np.array_equal(y.detach().numpy(), released(adapted, x).detach().numpy())


def test_dora_half_precision_and_autocast_stay_with_peft():
    x = draw(3, 24)
    assert layer(use_dora=True)(x).grad_fn.name != "lora_linear"
    assert layer().bfloat16()(x.bfloat16()).grad_fn.name != "lora_linear"
    with torch.autocast("cpu", torch.bfloat16):
        assert layer()(x).dtype is torch.bfloat16
