"""Differentiation: grad modes, ``backward``, ``grad``, and user-defined functions."""

import functools

from .. import _engine
from .._missing import module_getattr
from .._tensor import Tensor
from .function import Function, once_differentiable

Variable = Tensor


class _GradMode:
    """Base of the grad-mode managers: works as context manager, as decorator and on generator functions."""

    _mode = True

    def __init__(self, orig_func=None):
        self._prev = []

    def __new__(cls, orig_func=None):
        self = object.__new__(cls)
        if callable(orig_func):
            self._prev = []
            return self(orig_func)
        return self

    def __enter__(self):
        self._prev.append(_engine.state.grad)
        _engine.state.grad = self._mode

    def __exit__(self, *exc):
        _engine.state.grad = self._prev.pop()

    def clone(self):
        return type(self)()

    def __call__(self, func):
        import inspect

        make = self.clone
        if inspect.isclass(func):
            func.__init__ = self(func.__init__)
            return func
        if inspect.isgeneratorfunction(func):

            @functools.wraps(func)
            def generator(*args, **kwargs):
                it = func(*args, **kwargs)
                value = None
                try:
                    while True:
                        with make():
                            out = it.send(value)
                        value = yield out
                except StopIteration as stop:
                    return stop.value
                finally:
                    it.close()

            return generator

        @functools.wraps(func)
        def wrapper(*args, **kwargs):
            with make():
                return func(*args, **kwargs)

        return wrapper


class no_grad(_GradMode):
    """Operations inside are not recorded."""

    _mode = False


class enable_grad(_GradMode):
    """Operations inside are recorded, also within `no_grad`."""

    _mode = True


class set_grad_enabled(_GradMode):
    """Set the mode at once; as a context manager, restore it afterwards."""

    def __new__(cls, mode):
        return object.__new__(cls)

    def __init__(self, mode):
        self._prev = [_engine.state.grad]
        self._mode = bool(mode)
        _engine.state.grad = self._mode

    def __enter__(self):
        _engine.state.grad = self._mode

    def clone(self):
        return type(self)(self._mode)

    def __call__(self, func):
        _engine.state.grad = self._prev[-1]
        return super().__call__(func)


class inference_mode(_GradMode):
    """`no_grad` that also reports itself through ``is_inference_mode_enabled``."""

    def __new__(cls, mode=True):
        self = object.__new__(cls)
        if callable(mode):
            self.__init__(True)
            return self(mode)
        return self

    def __init__(self, mode=True):
        self._prev, self._on = [], bool(mode)

    def __enter__(self):
        self._prev.append((_engine.state.grad, _engine.state.inference))
        if self._on:
            _engine.state.grad, _engine.state.inference = False, True

    def __exit__(self, *exc):
        _engine.state.grad, _engine.state.inference = self._prev.pop()

    def clone(self):
        return type(self)(self._on)


def is_grad_enabled():
    return _engine.state.grad


def is_inference_mode_enabled():
    return _engine.state.inference


def _grads_for(tensors, grads):
    import torch

    out = []
    for t, g in zip(tensors, grads):
        if g is None:
            if t.numel() != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            g = torch.ones(t._shape, dtype=t.dtype, device=t._device)
        elif g._shape != t._shape:
            raise RuntimeError(f"Mismatch in shape: grad_output[0] has a shape of {g._shape} and output[0] has a shape "
                               f"of {t._shape}.")
        out.append(g)
    return out


def _seq(x):
    return (x,) if isinstance(x, Tensor) or x is None else tuple(x)


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None, inputs=None):
    """Add the gradients of ``tensors`` into the ``.grad`` of the leaves they depend on (torch.autograd.backward)."""
    roots = _seq(tensors)
    grads = _seq(grad_tensors) if grad_tensors is not None else (None,) * len(roots)
    _engine.run_backward(roots, _grads_for(roots, grads), create_graph if retain_graph is None else retain_graph,
                         create_graph, _seq(inputs) if inputs is not None else None, True)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, only_inputs=True,
         allow_unused=None, is_grads_batched=False, materialize_grads=False):
    """Gradients of ``outputs`` with respect to ``inputs`` (torch.autograd.grad)."""
    if is_grads_batched:
        raise NotImplementedError("torch.autograd.grad with is_grads_batched is not implemented in torch on Jittor")
    roots, ins = _seq(outputs), _seq(inputs)
    gs = _seq(grad_outputs) if grad_outputs is not None else (None,) * len(roots)
    res = _engine.run_backward(roots, _grads_for(roots, gs), create_graph if retain_graph is None else retain_graph,
                               create_graph, ins, False, bool(allow_unused) or materialize_grads)
    if materialize_grads:
        import torch

        res = [torch.zeros_like(t) if g is None else g for t, g in zip(ins, res)]
    return tuple(res)


class detect_anomaly:
    """Not available: constructing it raises, rather than pretend to check."""

    def __init__(self, *args, **kwargs):
        raise NotImplementedError("torch.autograd.detect_anomaly is not implemented in torch on Jittor")


__all__ = ["Function", "Variable", "backward", "enable_grad", "grad", "inference_mode", "no_grad",
           "once_differentiable", "set_grad_enabled"]
__getattr__ = module_getattr("torch.autograd")
