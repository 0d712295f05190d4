"""Draws of PyTorch's generator as an operation, so that dropout need not wait for them, on the CPU."""

import math

from .sources import jt, source

_SOURCE = source("bernoulli.cc")


def bernoulli(state, shape, p):
    """(uint8 of ``shape``, 1 with probability ``p``; the state after) of MT19937's state: int32 [625], the bits of its 624
    words and how many of them are used up. The numbers are those of `torch._mt19937.TorchMT19937.bernoulli`."""
    high, low = divmod(math.ceil(p * 2.0**53), 2**32)
    return jt.code([shape, (625,)], ["uint8", "int32"], [state], cpu_header="#include <cstring>\n", cpu_src=_SOURCE,
                   data={"high": float(high), "low": float(low)})
