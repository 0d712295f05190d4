"""Rounding to bfloat16 on the CPU. Jittor's own conversion cuts the lower bits off."""

from .sources import jt, source

_SOURCE = source("bfloat16.cc")


def to_bfloat16(x):
    """A float32 variable rounded to the nearest bfloat16."""
    return jt.code(x.shape, "bfloat16", [x], cpu_src=_SOURCE)
