"""Removable handles and pytrees."""

import collections
import gc
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree
from torch.utils.hooks import RemovableHandle


def test_handle_removes_its_hook_only():
    hooks = collections.OrderedDict()
    first, second = RemovableHandle(hooks), RemovableHandle(hooks)
    hooks[first.id], hooks[second.id] = "first", "second"
    first.remove()
    first.remove()
    assert list(hooks.values()) == ["second"]
    with second:
        pass
    assert not hooks


def test_handle_clears_the_extra_dicts_and_does_not_keep_them_alive():
    hooks, extra = collections.OrderedDict(), collections.OrderedDict()
    handle = RemovableHandle(hooks, extra_dict=extra)
    hooks[handle.id] = extra[handle.id] = 1
    handle.remove()
    assert not hooks and not extra
    del hooks
    gc.collect()
    handle.remove()


def test_handle_survives_pickling():
    hooks = collections.OrderedDict()
    handle = RemovableHandle(hooks)
    hooks[handle.id] = "hook"
    other, copied = pickle.loads(pickle.dumps((handle, hooks)))
    other.remove()
    assert not copied and hooks
    assert RemovableHandle(hooks).id > handle.id


trees = st.recursive(st.integers(), lambda t: st.one_of(
    st.lists(t, max_size=3), st.lists(t, max_size=3).map(tuple), st.dictionaries(st.text(max_size=2), t, max_size=3)))


@given(trees)
def test_flatten_and_unflatten_are_inverse(tree):
    leaves, spec = _pytree.tree_flatten(tree)
    assert spec.num_leaves == len(leaves)
    assert _pytree.tree_unflatten(leaves, spec) == tree
    assert _pytree.tree_map(lambda x: x + 1, _pytree.tree_map(lambda x: x - 1, tree)) == tree


def test_containers_are_kept():
    Pair = collections.namedtuple("Pair", "a b")
    tree = Pair(collections.OrderedDict(x=1), [2, (3, None)])
    mapped = _pytree.tree_map(lambda x: x, tree)
    assert type(mapped) is Pair and type(mapped.a) is collections.OrderedDict and mapped == tree
    assert _pytree.tree_leaves(tree) == [1, 2, 3, None]
    with pytest.raises(ValueError, match="got 1 leaves for a tree with 4"):
        _pytree.tree_unflatten([1], _pytree.tree_structure(tree))


def test_registered_containers():
    class Box:
        def __init__(self, value):
            self.value = value

    flatten, unflatten = lambda box: ([box.value], None), lambda values, _: Box(*values)
    assert _pytree.tree_leaves(Box(1))[0].value == 1
    _pytree.register_pytree_node(Box, flatten, unflatten, serialized_type_name="Box")
    assert _pytree.tree_map(lambda x: x * 2, {"b": Box(3)})["b"].value == 6
    with pytest.raises(ValueError, match="already registered"):
        _pytree.register_pytree_node(Box, flatten, unflatten)
    _pytree._register_pytree_node(Box, flatten, unflatten)


def test_model_outputs_are_containers():
    from transformers.modeling_outputs import BaseModelOutput

    out = BaseModelOutput(last_hidden_state=torch.ones(2))
    doubled = _pytree.tree_map(lambda t: t * 2, out)
    assert type(doubled) is BaseModelOutput and doubled.last_hidden_state.tolist() == [2, 2]
