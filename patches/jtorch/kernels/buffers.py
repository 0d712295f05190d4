"""Addresses of many tensors' data at once, for kernels that work on a list of tensors of any length.

One launch of such a kernel gets a table of addresses instead of hundreds of inputs, so one compiled kernel serves any
number of tensors, and it can write in place. Data here is immutable for everyone else (copies, views, saved tensors
and pending operations share it), so `writable` hands out the old memory only where nothing else refers to it, and new
memory otherwise.
"""

from sys import getrefcount

import numpy as np

from .sources import jt, source

_SOURCE = source("buffers.cc")
_BLOCKS = source("blocks.h")
_HEADER = '#include <cstring>\n#include "mem/allocator/sfrl_allocator.h"\n'


def _references(values):
    return [getrefcount(v) for v in values]


_UNSHARED = _references([object()])[0] + 1  # the list's own reference, and what counting adds; and one owner


def launch(source, inputs, shape, data=None, header="", dtype="float64"):
    """Run a ``jt.code`` kernel over a table of addresses now. Its result as a NumPy array.

    ``inputs`` are arrays or variables; the source may use blocks.h.
    """
    inputs = [jt.array(x) if isinstance(x, np.ndarray) else x for x in inputs]
    return jt.code(shape, dtype, inputs, cpu_src=source, cpu_header=_BLOCKS + header, data=data or {}).numpy()


def _locate(values):
    """(addresses, unshared) of computed variables, int64 [n] each."""
    pointers = jt.array(np.array([v.var_ptr for v in values], np.int64))
    return jt.code((2, len(values)), "int64", [pointers], cpu_src=_SOURCE, cpu_header=_HEADER).numpy()


def _resolve(values):
    """(values kept alive by the caller, addresses int64 [n], unshared bool [n]), or None: see `readable`."""
    kept = list(values)
    addresses, unshared = np.empty(len(kept), np.int64), np.zeros(len(kept), bool)
    variables = []
    for i, v in enumerate(kept):
        if type(v) is not np.ndarray:
            variables.append(i)
        elif v.dtype == np.float32:
            kept[i] = v = np.asarray(v, order="C")
            addresses[i] = v.ctypes.data
        else:
            return None
    if variables:
        pending = [kept[i] for i in variables]
        jt.sync(pending)
        found, alone = _locate(pending)
        addresses[variables], unshared[variables] = found, alone > 0
    return (kept, addresses, unshared) if addresses.all() else None


def readable(values):
    """(addresses int64 [n], what must be kept until they are used) of float32 data on the host, computed now if pending.

    ``values``: NumPy arrays and Jittor variables. None where some data is of another type or place.
    """
    found = _resolve(values)
    return found and (found[1], found[0])


def writable(values):
    """(addresses to read, addresses to write, replacements, what must be kept) of float32 data; None as in `readable`.

    Each value must be referred to by ``values`` and by the one tensor that will be changed. The addresses to write
    equal those to read where nobody else can see the change; elsewhere they lie in ``replacements[i]`` (otherwise
    None), which the tensor must take. Host arrays are always replaced: they are small, and NumPy's views unknown.
    """
    owned = np.array(_references(values)) <= _UNSHARED  # counted before anything here holds another reference
    found = _resolve(values)
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
        write[fresh] = _resolve([replacements[i] for i in fresh])[1]
    return read, write, replacements, kept
