"""Settings, queries and odds and ends of the torch namespace."""

from . import _dtype, _raw
from ._elementwise import category_type
from ._missing import module_getattr
from ._repr import OPTIONS
from ._tensor import DEFAULT_DEVICES, Tensor
from .autograd import set_grad_enabled

result_type = category_type
_deterministic = [False, False]


def can_cast(from_, to):
    """Whether a cast stays within torch's promotion rules."""
    return from_._kind <= to._kind and not (from_._kind == 1 and from_.is_signed and to is _dtype.uint8)


def is_nonzero(input):
    return bool(input)


def is_storage(obj):
    from .storage import TypedStorage, UntypedStorage

    return isinstance(obj, (TypedStorage, UntypedStorage))


def typename(o):
    return o.type() if isinstance(o, Tensor) else f"{type(o).__module__}.{type(o).__name__}"


def set_default_device(device):
    DEFAULT_DEVICES[:] = [] if device is None else [_dtype.device(device)]


def get_default_device():
    return DEFAULT_DEVICES[-1] if DEFAULT_DEVICES else _dtype.CPU


def set_default_tensor_type(t):
    _dtype.set_default_dtype(t._legacy_dtype if hasattr(t, "_legacy_dtype") else
                             _dtype.BY_NAME[{"torch.FloatTensor": "float32", "torch.DoubleTensor": "float64",
                                             "torch.HalfTensor": "float16"}[t]])


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth,
             "sci_mode": sci_mode}
    OPTIONS.update({k: v for k, v in given.items() if v is not None})


def get_num_threads():
    """Threads that kernels use (OpenMP)."""
    from jtorch import threads

    return threads.get()


def set_num_threads(n):
    from jtorch import threads

    if n < 1:
        raise RuntimeError("set_num_threads expects a positive integer")
    threads.set(n)


def get_num_interop_threads():
    return 1


def set_num_interop_threads(n):
    if n != 1:
        raise NotImplementedError("torch.set_num_interop_threads: Jittor runs one operation at a time")


_precision = ["highest"]


def get_float32_matmul_precision():
    return _precision[0]


def set_float32_matmul_precision(precision):
    """Only "highest" is true of this backend on the CPU; lower settings are allowed to change nothing."""
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"float32 matmul precision: {precision!r} is not highest, high or medium")
    _precision[0] = precision


def use_deterministic_algorithms(mode, *, warn_only=False):
    """Kernels here are deterministic on the CPU; the flag is remembered."""
    _deterministic[:] = [bool(mode), bool(warn_only)]


def are_deterministic_algorithms_enabled():
    return _deterministic[0]


def is_deterministic_algorithms_warn_only_enabled():
    return _deterministic[1]


def is_warn_always_enabled():
    return False


def compile(model=None, **kwargs):
    """Not available: Jittor already compiles what it runs. Raises rather than return an uncompiled model."""
    raise NotImplementedError("torch.compile is not implemented in torch on Jittor: kernels are compiled anyway")


class _Internals:
    """``torch._C``: the few internal names libraries touch."""

    Generator = None

    @staticmethod
    def _log_api_usage_once(name):
        """PyTorch's usage logging hook; there is none here."""

    @staticmethod
    def _get_privateuse1_backend_name():
        return "privateuseone"

    def __getattr__(self, name):
        return module_getattr("torch._C")(name)


_C = _Internals()
__all__ = ["_raw", "set_grad_enabled"]
