"""The autocast state, and the casts that operations make under it.

Operations ask ``ACTIVE`` first (one attribute read when autocast is off everywhere) and then call `cast_args`. The
lists of operations are PyTorch's: ``"low"`` for linear, matmul, convolution and attention, ``"fp32"`` for losses,
``"fp32_cuda"`` for softmax, layer and group norm, exponentials and sums (float32 on CUDA, unchanged on the CPU), and
``"promote"`` for operations that need one common type.
"""

import copy
import functools
import threading
import warnings
import weakref

import torch

from .._missing import module_getattr
from ..autograd import Function

# The names that `torch` itself takes from here; the others are reached through `torch.amp`.
__all__ = [
    "autocast", "autocast_decrement_nesting", "autocast_increment_nesting", "clear_autocast_cache",
    "get_autocast_cpu_dtype", "get_autocast_dtype", "get_autocast_gpu_dtype", "is_autocast_cache_enabled",
    "is_autocast_cpu_enabled", "is_autocast_enabled", "set_autocast_cache_enabled", "set_autocast_cpu_dtype",
    "set_autocast_cpu_enabled", "set_autocast_dtype", "set_autocast_enabled", "set_autocast_gpu_dtype",
]

ACTIVE = False  # whether autocast is on in any thread; cast_args then looks at its own thread

_lock = threading.Lock()
_switched_on = 0
_LOW_PRECISION = (torch.float16, torch.bfloat16)


class _DeviceState:
    def __init__(self, dtype):
        self.enabled = False
        self.dtype = dtype


class _State(threading.local):
    def __init__(self):
        self.devices = {"cpu": _DeviceState(torch.bfloat16), "cuda": _DeviceState(torch.float16)}
        self.cache_enabled = True
        self.nesting = 0
        self.cache = {}


_state = _State()


def _device_state(device_type):
    try:
        return _state.devices[device_type]
    except KeyError:
        raise RuntimeError(f"autocast: unknown device type {device_type!r}; 'cpu' and 'cuda' are supported") from None


def is_autocast_available(device_type):
    """Whether `autocast` can be used for ``device_type``."""
    return device_type in _state.devices


def is_autocast_enabled(device_type="cuda"):
    """Whether autocast is on for a device type in this thread (without an argument: for CUDA, as in PyTorch)."""
    return _device_state(device_type).enabled


def set_autocast_enabled(*args):
    """``set_autocast_enabled(device_type, enabled)``, or with one argument for CUDA."""
    global ACTIVE, _switched_on
    device_type, enabled = args if len(args) == 2 else ("cuda", *args)
    state = _device_state(device_type)
    if state.enabled != bool(enabled):
        state.enabled = bool(enabled)
        with _lock:
            _switched_on += 1 if enabled else -1
            ACTIVE = _switched_on > 0


def get_autocast_dtype(device_type):
    """The low-precision type autocast uses on a device type."""
    return _device_state(device_type).dtype


def set_autocast_dtype(device_type, dtype):
    """Choose the low-precision type of a device type."""
    _device_state(device_type).dtype = dtype


def is_autocast_cpu_enabled():
    """Whether autocast is on for the CPU."""
    return is_autocast_enabled("cpu")


def set_autocast_cpu_enabled(enabled):
    """Switch autocast for the CPU."""
    set_autocast_enabled("cpu", enabled)


def get_autocast_cpu_dtype():
    """The CPU's low-precision type."""
    return get_autocast_dtype("cpu")


def set_autocast_cpu_dtype(dtype):
    """Choose the CPU's low-precision type."""
    set_autocast_dtype("cpu", dtype)


def get_autocast_gpu_dtype():
    """CUDA's low-precision type."""
    return get_autocast_dtype("cuda")


def set_autocast_gpu_dtype(dtype):
    """Choose CUDA's low-precision type."""
    set_autocast_dtype("cuda", dtype)


def is_autocast_cache_enabled():
    """Whether casts of parameters are kept until the outermost context ends."""
    return _state.cache_enabled


def set_autocast_cache_enabled(enabled):
    """Switch the cache of cast parameters."""
    _state.cache_enabled = bool(enabled)


def clear_autocast_cache():
    """Forget the cast parameters."""
    _state.cache.clear()


def autocast_increment_nesting():
    """Enter one more level; returns the depth."""
    _state.nesting += 1
    return _state.nesting


def autocast_decrement_nesting():
    """Leave a level; returns the depth."""
    _state.nesting -= 1
    return _state.nesting


def _castable(x, device_type=None):
    return (isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64
            and (device_type is None or x.device.type == device_type))


def cast_args(kind, *args):
    """Cast an operation's arguments as autocast wants them; returns the tuple of arguments.

    Args:
        kind: "low", "fp32", "fp32_cuda" (as "fp32", but only on CUDA) or "promote" (to the widest floating-point type
            among the arguments).
        args: tensors; anything else, float64 and integer tensors pass unchanged.
    """
    device_type = next((x.device.type for x in args if _castable(x)), None)
    state = _state.devices.get(device_type)
    if state is None or not state.enabled:
        return args
    if kind == "low":
        return tuple(_to_low(x, state.dtype) if _castable(x, device_type) else x for x in args)
    if kind == "promote":
        types = {x.dtype for x in args if _castable(x, device_type)}
        if types <= {state.dtype}:
            return args
    elif kind == "fp32_cuda":
        if device_type != "cuda":
            return args
    elif kind != "fp32":
        raise ValueError(f"cast_args: unknown kind {kind!r}")
    return tuple(x.to(torch.float32) if _castable(x, device_type) else x for x in args)


class _CachedCast(Function):
    """Gives a cached low-precision copy of a parameter its own place on the tape, so that a second backward works."""

    @staticmethod
    def forward(ctx, param, low):
        return low.view_as(low)

    @staticmethod
    def backward(ctx, grad):
        return grad.to(torch.float32), None


def _to_low(x, dtype):
    if x.dtype == dtype:
        return x
    if not (_state.cache_enabled and x.dtype == torch.float32 and x.requires_grad and x.is_leaf and _state.nesting):
        return x.to(dtype)
    key = (id(x), dtype)
    owner, version, low = _state.cache.get(key, (None, None, None))
    if owner is None or owner() is not x or version != x._version:
        low = x.detach().to(dtype)
        _state.cache[key] = (weakref.ref(x), x._version, low)
    return _CachedCast.apply(x, low) if torch.is_grad_enabled() else low


class autocast:
    """Context manager or decorator that runs matrix products in low precision and sensitive operations in float32.

    Args:
        device_type: "cpu" or "cuda": the device whose operations are affected.
        dtype: the low-precision type; default bfloat16 on the CPU, float16 on CUDA.
        enabled: False switches autocast off inside an outer context.
        cache_enabled: keep casts of parameters until the outermost context ends; default: as it is set.

    On a machine without CUDA, ``autocast("cuda")`` warns and does nothing. A type other than float16 and bfloat16 warns
    and does nothing, too. Raises `RuntimeError` for other device types.
    """

    def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if not is_autocast_available(device_type):
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        self.device = device_type
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = is_autocast_cache_enabled() if cache_enabled is None else cache_enabled
        self._enabled = bool(enabled)
        if self._enabled and device_type == "cuda" and not torch.cuda.is_available():
            warnings.warn("User provided device_type of 'cuda', but CUDA is not available. Disabling", stacklevel=2)
            self._enabled = False
        if self._enabled and self.fast_dtype not in _LOW_PRECISION:
            warnings.warn(f"In {device_type} autocast, but the target dtype {self.fast_dtype} is not supported. "
                          "Disabling autocast. Supported: torch.float16 and torch.bfloat16.", stacklevel=2)
            self._enabled = False

    def __enter__(self):
        self.prev = is_autocast_enabled(self.device)
        self.prev_fastdtype = get_autocast_dtype(self.device)
        self.prev_cache_enabled = is_autocast_cache_enabled()
        set_autocast_enabled(self.device, self._enabled)
        set_autocast_dtype(self.device, self.fast_dtype)
        set_autocast_cache_enabled(self._cache_enabled)
        autocast_increment_nesting()
        return self

    def __exit__(self, *exc):
        if autocast_decrement_nesting() == 0:
            clear_autocast_cache()
        set_autocast_enabled(self.device, self.prev)
        set_autocast_dtype(self.device, self.prev_fastdtype)
        set_autocast_cache_enabled(self.prev_cache_enabled)
        return False

    def __call__(self, func):
        return autocast_decorator(self, func)


def autocast_decorator(context, func):
    """Wrap ``func`` to run in an autocast context of the same settings."""

    @functools.wraps(func)
    def run(*args, **kwargs):
        # A context of its own per call: a decorated function may call itself, or run in several threads.
        with copy.copy(context):
            return func(*args, **kwargs)

    return run


def _cast(value, device_type, dtype):
    """Cast the floating-point tensors (not float64) of a device in a nested value."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if _castable(value, device_type) else value
    if isinstance(value, dict):
        return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(v, device_type, dtype) for v in value)
    return value


def custom_fwd(fwd=None, *, device_type="cuda", cast_inputs=None):
    """Decorator for ``forward`` of a custom `torch.autograd.Function`.

    With ``cast_inputs`` a dtype, and autocast on, the floating-point arguments are cast to it and forward runs with
    autocast off; otherwise forward runs under the state it finds. `custom_bwd` repeats that state.
    """
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def run(ctx, *args, **kwargs):
        enabled = is_autocast_enabled(device_type)
        ctx._dtype = get_autocast_dtype(device_type)
        ctx._fwd_used_autocast = enabled and cast_inputs is None
        if not enabled or cast_inputs is None:
            return fwd(ctx, *args, **kwargs)
        with autocast(device_type=device_type, enabled=False):
            return fwd(ctx, *_cast(args, device_type, cast_inputs), **_cast(kwargs, device_type, cast_inputs))

    return run


def custom_bwd(bwd=None, *, device_type="cuda"):
    """Decorator for ``backward``: runs it under the autocast state its ``forward`` ran in."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def run(ctx, *args, **kwargs):
        with autocast(device_type=device_type, enabled=ctx._fwd_used_autocast, dtype=ctx._dtype):
            return bwd(ctx, *args, **kwargs)

    return run


__getattr__ = module_getattr(__name__)
