"""Walking a module: its parameters, buffers and children by name, and applying functions to all of them."""

import torch
from torch._missing import TorchNameError

from ..parameter import Parameter


def _parse_to(args, kwargs):
    """Sort the arguments of `Module.to` into (device, dtype, non_blocking, memory_format)."""
    kwargs = dict(kwargs)
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    other, memory_format = kwargs.pop("tensor", None), kwargs.pop("memory_format", None)
    non_blocking = kwargs.pop("non_blocking", False)
    if kwargs:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(kwargs))}'")
    positional = list(args)
    if positional and isinstance(positional[0], torch.Tensor):
        other = positional.pop(0)
    elif positional and isinstance(positional[0], torch.dtype):
        dtype = positional.pop(0)
    elif positional:
        if positional[0] is not None:
            device = positional[0]
        positional.pop(0)
        if positional and (positional[0] is None or isinstance(positional[0], torch.dtype)):
            dtype = positional.pop(0) or dtype
    if positional and isinstance(positional[0], bool):
        non_blocking = positional.pop(0)
        if positional and isinstance(positional[0], bool):
            positional.pop(0)  # `copy`: meaningless for a module
    if positional:
        raise TypeError(f"to() received an invalid combination of arguments: {positional[0]!r} is not understood")
    if other is not None:
        device, dtype = other.device, other.dtype
    return (None if device is None else torch.device(device)), dtype, non_blocking, memory_format


class TreeMixin:
    """Names, children and bulk changes of a module; see `torch.nn.Module`."""

    def _named_members(self, get_members_fn, prefix="", recurse=True, remove_duplicate=True):
        seen = {}  # by id: tensors compare elementwise, and holding them keeps their ids from being used again
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for module_prefix, module in modules:
            for name, member in get_members_fn(module):
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen[id(member)] = member
                yield (f"{module_prefix}.{name}" if module_prefix else name), member

    def parameters(self, recurse=True):
        """Iterate over the parameters, each once; `recurse` includes the children's."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """Iterate over (dotted name, parameter); a shared parameter comes once unless not `remove_duplicate`."""
        return self._named_members(lambda module: module._parameters.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True):
        """Iterate over the buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """Iterate over (dotted name, buffer)."""
        return self._named_members(lambda module: module._buffers.items(), prefix, recurse, remove_duplicate)

    def children(self):
        """Iterate over the direct child modules, each once."""
        for _, module in self.named_children():
            yield module

    def named_children(self):
        """Iterate over (name, direct child module)."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def modules(self):
        """Iterate over this module and all below it, each once."""
        # Not by way of named_modules: diffusers walks through all modules twice in each forward with LoRA.
        seen, left = {None}, [self]
        while left:
            module = left.pop()
            if module not in seen:
                seen.add(module)
                yield module
                if children := module._modules:
                    left.extend(reversed(children.values()))

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """Iterate over (dotted name, module), this module first under the name `prefix`."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def get_submodule(self, target):
        """Return the module of that dotted name (this one for ""). AttributeError where there is none."""
        module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, TreeMixin):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def get_parameter(self, target):
        """Return the parameter of that dotted name. AttributeError where there is none."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        parameter = getattr(module, name)
        if not isinstance(parameter, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return parameter

    def get_buffer(self, target):
        """Return the buffer of that dotted name. AttributeError where there is none."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return module._buffers[name]

    def _apply(self, fn, recurse=True):
        """Replace every parameter, gradient and buffer by ``fn`` of it; parameters stay the same objects."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            with torch.no_grad():
                applied = fn(parameter)
            gradient = parameter.grad
            if applied is parameter:
                pass
            elif parameter.is_meta == applied.is_meta:
                parameter.data = applied
            else:
                # A tensor cannot change between the meta device and real memory; the attribute gets a new one.
                parameter = Parameter(applied, parameter.requires_grad)
                self._parameters[name] = parameter
            if gradient is not None:
                with torch.no_grad():
                    moved = fn(gradient)
                parameter.grad = moved.requires_grad_(gradient.requires_grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def apply(self, fn):
        """Call ``fn(module)`` for every module below and then this one; return self."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(self, *args, **kwargs):
        """Move or convert all parameters and buffers in place and return self.

        ``to(device, dtype=None, non_blocking=False)``, ``to(dtype)``, ``to(tensor)``, ``to(memory_format=…)``. Only
        floating-point and complex tensors take the dtype; the memory format applies to 4-D and 5-D ones.
        """
        device, dtype, non_blocking, memory_format = _parse_to(args, kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(
                f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}"
            )

        def convert(tensor):
            wanted = {}
            if device is not None:
                wanted["device"] = device
            if dtype is not None and (tensor.is_floating_point() or tensor.is_complex()):
                wanted["dtype"] = dtype
            if memory_format is not None and tensor.dim() in (4, 5):
                wanted["memory_format"] = memory_format
            return tensor.to(**wanted, non_blocking=non_blocking) if wanted else tensor

        return self._apply(convert)

    def to_empty(self, *, device, recurse=True):
        """Give parameters and buffers uninitialised memory on `device`; return self."""
        return self._apply(lambda tensor: torch.empty_like(tensor, device=device), recurse=recurse)

    def type(self, dst_type):
        """Convert all parameters and buffers to that dtype; return self."""
        return self._apply(lambda tensor: tensor.type(dst_type))

    def cpu(self):
        """Move to the CPU; return self."""
        return self._apply(lambda tensor: tensor.cpu())

    def cuda(self, device=None):
        """Move to a CUDA device; return self."""
        return self._apply(lambda tensor: tensor.cuda(device))

    def float(self):
        """Convert floating-point parameters and buffers to float32; return self."""
        return self._apply(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)

    def double(self):
        """Convert floating-point parameters and buffers to float64; return self."""
        return self._apply(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)

    def half(self):
        """Convert floating-point parameters and buffers to float16; return self."""
        return self._apply(lambda tensor: tensor.half() if tensor.is_floating_point() else tensor)

    def bfloat16(self):
        """Convert floating-point parameters and buffers to bfloat16; return self."""
        return self._apply(lambda tensor: tensor.bfloat16() if tensor.is_floating_point() else tensor)

    def train(self, mode=True):
        """Set training mode (dropout and batch statistics on) here and below; return self."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self):
        """Set evaluation mode here and below; return self."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Train, or freeze, all parameters; return self."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none=True):
        """Drop all gradients, or with ``set_to_none=False`` make them zero."""
        for parameter in self.parameters():
            if parameter.grad is None:
                continue
            if set_to_none:
                parameter.grad = None
                continue
            if parameter.grad.grad_fn is not None:
                parameter.grad.detach_()
            else:
                parameter.grad.requires_grad_(False)
            parameter.grad.zero_()

    def share_memory(self):
        """Not available: Jittor's memory cannot be shared between processes."""
        raise TorchNameError("torch.nn.Module.share_memory is not implemented in torch on Jittor")

    def compile(self, *args, **kwargs):
        """Not available: Jittor compiles every kernel it runs already."""
        raise TorchNameError("torch.nn.Module.compile is not implemented in torch on Jittor")
