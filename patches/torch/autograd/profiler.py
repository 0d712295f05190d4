"""``record_function`` as a label without effect; real profiling is Jittor's."""

import contextlib

from .._missing import module_getattr


class record_function(contextlib.ContextDecorator):
    """Name a block of code. No profiler listens, so nothing is recorded (as in PyTorch with no profiler running)."""

    def __init__(self, name, args=None):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return False


__getattr__ = module_getattr("torch.autograd.profiler")
