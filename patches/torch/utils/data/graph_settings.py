"""Settings of data pipes."""

from ..._missing import module_getattr
from .datapipes.iter.combinatorics import ShufflerIterDataPipe

__all__ = ["apply_shuffle_settings"]


def apply_shuffle_settings(datapipe, shuffle=None):
    """Switch the shuffling of a `ShufflerIterDataPipe` on or off (None leaves it); other pipes stay as they are."""
    if shuffle is not None and isinstance(datapipe, ShufflerIterDataPipe):
        datapipe.set_shuffle(shuffle)
    return datapipe


__getattr__ = module_getattr(__name__)
