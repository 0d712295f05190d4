"""Activation checkpointing: forget what a part of the model computed and compute it again for the backward pass.

How it works on this backend: the part runs once and is recorded as usual; the recording is then replaced by a single
node that stands for the whole part, with the tensors it came from (inputs, parameters, anything else it used) as its
inputs. In the backward pass the part is run again, recorded, and differentiated up to the same tensors. Pending
kernels are run when the recording is dropped and after each recomputation, because a lazy graph would keep the memory
alive.
"""

import contextlib
import warnings

import torch

from .. import _engine
from .._missing import module_getattr
from .._tensor import mk
from ..amp import autocast_mode
from ._pytree import tree_flatten, tree_unflatten

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn"]


class CheckpointError(RuntimeError):
    """The recomputation did not do what the first run did."""


def noop_context_fn():
    """The default ``context_fn``: two contexts that do nothing."""
    return contextlib.nullcontext(), contextlib.nullcontext()


def checkpoint(function, *args, use_reentrant=None, context_fn=noop_context_fn, determinism_check="default",
               debug=False, preserve_rng_state=True, **kwargs):
    """Return ``function(*args, **kwargs)`` without keeping its intermediate results for the backward pass.

    Args:
        function: computes the same thing when called again with the same arguments.
        use_reentrant: False: gradients reach whatever the function used. True: as PyTorch's older variant, nothing is
            recorded unless an argument requires a gradient (a warning says so), and keyword arguments are refused. Say
            which one; the default is True, with a warning.
        context_fn: returns a pair of context managers, for the first run and for the recomputation; not with
            ``use_reentrant=True``.
        determinism_check: "default" compares number, shapes and dtypes of the outputs of both runs; "none" does not.
        preserve_rng_state: draw the same random numbers (dropout) in the recomputation.

    Raises `CheckpointError` in the backward pass when the recomputation differs, and `NotImplementedError` for
    ``debug`` and for a second derivative through the checkpoint.
    """
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly; "
                      "use_reentrant=False is recommended, the default is True.", stacklevel=2)
        use_reentrant = True
    if debug:
        raise NotImplementedError("torch.utils.checkpoint: debug=True is not implemented in torch on Jittor")
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be 'default' or 'none', but got {determinism_check!r}")
    if use_reentrant:
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs) + " (use_reentrant=False takes them)")
        if context_fn is not noop_context_fn:
            raise ValueError("Passing `context_fn` is only supported when use_reentrant=False.")
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    if use_reentrant and not any(isinstance(a, torch.Tensor) and a.requires_grad for a in args):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)
        with torch.no_grad():
            return function(*args)
    return _Part(function, args, kwargs, context_fn, determinism_check, preserve_rng_state).run()


class _Part:
    """One checkpointed call."""

    def __init__(self, function, args, kwargs, context_fn, determinism_check, preserve_rng_state):
        self.function = function
        self.args, self.kwargs = args, kwargs
        self.first_context, self.second_context = context_fn()
        self.check = determinism_check == "default"
        self.rng = torch.get_rng_state() if preserve_rng_state else None
        self.autocast = [
            {"device_type": d, "enabled": torch.is_autocast_enabled(d), "dtype": torch.get_autocast_dtype(d),
             "cache_enabled": torch.is_autocast_cache_enabled()} for d in ("cpu", "cuda")]

    def run(self):
        """The first run. Its recording is dropped, the outputs hang on one node."""
        # Snapshots: writing into an argument later must not change what is recomputed.
        again = [tuple(_snapshot(a) for a in self.args), {k: _snapshot(v) for k, v in self.kwargs.items()}]
        start = next(_engine._sequence)
        with self.first_context:
            result = self.function(*self.args, **self.kwargs)
        self.args, self.kwargs = again
        leaves, spec = tree_flatten(result)
        self.inner = [i for i, x in enumerate(leaves) if _computed_since(x, start)]
        if not self.inner:
            return result
        edges = {}
        for node in _nodes_since([leaves[i] for i in self.inner], start):
            for edge in node.edges:
                if _is_boundary(edge, start):
                    edges.setdefault((id(edge[0]), edge[1]), edge)
        self.boundary = list(edges)
        fresh = []
        for i in self.inner:
            old = leaves[i]
            leaves[i] = mk(old._data(), old.shape, old.dtype, old.device)
            fresh.append(leaves[i])
        self.metas = tuple((x.shape, x.dtype, x.device) for x in fresh)
        node = _engine.Node(self.backward, tuple(edges.values()), "CheckpointBackward")
        node.metas = self.metas
        for number, x in enumerate(fresh):
            x._rg, x._node, x._out_nr = True, node, number
        del old, result  # with these the recording goes
        _engine.flush(fresh)
        return tree_unflatten(leaves, spec)

    def backward(self, *grads):
        """Gradients of the boundary, in the order of the node's edges."""
        if torch.is_grad_enabled():
            raise NotImplementedError("a second derivative through torch.utils.checkpoint is not implemented in torch "
                                      "on Jittor; take it without checkpointing")
        start = next(_engine._sequence)
        outputs = self._recompute(start)
        found = {}
        for node in _nodes_since(outputs, start):
            node.edges = tuple(
                (_collector(found, edge), 0) if _is_boundary(edge, start) else edge for edge in node.edges)
        unknown = set(found) - set(self.boundary)
        if unknown and self.check:
            raise CheckpointError(
                f"torch.utils.checkpoint: the recomputation used {len(unknown)} tensors with gradients that the first "
                "run did not use; the function must do the same in both runs")
        _engine.run_backward(outputs, list(grads))
        result = tuple(found[key].grad if key in found else None for key in self.boundary)
        _engine.flush([g for g in result if g is not None])
        return result

    def _recompute(self, start):
        with contextlib.ExitStack() as stack:
            if self.rng is not None:
                stack.callback(torch.set_rng_state, torch.get_rng_state())
                torch.set_rng_state(self.rng)
            for settings in self.autocast:
                if settings["enabled"] or torch.is_autocast_enabled(settings["device_type"]):
                    stack.enter_context(autocast_mode.autocast(**settings))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(self.second_context)
            leaves, _ = tree_flatten(self.function(*self.args, **self.kwargs))
        inner = [i for i, x in enumerate(leaves) if _computed_since(x, start)]
        outputs = [leaves[i] for i in inner]
        metas = tuple((x.shape, x.dtype, x.device) for x in outputs)
        if inner != self.inner or (self.check and metas != self.metas):
            raise CheckpointError(
                "torch.utils.checkpoint: Recomputed values have different metadata than during the forward pass: "
                f"{_describe(self.metas)} became {_describe(metas)}; the function must do the same in both runs")
        return outputs


def _describe(metas):
    return [f"{str(dtype).removeprefix('torch.')}{list(shape)}" for shape, dtype, _ in metas]


def _snapshot(x):
    return x._snap() if isinstance(x, torch.Tensor) and not x.is_leaf else x


def _computed_since(x, start):
    """Whether ``x`` is a tensor on the tape whose operation was recorded after ``start``."""
    if not isinstance(x, torch.Tensor) or not x.requires_grad:
        return False
    edge = _engine.edge_of(x)
    return edge[0].seq > start


def _is_boundary(edge, start):
    return edge is not None and edge[0].seq < start


def _nodes_since(outputs, start):
    """All nodes recorded after ``start`` that ``outputs`` depend on."""
    found = {}
    stack = [_engine.edge_of(x)[0] for x in outputs]
    while stack:
        node = stack.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        stack += [edge[0] for edge in node.edges if edge is not None and edge[0].seq > start]
    return list(found.values())


class _Collector:
    """Receives the gradient of one boundary tensor."""

    grad = None


def _collector(found, edge):
    """The tape node that collects for ``edge``; ``found`` maps edges to collectors."""
    key = (id(edge[0]), edge[1])
    collector = found.get(key)
    if collector is None:
        collector = found[key] = _Collector()

        def receive(grad):
            collector.grad = grad
            return ()

        collector.node = _engine.Node(receive, (), "CheckpointBoundary")
        collector.node.seq = -1  # after everything else: its gradient must be complete
    return collector.node


def checkpoint_sequential(functions, segments, input, use_reentrant=None, **kwargs):
    """Run a sequence of modules in ``segments`` parts, all but the last one checkpointed.

    Args:
        functions: a `torch.nn.Sequential` or a list of modules or functions, each fed with the result of the one
            before.
        segments: number of parts, at most the number of functions.
        input: argument of the first function.
        use_reentrant, preserve_rng_state: as in `checkpoint`.
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed "
                      "explicitly; use_reentrant=False is recommended, the default is True.", stacklevel=2)
        use_reentrant = True
    functions = list(functions.children()) if isinstance(functions, torch.nn.Sequential) else list(functions)

    def chain(part):
        def run(x):
            for function in part:
                x = function(x)
            return x

        return run

    size = len(functions) // segments
    begin = 0
    for _ in range(segments - 1):
        input = checkpoint(chain(functions[begin:begin + size]), input, use_reentrant=use_reentrant,
                           preserve_rng_state=preserve)
        begin += size
    return chain(functions[begin:])(input)


__getattr__ = module_getattr(__name__)
