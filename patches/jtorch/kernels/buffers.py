"""Addresses of many tensors' data at once, for kernels that work on a list of tensors of any length.

One launch of such a kernel gets a table of addresses instead of hundreds of inputs, so one compiled kernel serves any
number of tensors, and it can write in place. Data here is immutable for everyone else (copies, views, saved tensors
and pending operations share it), so `writable` hands out the old memory only where nothing else refers to it, and new
memory otherwise.
"""

import functools
from sys import getrefcount

import numpy as np

from .sources import jt, source

_SOURCE = source("buffers.cc")
_BLOCKS = source("blocks.h")
_HEADER = '#define ON_CARD {:d}\n#define ANY_TYPE {:d}\n#include <cstring>\n#include "mem/allocator/sfrl_allocator.h"\n'


def _references(values):
    return [getrefcount(v) for v in values]


_UNSHARED = _references([object()])[0] + 1  # the list's own reference, and what counting adds; and one owner


def launch(source, inputs, shape, data=None, header="", dtype="float64"):
    """Run a ``jt.code`` kernel over a table of addresses now. Its result as a NumPy array.

    ``inputs`` are arrays or variables; the source may use blocks.h.
    """
    inputs = [jt.array(x) if isinstance(x, np.ndarray) else x for x in inputs]
    return jt.code(shape, dtype, inputs, cpu_src=source, cpu_header=_BLOCKS + header, data=data or {}).numpy()


@functools.cache
def _lists():
    # Jittor's int64 is long long, not int64_t
    return source("device.cuh") + source("lists.cu") + "#define TABLE ((const int64_t*)in0_p)\n"


def launch_on_card(call, inputs, scratch=1, data=None):
    """`launch` for a call of lists.cu on addresses `readable` and `writable` found on the card: its float64 ``out0_p``
    of one number, which such a call need not write. ``out1_p``: ``scratch`` float64 numbers. ``TABLE``: the first input."""
    r = jt.code([(1,), (scratch,)], ["float64"] * 2, [jt.array(x) for x in inputs], cuda_header=_lists(), cuda_src=call,
                data=data or {})
    return r[0].numpy()


def _locate(values, card, any_type=False):
    """(addresses, unshared) of computed variables, int64 [n] each."""
    pointers = jt.array(np.array([v.var_ptr for v in values], np.int64))
    header = _HEADER.format(card, any_type)
    return jt.code((2, len(values)), "int64", [pointers], cpu_src=_SOURCE, cpu_header=header).numpy()


def address_on_card(value):
    """Where the data of a variable of any type lies on the card, computed now if pending; 0 if it is on the host."""
    jt.sync([value])
    return int(_locate([value], True, True)[0, 0])


def _resolve(values, card):
    """(values kept alive by the caller, addresses int64 [n], unshared bool [n]), or None: see `readable`."""
    kept = list(values)
    addresses, unshared = np.empty(len(kept), np.int64), np.zeros(len(kept), bool)
    variables, uploaded = [], []
    for i, v in enumerate(kept):
        if type(v) is not np.ndarray:
            variables.append(i)
        elif v.dtype != np.float32:
            return None
        elif card:
            kept[i] = jt.core.ops.copy(jt.array(v))  # copied there: an array of one number stays on the host
            variables.append(i)
            uploaded.append(i)
        else:
            kept[i] = v = np.asarray(v, order="C")
            addresses[i] = v.ctypes.data
    if variables:
        pending = [kept[i] for i in variables]
        jt.sync(pending)
        found, alone = _locate(pending, card)
        addresses[variables], unshared[variables] = found, alone > 0
        unshared[uploaded] = False  # to be written elsewhere: nobody would see it in the copy
    return (kept, addresses, unshared) if addresses.all() else None


def readable(values, card=False):
    """(addresses int64 [n], what must be kept until they are used) of float32 data, computed now if pending.

    ``values``: NumPy arrays and Jittor variables. ``card``: addresses on the card, to which arrays are copied; otherwise on
    the host. None where some data is of another type or place.
    """
    found = _resolve(values, card)
    return found and (found[1], found[0])


def writable(values, card=False):
    """(addresses to read, addresses to write, replacements, what must be kept) of float32 data; None as in `readable`.

    Each value must be referred to by ``values`` and by the one tensor that will be changed. The addresses to write
    equal those to read where nobody else can see the change; elsewhere they lie in ``replacements[i]`` (otherwise
    None), which the tensor must take. Host arrays are always replaced: they are small, and NumPy's views unknown.
    """
    owned = np.array(_references(values)) <= _UNSHARED  # counted before anything here holds another reference
    found = _resolve(values, card)
    if found is None:
        return None
    kept, read, unshared = found
    write = read.copy()
    fresh = np.flatnonzero(~(owned & unshared)).tolist()
    replacements = [None] * len(kept)
    empty = jt.core.ops.empty
    for i in fresh:
        v = kept[i]
        replacements[i] = np.empty_like(v) if type(v) is np.ndarray else empty(tuple(v.shape), "float32")
    if fresh:
        write[fresh] = _resolve([replacements[i] for i in fresh], card)[1]
    return read, write, replacements, kept
