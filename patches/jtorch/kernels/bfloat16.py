"""Rounding to bfloat16 on the CPU. Jittor's own conversion cuts the lower bits off."""

from pathlib import Path

from ..startup import import_jittor

_SOURCE = (Path(__file__).parent / "bfloat16.cc").read_text()


def to_bfloat16(x):
    """A float32 variable rounded to the nearest bfloat16."""
    return import_jittor().code(x.shape, "bfloat16", [x], cpu_src=_SOURCE)
