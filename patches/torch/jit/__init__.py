"""TorchScript does not exist here: decorators of functions return them unchanged, compiling or tracing raises.

Libraries decorate small fused helpers with ``torch.jit.script``; run as plain Python they compute the same.
"""

from .._missing import module_getattr


class ScriptModule:
    """Only a name for ``isinstance`` checks; nothing is ever one."""


class ScriptFunction:
    """Only a name for ``isinstance`` checks; nothing is ever one."""


RecursiveScriptModule = ScriptModule


def script(obj=None, *args, **kwargs):
    """Return a plain function unchanged. Raises NotImplementedError for modules."""
    from ..nn import Module

    if isinstance(obj, Module):
        raise NotImplementedError("torch.jit.script of a module is not implemented in torch on Jittor")
    return (lambda f: f) if obj is None else obj


def trace(*args, **kwargs):
    raise NotImplementedError("torch.jit.trace is not implemented in torch on Jittor")


def is_scripting():
    return False


def is_tracing():
    return False


def ignore(drop=False, **kwargs):
    return drop if callable(drop) else (lambda f: f)


def unused(fn):
    return fn


def export(fn):
    return fn


def interface(obj):
    return obj


def _overload(fn):
    return fn


class Final:
    """Annotation of constants: ``Final[int]``."""

    def __class_getitem__(cls, item):
        return item


def annotate(the_type, the_value):
    return the_value


__getattr__ = module_getattr("torch.jit")
