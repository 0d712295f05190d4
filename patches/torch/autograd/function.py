"""``autograd.Function``: operations with a hand-written backward."""

from .. import _engine
from .._missing import module_getattr
from .._tensor import Tensor, mk


class FunctionCtx:
    """What ``forward`` leaves for ``backward``."""

    def __init__(self):
        self._saved = ()
        self.needs_input_grad = ()
        self._non_differentiable = ()
        self.materialize_grads = True

    def save_for_backward(self, *tensors):
        self._saved = tuple(t if t is None else (t, t._version) for t in tensors)

    def save_for_forward(self, *tensors):
        self._saved_forward = tensors

    @property
    def saved_tensors(self):
        for s in self._saved:
            if s is not None and s[0]._version != s[1]:
                raise RuntimeError("one of the variables needed for gradient computation has been modified by an "
                                   "inplace operation")
        return tuple(None if s is None else s[0] for s in self._saved)

    def mark_non_differentiable(self, *tensors):
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors):
        self._dirty = tensors

    def set_materialize_grads(self, value):
        self.materialize_grads = value


class Function:
    """Base class: subclasses define static ``forward(ctx, ...)`` and ``backward(ctx, *grads)`` and call ``apply``."""

    @staticmethod
    def forward(ctx, *args, **kwargs):
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx, *grads):
        raise NotImplementedError("You must implement the backward function for custom autograd.Function.")

    @classmethod
    def apply(cls, *args, **kwargs):
        ctx = FunctionCtx()
        need = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        ctx.needs_input_grad = need
        with _engine.set_grad_mode(False):
            if "setup_context" in cls.__dict__:
                out = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, out)
            else:
                out = cls.forward(ctx, *args, **kwargs)
        single = isinstance(out, Tensor)
        outs = [out] if single else list(out)
        if any(need) and _engine.state.grad:
            diff = [i for i, o in enumerate(outs) if isinstance(o, Tensor) and o.dtype._kind >= 2
                    and not any(o is t for t in ctx._non_differentiable)]
            for i in diff:
                o = outs[i]
                if any(o is a for a in args) or o._rg:  # an input returned as output gets a tape position of its own
                    outs[i] = mk(o._data(), o._shape, o.dtype, o._device)
                else:
                    o._sync_view()
            recorded = [outs[i] for i in diff]
            tensors = [a if isinstance(a, Tensor) and n else None for a, n in zip(args, need)]

            def run(*grads):
                full = [None] * len(outs)
                for i, g in zip(diff, grads):
                    full[i] = g
                if ctx.materialize_grads:
                    import torch

                    full = [torch.zeros_like(o) if g is None and isinstance(o, Tensor) else g
                            for o, g in zip(metas, full)]
                res = cls.backward(ctx, *full)
                res = res if isinstance(res, tuple) else (res,)
                if len(res) > len(args) and all(r is None for r in res[len(args):]):
                    res = res[:len(args)]
                if len(res) != len(args):
                    raise RuntimeError(f"function {cls.__name__}Backward returned an incorrect number of gradients "
                                       f"(expected {len(args)}, got {len(res)})")
                return res

            metas = [o.detach_copy() if isinstance(o, Tensor) else o for o in outs]
            if recorded:
                _engine.record(recorded, tensors, run, cls.__name__ + "Backward")
                ctx.next_functions = recorded[0]._node.next_functions
        return outs[0] if single else tuple(outs)


def once_differentiable(fn):
    """Mark a backward that is not itself differentiable: its results are detached."""

    def wrapper(ctx, *grads):
        with _engine.set_grad_mode(False):
            return fn(ctx, *grads)

    return wrapper


InplaceFunction = Function
__getattr__ = module_getattr("torch.autograd.function")
