"""Maxima of windows of planes and where they stand, on the CPU in float32."""

import functools

from .sources import jt, source

_SOURCE = source("pool.cc")
_NAMES = ("kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw")


@functools.lru_cache(4096)
def places(geometry):
    """The numbers that the kernels read."""
    return dict(zip(_NAMES, map(float, geometry)))


def max_pool(x, size, geometry):
    """(maxima, int32 places in the plane), both [planes, *size], of x [planes, height, width].

    ``geometry``: kernel, stride, padding and dilation (height and width of each). A NaN wins, and of equal values the
    first, as in PyTorch.
    """
    shape = (x.shape[0], *size)
    return jt.code([shape, shape], ["float32", "int32"], [x], cpu_src=_SOURCE, data=places(geometry))
