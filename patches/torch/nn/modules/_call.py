"""Calling a module: forward hooks, backward hooks and the plain fast path."""

import threading
import warnings
import weakref
from collections import OrderedDict

import torch
from torch._missing import TorchNameError
from torch.utils.hooks import RemovableHandle

# Hooks on every module, by handle id (accelerate and profilers use them). The plain path checks only this list of
# dictionaries, so a new kind of hook must be added to it.
_global_forward_pre_hooks = OrderedDict()
_global_forward_hooks = OrderedDict()
_global_forward_hooks_always_called = OrderedDict()
_global_backward_hooks = OrderedDict()
_global_backward_pre_hooks = OrderedDict()


class _Depth(threading.local):
    inside = False  # whether a call is under way


_depth = _Depth()


def _flush(output):
    """Let Jittor run what the outermost call built, so that the lazy graph of a sampling loop stays bounded."""
    engine = getattr(torch, "_engine", None)
    if engine is not None and hasattr(engine, "flush"):
        engine.flush(output)


class _Tap(torch.autograd.Function):
    """The identity, with a function that sees and may replace the gradients on their way back."""

    @staticmethod
    def forward(ctx, on_gradients, *tensors):
        ctx.on_gradients = on_gradients
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx, *gradients):
        return (None, *ctx.on_gradients(gradients))


class _BackwardHooks:
    """The full backward hooks of one call of one module."""

    def __init__(self, module, hooks, pre_hooks):
        self.module = weakref.ref(module)
        self.hooks = hooks
        self.pre_hooks = pre_hooks
        self.inputs = None  # (positions of tapped tensors, number of arguments)
        self.outputs = None
        self.grad_outputs = None

    @staticmethod
    def _tap(values, on_gradients):
        """Send the tensors that need a gradient through a tap; return the new tuple and the tapped positions."""
        places = [i for i, v in enumerate(values) if isinstance(v, torch.Tensor) and v.requires_grad]
        if not places or not torch.is_grad_enabled():
            return values, []
        tapped = _Tap.apply(on_gradients, *(values[i] for i in places))
        values = list(values)
        for place, tensor in zip(places, tapped, strict=True):
            values[place] = tensor
        return tuple(values), places

    @staticmethod
    def _spread(gradients, places, size):
        spread = [None] * size
        for place, gradient in zip(places, gradients, strict=True):
            spread[place] = gradient
        return tuple(spread)

    def wrap_inputs(self, args):
        args, places = self._tap(args, self._on_input_gradients)
        self.inputs = (places, len(args))
        return args

    def wrap_outputs(self, result):
        if isinstance(result, torch.Tensor):
            wrapped, places = self._tap((result,), self._on_output_gradients)
            self.outputs = (places, 1)
            return wrapped[0]
        if type(result) is tuple:
            wrapped, places = self._tap(result, self._on_output_gradients)
            self.outputs = (places, len(result))
            return wrapped
        return result

    def _on_output_gradients(self, gradients):
        places, size = self.outputs
        grad_outputs = self._spread(gradients, places, size)
        for hook in self.pre_hooks:
            answer = hook(self.module(), grad_outputs)
            if answer is not None:
                answer = answer if isinstance(answer, tuple) else (answer,)
                if len(answer) != size:
                    raise RuntimeError(
                        f"Backward pre hook returned an invalid number of grad_output, got {len(answer)}, "
                        f"but expected {size}"
                    )
                grad_outputs = answer
        self.grad_outputs = grad_outputs
        if not self.inputs[0]:
            # No input needs a gradient, so nothing will come through the inputs' tap: this is the end of the module.
            self._run_hooks((None,) * self.inputs[1])
        return tuple(grad_outputs[place] for place in places)

    def _on_input_gradients(self, gradients):
        places, size = self.inputs
        if self.grad_outputs is None:
            raise RuntimeError(
                "Module backward hook for grad_input is called before the grad_output one: the outputs' gradient "
                "flow does not depend on the module's inputs, or the hooked output was not used"
            )
        grad_inputs = self._run_hooks(self._spread(gradients, places, size))
        self.grad_outputs = None
        return tuple(grad_inputs[place] for place in places)

    def _run_hooks(self, grad_inputs):
        for hook in self.hooks:
            answer = hook(self.module(), grad_inputs, self.grad_outputs)
            if answer is not None:
                answer = answer if isinstance(answer, tuple) else (answer,)
                if len(answer) != len(grad_inputs):
                    raise RuntimeError(
                        f"Backward hook returned an invalid number of grad_input, got {len(answer)}, "
                        f"but expected {len(grad_inputs)}"
                    )
                grad_inputs = answer
        return grad_inputs


class CallMixin:
    """The call itself, and registration of the hooks around it."""

    def __call__(self, *args, **kwargs):
        if _depth.inside:
            if (
                self._forward_pre_hooks
                or self._forward_hooks
                or self._backward_hooks
                or self._backward_pre_hooks
                or _global_forward_pre_hooks
                or _global_forward_hooks
                or _global_backward_hooks
                or _global_backward_pre_hooks
            ):
                return self._call_with_hooks(args, kwargs)
            return self.forward(*args, **kwargs)
        _depth.inside = True
        try:
            output = CallMixin.__call__(self, *args, **kwargs)
        finally:
            _depth.inside = False
        if not torch.is_grad_enabled():
            _flush(output)
        return output

    def _call_impl(self, *args, **kwargs):
        return CallMixin.__call__(self, *args, **kwargs)

    def _call_with_hooks(self, args, kwargs):
        called = set()
        try:
            args, kwargs = self._run_forward_pre_hooks(args, kwargs)
            backward = None
            hooks = [*_global_backward_hooks.values(), *self._backward_hooks.values()]
            pre_hooks = [*_global_backward_pre_hooks.values(), *self._backward_pre_hooks.values()]
            if hooks or pre_hooks:
                backward = _BackwardHooks(self, hooks, pre_hooks)
                args = backward.wrap_inputs(args)
            output = self.forward(*args, **kwargs)
            for hook_id, hook in (*_global_forward_hooks.items(), *self._forward_hooks.items()):
                called.add(hook_id)
                output = self._run_forward_hook(hook_id, hook, args, kwargs, output)
            return output if backward is None else backward.wrap_outputs(output)
        except Exception:
            self._run_always_called_hooks(called, args, kwargs)
            raise

    def _run_forward_pre_hooks(self, args, kwargs):
        for hook_id, hook in (*_global_forward_pre_hooks.items(), *self._forward_pre_hooks.items()):
            if hook_id in self._forward_pre_hooks_with_kwargs:
                answer = hook(self, args, kwargs)
                if answer is None:
                    continue
                if not (isinstance(answer, tuple) and len(answer) == 2):
                    raise RuntimeError(
                        f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {answer}."
                    )
                args, kwargs = answer
            else:
                answer = hook(self, args)
                if answer is not None:
                    args = answer if isinstance(answer, tuple) else (answer,)
        return args, kwargs

    def _run_forward_hook(self, hook_id, hook, args, kwargs, output):
        if hook_id in self._forward_hooks_with_kwargs:
            answer = hook(self, args, kwargs, output)
        else:
            answer = hook(self, args, output)
        return output if answer is None else answer

    def _run_always_called_hooks(self, called, args, kwargs):
        """After an error: run the hooks asked for in any case; the first error stays the one that is raised."""
        for always, hooks in (
            (_global_forward_hooks_always_called, _global_forward_hooks),
            (self._forward_hooks_always_called, self._forward_hooks),
        ):
            for hook_id in list(always):
                if hook_id in called or hook_id not in hooks:
                    continue
                try:
                    self._run_forward_hook(hook_id, hooks[hook_id], args, kwargs, None)
                except Exception as error:
                    warnings.warn(
                        "a forward hook with ``always_call=True`` raised an exception that was silenced as another "
                        f"error was raised in forward: {error}",
                        stacklevel=2,
                    )

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call ``hook(module, args)`` before every forward; what it returns (if not None) replaces the arguments.

        With `with_kwargs`: ``hook(module, args, kwargs)``, returning None or ``(args, kwargs)``. `prepend` puts it
        before the module's other hooks. Returns a handle whose ``remove()`` takes the hook away.
        """
        handle = RemovableHandle(self._forward_pre_hooks, extra_dict=self._forward_pre_hooks_with_kwargs)
        _add(self._forward_pre_hooks, handle, hook, prepend)
        if with_kwargs:
            self._forward_pre_hooks_with_kwargs[handle.id] = True
        return handle

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False, always_call=False):
        """Call ``hook(module, args, output)`` after every forward; what it returns (if not None) is the output.

        With `with_kwargs`: ``hook(module, args, kwargs, output)``. With `always_call` it runs with output None also
        when forward raised. Returns a handle whose ``remove()`` takes the hook away.
        """
        handle = RemovableHandle(
            self._forward_hooks, extra_dict=[self._forward_hooks_with_kwargs, self._forward_hooks_always_called]
        )
        _add(self._forward_hooks, handle, hook, prepend)
        if with_kwargs:
            self._forward_hooks_with_kwargs[handle.id] = True
        if always_call:
            self._forward_hooks_always_called[handle.id] = True
        return handle

    def register_full_backward_hook(self, hook, prepend=False):
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the module's inputs are known.

        Both are tuples over the positional arguments and the outputs, None where there is no gradient. A returned
        tuple replaces `grad_input`. Returns a handle.
        """
        handle = RemovableHandle(self._backward_hooks)
        _add(self._backward_hooks, handle, hook, prepend)
        self._is_full_backward_hook = True
        return handle

    def register_full_backward_pre_hook(self, hook, prepend=False):
        """Call ``hook(module, grad_output)`` when the outputs' gradients are known; a returned tuple replaces them."""
        handle = RemovableHandle(self._backward_pre_hooks)
        _add(self._backward_pre_hooks, handle, hook, prepend)
        return handle

    def register_backward_hook(self, hook):
        """Not available: PyTorch's own is deprecated and sees wrong gradients where forward has several steps."""
        raise TorchNameError(
            "torch.nn.Module.register_backward_hook is not implemented in torch on Jittor: "
            "use register_full_backward_hook"
        )


def _add(hooks, handle, hook, prepend):
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)


def _register_global(hooks, hook):
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def register_module_forward_pre_hook(hook):
    """Call ``hook(module, args)`` before the forward of every module; returns a handle."""
    return _register_global(_global_forward_pre_hooks, hook)


def register_module_forward_hook(hook, *, always_call=False):
    """Call ``hook(module, args, output)`` after the forward of every module; returns a handle."""
    handle = RemovableHandle(_global_forward_hooks, extra_dict=_global_forward_hooks_always_called)
    _global_forward_hooks[handle.id] = hook
    if always_call:
        _global_forward_hooks_always_called[handle.id] = True
    return handle


def register_module_full_backward_hook(hook):
    """Call ``hook(module, grad_input, grad_output)`` in the backward of every module; returns a handle."""
    return _register_global(_global_backward_hooks, hook)


def register_module_full_backward_pre_hook(hook):
    """Call ``hook(module, grad_output)`` in the backward of every module; returns a handle."""
    return _register_global(_global_backward_pre_hooks, hook)
