"""Trees of dicts, lists and tuples with tensors (or anything else) as leaves; libraries register more containers."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

from .._missing import module_getattr

Context = Any


class NodeDef(NamedTuple):
    """How a container type is taken apart and put together."""

    type: type
    flatten_fn: Callable
    unflatten_fn: Callable


SUPPORTED_NODES = {}
_serialized_names = {}


def register_pytree_node(cls, flatten_fn, unflatten_fn, *, serialized_type_name=None, to_dumpable_context=None,
                         from_dumpable_context=None, flatten_with_keys_fn=None):
    """Make ``cls`` a container: ``flatten_fn(obj) -> (children, context)``, ``unflatten_fn(children, context) -> obj``.

    The serialisation arguments are remembered by name only: trees are not written to text here. Raises `ValueError`
    when ``cls`` is registered already.
    """
    if cls in SUPPORTED_NODES:
        raise ValueError(f"{cls} is already registered as pytree node.")
    _register(cls, flatten_fn, unflatten_fn)
    _serialized_names[cls] = serialized_type_name or f"{cls.__module__}.{cls.__qualname__}"


def _register(cls, flatten_fn, unflatten_fn):
    SUPPORTED_NODES[cls] = NodeDef(cls, flatten_fn, unflatten_fn)


def _register_pytree_node(cls, flatten_fn, unflatten_fn, to_str_fn=None, maybe_from_str_fn=None, *,
                          serialized_type_name=None, to_dumpable_context=None, from_dumpable_context=None):
    """Old name of `register_pytree_node`; registering twice replaces."""
    _register(cls, flatten_fn, unflatten_fn)


def _dict_flatten(d):
    return list(d.values()), list(d.keys())


def _dict_unflatten(values, context):
    return dict(zip(context, values))


def _list_flatten(x):
    return x, None


def _list_unflatten(values, context):
    return list(values)


def _tuple_flatten(x):
    return list(x), None


def _tuple_unflatten(values, context):
    return tuple(values)


def _namedtuple_flatten(x):
    return list(x), type(x)


def _namedtuple_unflatten(values, context):
    return context(*values)


_register(dict, _dict_flatten, _dict_unflatten)
_register(OrderedDict, _dict_flatten, lambda values, keys: OrderedDict(zip(keys, values)))
_register(list, _list_flatten, _list_unflatten)
_register(tuple, _tuple_flatten, _tuple_unflatten)
_register(namedtuple, _namedtuple_flatten, _namedtuple_unflatten)


def _is_namedtuple_instance(tree):
    return isinstance(tree, tuple) and type(tree).__bases__ == (tuple,) and hasattr(type(tree), "_fields")


def _get_node_type(tree):
    return namedtuple if _is_namedtuple_instance(tree) else type(tree)


@dataclass
class TreeSpec:
    """The shape of a tree: container type (None for a leaf), its context and the specs of its children."""

    type: Any
    context: Context
    children_specs: list = field(default_factory=list)

    @property
    def num_leaves(self):
        return 1 if self.type is None else sum(child.num_leaves for child in self.children_specs)

    def is_leaf(self):
        return self.type is None


class LeafSpec(TreeSpec):
    """The spec of a leaf."""

    def __init__(self):
        super().__init__(None, None, [])


def tree_flatten(tree, is_leaf=None):
    """Return ``(leaves, spec)``; ``is_leaf(node)`` may stop the descent early."""
    leaves = []

    def walk(node):
        kind = _get_node_type(node)
        if kind not in SUPPORTED_NODES or (is_leaf is not None and is_leaf(node)):
            leaves.append(node)
            return LeafSpec()
        children, context = SUPPORTED_NODES[kind].flatten_fn(node)
        return TreeSpec(kind, context, [walk(child) for child in children])

    spec = walk(tree)
    return leaves, spec


def tree_unflatten(leaves, treespec):
    """Rebuild a tree from `tree_flatten`'s results. Raises `ValueError` for a wrong number of leaves."""
    leaves = list(leaves)
    if len(leaves) != treespec.num_leaves:
        raise ValueError(f"tree_unflatten(): got {len(leaves)} leaves for a tree with {treespec.num_leaves}")
    rest = iter(leaves)

    def build(spec):
        if spec.type is None:
            return next(rest)
        children = [build(child) for child in spec.children_specs]
        return SUPPORTED_NODES[spec.type].unflatten_fn(children, spec.context)

    return build(treespec)


def tree_leaves(tree, is_leaf=None):
    """The leaves of a tree, left to right."""
    return tree_flatten(tree, is_leaf)[0]


def tree_structure(tree, is_leaf=None):
    """The spec of a tree."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func, tree, *rests, is_leaf=None):
    """Apply ``func`` to every leaf (and the leaves of trees of the same shape) and rebuild the tree."""
    leaves, spec = tree_flatten(tree, is_leaf)
    columns = [leaves]
    for rest in rests:
        other, other_spec = tree_flatten(rest, is_leaf)
        if other_spec != spec:
            raise ValueError("tree_map(): the trees do not have the same structure")
        columns.append(other)
    return tree_unflatten([func(*row) for row in zip(*columns)], spec)


def tree_map_only(type_or_types, func, tree, is_leaf=None):
    """Apply ``func`` to the leaves of the given type(s) and keep the others."""
    return tree_map(lambda x: func(x) if isinstance(x, type_or_types) else x, tree, is_leaf=is_leaf)


def tree_all(predicate, tree, is_leaf=None):
    """Whether ``predicate`` holds for every leaf."""
    return all(predicate(leaf) for leaf in tree_leaves(tree, is_leaf))


def tree_any(predicate, tree, is_leaf=None):
    """Whether ``predicate`` holds for some leaf."""
    return any(predicate(leaf) for leaf in tree_leaves(tree, is_leaf))


__getattr__ = module_getattr(__name__)
