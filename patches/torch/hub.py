"""torch.hub downloads code: not here. Only its folder is known, because libraries ask for it."""

import os

from ._missing import module_getattr


def get_dir():
    return os.path.join(os.environ.get("TORCH_HOME", os.path.expanduser("~/.cache/torch")), "hub")


def _get_torch_home():
    return os.path.dirname(get_dir())


__getattr__ = module_getattr("torch.hub")
