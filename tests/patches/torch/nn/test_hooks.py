"""Forward and backward hooks."""

import pytest
import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
)


def _linear():
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 3.0]]))
    return layer


X = torch.tensor([[1.0, 10.0]])


def test_pre_hooks_change_arguments_and_forward_hooks_the_output():
    layer = _linear()
    first = layer.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    second = layer.register_forward_hook(lambda module, args, output: output + args[0].sum())
    assert layer(X).item() == 64 + 22
    second.remove()
    assert layer(X).item() == 64
    first.remove()
    assert layer(X).item() == 32
    assert not layer._forward_hooks and not layer._forward_pre_hooks


def test_a_hook_that_returns_none_changes_nothing_and_a_single_value_is_one_argument():
    layer = _linear()
    layer.register_forward_pre_hook(lambda module, args: None)
    layer.register_forward_hook(lambda module, args, output: None)
    assert layer(X).item() == 32
    layer.register_forward_pre_hook(lambda module, args: args[0] * 0)
    assert layer(X).item() == 0


def test_order_and_keyword_arguments():
    class Add(nn.Module):
        def forward(self, x, y=0):
            return x + y

    module, log = Add(), []
    module.register_forward_pre_hook(lambda m, args: log.append("second"))
    module.register_forward_pre_hook(lambda m, args: log.append("first"), prepend=True)
    module.register_forward_pre_hook(lambda m, args, kwargs: (args, {"y": kwargs["y"] + 1}), with_kwargs=True)
    module.register_forward_hook(lambda m, args, kwargs, out: log.append((args, kwargs)), with_kwargs=True)
    handle = module.register_forward_hook(lambda m, args, out: log.append("before"), prepend=True)
    assert module(1, y=2) == 4
    assert log == ["first", "second", "before", ((1,), {"y": 3})]
    handle.remove()
    assert len(module._forward_hooks) == 1


def test_a_pre_hook_with_keywords_must_return_a_pair():
    layer = _linear()
    layer.register_forward_pre_hook(lambda module, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        layer(X)


def test_always_called_hooks_run_after_an_error():
    layer, log = _linear(), []
    layer.register_forward_hook(lambda module, args, output: log.append(output), always_call=True)
    layer.register_forward_hook(lambda module, args, output: log.append("never"))
    with pytest.raises(RuntimeError):
        layer(torch.ones(1, 5))
    assert log == [None]


def test_a_handle_is_a_context():
    layer, log = _linear(), []
    with layer.register_forward_hook(lambda *args: log.append(1)):
        layer(X)
    layer(X)
    assert log == [1]


def test_global_hooks_see_every_module():
    net, log = nn.Sequential(_linear(), nn.ReLU()), []
    handles = [
        register_module_forward_pre_hook(lambda module, args: log.append("pre " + type(module).__name__)),
        register_module_forward_hook(lambda module, args, output: log.append(type(module).__name__)),
        register_module_full_backward_hook(lambda module, gi, go: log.append("back " + type(module).__name__)),
    ]
    try:
        net(X.clone().requires_grad_(True)).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    assert log[:6] == ["pre Sequential", "pre Linear", "Linear", "pre ReLU", "ReLU", "Sequential"]
    assert log[6:] == ["back ReLU", "back Linear", "back Sequential"]
    log.clear()
    net(X)
    assert log == []


def test_backward_hooks_see_the_gradients_of_inputs_and_outputs():
    layer, log = _linear(), []
    handle = layer.register_full_backward_hook(lambda module, gi, go: log.append((gi[0].tolist(), go[0].tolist())))
    x = X.clone().requires_grad_(True)
    (layer(x) * 5).sum().backward()
    assert log == [([[10.0, 15.0]], [[5.0]])]
    assert x.grad.tolist() == [[10.0, 15.0]] and layer.weight.grad.tolist() == [[5.0, 50.0]]
    handle.remove()
    layer(x).sum().backward()
    assert len(log) == 1


def test_backward_hooks_can_replace_gradients():
    layer = _linear()
    layer.register_full_backward_hook(lambda module, gi, go: (gi[0] * 10,))
    layer.register_full_backward_pre_hook(lambda module, go: (go[0] * 2,))
    x = X.clone().requires_grad_(True)
    layer(x).sum().backward()
    assert x.grad.tolist() == [[40.0, 60.0]] and layer.weight.grad.tolist() == [[2.0, 20.0]]


def test_backward_hooks_run_for_inputs_without_gradient():
    layer, log = _linear(), []
    layer.register_full_backward_hook(lambda module, gi, go: log.append((gi, go[0].tolist())))
    layer(X).sum().backward()
    assert log == [((None,), [[1.0]])]


def test_backward_hooks_do_nothing_without_gradients():
    layer, log = _linear(), []
    layer.register_full_backward_hook(lambda *args: log.append(1))
    with torch.no_grad():
        assert layer(X).item() == 32
    assert log == []


def test_a_wrong_number_of_gradients_is_an_error():
    layer = _linear()
    layer.register_full_backward_hook(lambda module, gi, go: (gi[0], gi[0]))
    with pytest.raises(RuntimeError, match="invalid number of grad_input"):
        layer(X.clone().requires_grad_(True)).sum().backward()
