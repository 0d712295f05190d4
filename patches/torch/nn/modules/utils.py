"""Numbers or tuples: the forms in which layers take sizes."""

from collections.abc import Iterable
from itertools import repeat

from torch._missing import module_getattr


def _ntuple(n, name="parse"):
    def parse(value):
        if isinstance(value, Iterable):
            return tuple(value)
        return tuple(repeat(value, n))

    parse.__name__ = name
    return parse


_single = _ntuple(1, "_single")
_pair = _ntuple(2, "_pair")
_triple = _ntuple(3, "_triple")
_quadruple = _ntuple(4, "_quadruple")


def _reverse_repeat_tuple(values, times):
    """(a, b) → (b, b, a, a) for two times: the order in which ``functional.pad`` wants a convolution's padding."""
    return tuple(value for value in reversed(values) for _ in range(times))


__getattr__ = module_getattr(__name__)
