"""`state_dict` and `load_state_dict`: contents, messages, hooks."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


def _net():
    net = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), norm=nn.BatchNorm1d(3)))
    net.register_buffer("kept", torch.ones(2))
    net.register_buffer("lost", torch.ones(2), persistent=False)
    net.tied = net.a
    return net


KEYS = [
    "kept", "a.weight", "a.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
    "norm.num_batches_tracked", "tied.weight", "tied.bias",
]  # fmt: skip


def test_contents():
    net = _net()
    state = net.state_dict()
    assert list(state) == KEYS
    assert not any(value.requires_grad for value in state.values())
    assert state._metadata[""] == {"version": 1} and state._metadata["norm"] == {"version": 2}
    assert list(net.state_dict(prefix="x.")) == ["x." + key for key in KEYS]
    assert net.state_dict(keep_vars=True)["a.weight"] is net.a.weight


def test_the_state_shares_memory_with_the_module():
    net = _net()
    net.state_dict()["a.weight"].zero_()
    assert net.a.weight.abs().sum().item() == 0


@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_loading_copies_values_into_the_same_parameters(seed):
    torch.manual_seed(seed)
    source, target = _net(), _net()
    weight = target.a.weight
    result = target.load_state_dict(source.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    assert target.a.weight is weight and weight.requires_grad and weight.grad_fn is None
    for key, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[key]), key
    with torch.no_grad():
        source.a.weight.add_(1.0)
    assert not torch.equal(source.a.weight, weight)


def test_loading_converts_to_the_dtype_of_the_module():
    target = _net()
    target.load_state_dict(_net().half().state_dict())
    assert target.a.weight.dtype is torch.float32


def test_names_that_differ_are_all_listed():
    state = _net().state_dict()
    del state["a.bias"], state["kept"]
    state["foo"] = state["a.more"] = torch.ones(1)
    with pytest.raises(RuntimeError) as caught:
        _net().load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Sequential:\n"
        '\tMissing key(s) in state_dict: "kept", "a.bias". \n'
        '\tUnexpected key(s) in state_dict: "foo", "a.more". '
    )
    result = _net().load_state_dict(state, strict=False)
    assert result.missing_keys == ["kept", "a.bias"] and result.unexpected_keys == ["foo", "a.more"]


def test_a_wrong_shape_raises_even_when_not_strict_and_names_both():
    state = _net().state_dict()
    state["a.weight"] = torch.ones(4, 2)
    with pytest.raises(RuntimeError) as caught:
        _net().load_state_dict(state, strict=False)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Sequential:\n"
        "\tsize mismatch for a.weight: copying a param with shape torch.Size([4, 2]) from checkpoint, the shape in "
        "current model is torch.Size([3, 2])."
    )


def test_what_is_not_a_state_is_refused():
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        _net().load_state_dict([1])
    state = _net().state_dict()
    state["kept"] = "text"
    with pytest.raises(RuntimeError, match=r'named "kept", expected torch\.Tensor or Tensor-like object'):
        _net().load_state_dict(state)


def test_loading_does_not_change_the_given_dictionary():
    state = OrderedDict((key, value) for key, value in _net().state_dict().items() if "num_batches" not in key)
    before = list(state)
    _net().load_state_dict(state)  # without metadata: an old checkpoint, which had no num_batches_tracked
    assert list(state) == before


def test_assign_takes_the_tensors_themselves():
    with torch.no_grad():
        state = {key: value.clone() for key, value in _net().half().state_dict().items()}
    target = _net().to("meta")
    target.a.bias.requires_grad_(False)
    target.load_state_dict(state, assign=True)
    assert target.a.weight.dtype is torch.float16 and target.a.weight.device.type == "cpu"
    assert isinstance(target.a.weight, nn.Parameter) and target.a.weight.requires_grad
    assert not target.a.bias.requires_grad
    assert torch.equal(target.a.weight, state["a.weight"])


def test_copying_into_meta_without_assign_warns():
    target = nn.Linear(2, 2, device="meta")
    with pytest.warns(UserWarning, match="assign=True"):
        target.load_state_dict(nn.Linear(2, 2).state_dict())


def test_one_element_is_read_as_a_number():
    norm = nn.BatchNorm1d(2, affine=False)
    state = norm.state_dict()
    state["num_batches_tracked"] = torch.tensor([5])
    norm.load_state_dict(state)
    assert norm.num_batches_tracked.item() == 5 and norm.num_batches_tracked.shape == ()


def test_hooks_run_in_order_and_see_their_module():
    net, log = _net(), []
    net.a.register_state_dict_pre_hook(lambda module, prefix, keep_vars: log.append(("pre", prefix, keep_vars)))
    net._register_state_dict_hook(lambda module, state, prefix, meta: log.append(("post", prefix, meta["version"])))
    net.state_dict(keep_vars=True)
    # the tied layer is saved under both names
    assert log == [("pre", "a.", True), ("pre", "tied.", True), ("post", "", 1)]
    log.clear()
    plain = net.a._register_load_state_dict_pre_hook(lambda state, prefix, *rest: log.append(("load", prefix)))
    net.a._register_load_state_dict_pre_hook(
        lambda module, state, prefix, *rest: log.append(module is net.a), with_module=True
    )
    net.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())
    state = _net().state_dict()
    del state["kept"]
    net.load_state_dict(state)
    assert log == [("load", "a."), True, ("load", "tied."), True]
    plain.remove()
    log.clear()
    net.load_state_dict(state)
    assert log == [True, True]


def test_a_returned_state_replaces_the_collected_one():
    net = _net()
    net._register_state_dict_hook(lambda module, state, prefix, meta: {"only": torch.ones(1)})
    assert list(net.state_dict()) == ["only"]


def test_post_hooks_must_not_return_anything():
    net = nn.Linear(1, 1)
    net.register_load_state_dict_post_hook(lambda module, keys: keys)
    with pytest.raises(AssertionError, match="register_load_state_dict_post_hook"):
        net.load_state_dict(net.state_dict())


def test_an_overridden_loader_can_rename():
    class Renamed(nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *args):
            state_dict[prefix + "weight"] = state_dict.pop(prefix + "old")
            super()._load_from_state_dict(state_dict, prefix, *args)

    net = nn.Sequential(Renamed(2, 2, bias=False))
    net.load_state_dict({"0.old": torch.eye(2)})
    assert torch.equal(net[0].weight, torch.eye(2))


def test_extra_state():
    class Extra(nn.Module):
        got = None

        def get_extra_state(self):
            return {"steps": 3}

        def set_extra_state(self, state):
            self.got = state

    extra = Extra()
    assert extra.state_dict() == {"_extra_state": {"steps": 3}}
    extra.load_state_dict(extra.state_dict())
    assert extra.got == {"steps": 3}
    with pytest.raises(RuntimeError, match=r'Missing key.*"_extra_state"'):
        extra.load_state_dict({})
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"_extra_state"'):
        nn.ReLU().load_state_dict({"_extra_state": 1})
