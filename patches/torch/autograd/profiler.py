"""``record_function``: a label without effect; `torch.profiler` does not show labels and says so."""

import contextlib

from .._missing import module_getattr

ACTIVE = False  # whether a `torch.profiler.profile` is running


class record_function(contextlib.ContextDecorator):
    """Name a block of code. Without a profiler nothing is recorded, as in PyTorch.

    Raises NotImplementedError on entry under `torch.profiler.profile`.
    """

    def __init__(self, name, args=None):
        self.name = name

    def __enter__(self):
        if ACTIVE:
            raise NotImplementedError(f"record_function({self.name!r}) under a profiler is not implemented in torch on "
                                      "Jittor: only operations are shown")
        return self

    def __exit__(self, *exc):
        return False


__getattr__ = module_getattr("torch.autograd.profiler")
