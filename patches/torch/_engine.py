"""The tape: records operations on tensors and walks them backwards (reverse-mode differentiation).

Jittor could differentiate its own graph, but PyTorch's rules (hooks, ``grad is None`` for what the loss does not
reach, ``autograd.Function``, saved tensors freed after ``backward``) need a tape above it. Jittor's own gradient
recording is off, so a forward value lives exactly as long as a closure or a tensor holds it.
"""

import heapq
import itertools
import threading
import weakref

from . import _raw


class _State(threading.local):
    grad = True
    inference = False


state = _State()
_sequence = itertools.count()


class Node:
    """One recorded operation.

    ``fn`` maps the gradients of its outputs to a tuple with one gradient (or None) per edge. ``edges`` holds
    ``(node, output number)`` or None for inputs that need no gradient.
    """

    # Defaults of the class: most nodes keep them, and nodes are made for every operation.
    metas = None  # with several outputs: (shape, dtype, device) of each, to supply zeros for those the loss does not use
    pre_hooks = None  # {output number: {id: hook}}
    retain = None  # {output number: weak reference to the tensor that called retain_grad}
    freed = False

    def __init__(self, fn, edges, name):
        self.fn = fn
        self.edges = edges
        self.seq = next(_sequence)
        self.name = name

    @property
    def next_functions(self):
        return tuple(e if e is not None else (None, 0) for e in self.edges)

    def __repr__(self):
        return f"<{self.name} object at {id(self):#x}>"


class AccumulateGrad:
    """End of the tape at a leaf tensor: adds the gradient into ``.grad``."""

    __slots__ = ("__weakref__", "seq", "tensor")
    edges = ()
    next_functions = ()
    name = "AccumulateGrad"

    def __init__(self, tensor):
        self.tensor = weakref.ref(tensor)
        self.seq = -1

    @property
    def variable(self):
        return self.tensor()


def edge_of(t):
    """The tape edge gradients of ``t`` go to, or None."""
    if t._base is not None:
        t._sync_view()
    if not t._rg:
        return None
    if t._node is not None:
        return (t._node, t._out_nr)
    acc = t._acc
    if acc is None:
        acc = t._acc = AccumulateGrad(t)
    return (acc, 0)


def record(outputs, inputs, fn, name):
    """Attach ``outputs`` (fresh tensors) to the tape. ``fn(*grads) -> tuple`` of gradients for ``inputs``."""
    # Lists, not generators, here and in `needs`: this runs for every operation.
    node = Node(fn, tuple([None if t is None else edge_of(t) for t in inputs]), name)
    if len(outputs) == 1:
        o = outputs[0]
        if o.dtype._kind >= 2:
            o._rg, o._node, o._out_nr = True, node, 0
        return
    node.metas = tuple([(o._shape, o.dtype, o._device) for o in outputs])
    for i, o in enumerate(outputs):
        if o.dtype._kind >= 2:
            o._rg = True
            o._node = node
            o._out_nr = i


def needs(*tensors):
    """Whether an operation on these tensors has to be recorded."""
    if not state.grad:
        return False
    for t in tensors:
        if t._base is not None:
            t._sync_view()
        if t._rg:
            return True
    return False


class SavedResult:
    """An operation's own result, kept for its backward.

    Holding the tensor itself would make a cycle with its node; this keeps the data and finds the node again, so that
    second derivatives see the result on the tape.
    """

    __slots__ = ("node", "value")

    def __init__(self, result):
        self.value = result.detach_copy()
        self.node = None

    def bind(self, result):
        self.node = weakref.ref(result._node)

    def get(self):
        if not state.grad:
            return self.value
        t = self.value.detach_copy()
        t._rg, t._node = True, self.node()
        return t


class set_grad_mode:
    """Context manager and decorator that switches recording on or off in this thread."""

    __slots__ = ("mode", "prev")

    def __init__(self, mode):
        self.mode = mode

    def __enter__(self):
        self.prev = state.grad
        state.grad = self.mode

    def __exit__(self, *exc):
        state.grad = self.prev


def run_backward(roots, grads, retain_graph=False, create_graph=False, inputs=None, accumulate=True,
                 allow_unused=False):
    """Propagate ``grads`` of ``roots`` through the tape.

    With ``inputs`` None or ``accumulate`` gradients are added into the ``.grad`` of leaves (of ``inputs`` only where
    given); otherwise the gradients of ``inputs`` are returned (None where the roots do not reach them).

    Raises:
        RuntimeError: a root does not require a gradient, or the tape was freed by an earlier backward.
    """
    import torch

    pending = {}  # number of a node -> (node, list of gradients per output)
    leaves = {}  # id of an end of the tape (its number is -1) -> [it, gradient]
    heap = []  # numbers of nodes, negative: the latest comes first
    wanted = {}
    if inputs is not None:
        for i, t in enumerate(inputs):
            e = edge_of(t)
            if e is None:
                raise RuntimeError("One of the differentiated Tensors does not require grad")
            wanted.setdefault((id(e[0]), e[1]), []).append(i)
    results = [None] * (len(inputs) if inputs is not None else 0)

    def push(edge, g):
        node, nr = edge
        seq = node.seq
        if seq < 0:
            found = leaves.setdefault(id(node), [node, None])
            found[1] = g if found[1] is None else found[1] + g
            return
        found = pending.get(seq)
        if found is None:
            lst = [None] * (1 if node.metas is None else len(node.metas))
            pending[seq] = node, lst
            heapq.heappush(heap, -seq)
        else:
            lst = found[1]
        lst[nr] = g if lst[nr] is None else lst[nr] + g

    with set_grad_mode(create_graph):
        for r, g in zip(roots, grads):
            e = edge_of(r)
            if e is None:
                raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")
            push(e, g)
        finished = []
        while heap:
            node, gs = pending.pop(-heapq.heappop(heap))
            if node.pre_hooks or node.retain:
                _output_hooks(node, gs)
            if wanted:
                for nr, g in enumerate(gs):
                    for i in wanted.get((id(node), nr), ()):
                        if accumulate:
                            _accumulate(inputs[i], g, create_graph)
                        else:
                            results[i] = g if results[i] is None or g is None else results[i] + g
            if node.freed:
                raise RuntimeError(
                    "Trying to backward through the graph a second time (or directly access saved tensors after they "
                    "have already been freed). Specify retain_graph=True if you need to backward through the graph a "
                    "second time.")
            if len(gs) > 1:
                gs = [torch.zeros(m[0], dtype=m[1], device=m[2]) if g is None else g for g, m in zip(gs, node.metas)]
            outs = node.fn(*gs)
            if len(outs) != len(node.edges):
                raise RuntimeError(f"{node.name} returned {len(outs)} gradients for {len(node.edges)} inputs")
            for e, g in zip(node.edges, outs):
                if e is not None and g is not None:
                    push(e, g)
            finished.append(node)
            if not retain_graph:
                node.fn, node.freed = None, True
        for key, (leaf, g) in leaves.items():
            if isinstance(leaf, Node):  # an end that somebody made: a node with number -1
                leaf.fn(g)
            else:
                _leaf(leaf, g, wanted.get((key, 0)), results, inputs is not None and not accumulate, create_graph,
                      inputs is not None)
    if inputs is not None and not accumulate and not allow_unused and any(r is None for r in results):
        raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph. Set "
                           "allow_unused=True if this is the desired behavior.")
    return results


def _output_hooks(node, gs):
    if node.pre_hooks:
        for nr, hooks in node.pre_hooks.items():
            if gs[nr] is not None:
                for h in list(hooks.values()):
                    new = h(gs[nr])
                    if new is not None:
                        gs[nr] = new
    if node.retain:
        for nr, ref in node.retain.items():
            t = ref()
            if t is not None and gs[nr] is not None:
                _accumulate(t, gs[nr], False)


def _leaf(acc, g, wanted, results, return_only, create_graph, restricted):
    t = acc.tensor()
    if t is None:
        return
    for h in list((t._hooks or {}).values()):
        new = h(g)
        if new is not None:
            g = new
    if return_only:
        for i in wanted or ():
            results[i] = g if results[i] is None else results[i] + g
        return
    if restricted and not wanted:
        return
    _accumulate(t, g, create_graph)
    for h in list((t._post_hooks or {}).values()):
        h(t)


def _accumulate(t, g, create_graph):
    if g is None:
        return
    if g.dtype is not t.dtype:
        g = g.to(t.dtype)
    if not create_graph:
        g = g.detach_copy()
    if t.grad is None:
        t.grad = g
    elif create_graph:
        t.grad = t.grad + g
    else:
        t.grad._rebind((t.grad + g)._data())


def flush(values):
    """Run the pending kernels of ``values`` (a tensor or a nested container). Bounds Jittor's lazy graph."""
    vs = []
    _collect(values, vs)
    if vs:
        _raw.jt.sync(vs)


def _collect(x, out):
    if hasattr(x, "_data"):
        v = x._data()
        if type(v) is _raw.Var:
            out.append(v)
    elif isinstance(x, dict):
        for v in x.values():
            _collect(v, out)
    elif isinstance(x, (list, tuple)):
        for v in x:
            _collect(v, out)
    elif hasattr(x, "__dataclass_fields__"):
        for k in x.__dataclass_fields__:
            _collect(getattr(x, k, None), out)
