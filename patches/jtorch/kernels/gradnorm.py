"""The joint 2-norm of many tensors, and scaling them, each in one launch, on the CPU in float32."""

import numpy as np

from .buffers import launch, readable, writable
from .sources import source

_NORM = source("gradnorm.cc")
_SCALE = source("gradnorm_scale.cc")


def total_norm(values, counts):
    """Root of the sum of all squares, a float; None if some data is not float32 on the host.

    ``values``: n arrays or variables of ``counts`` (n integers) values each.
    """
    found = readable(values)
    if found is None:
        return None
    table = np.stack([np.array(counts, np.int64), found[0]], 1)
    return float(np.sqrt(launch(_NORM, [table], (1,))[0]))


def scale_all(values, counts, factor):
    """Multiply by ``factor``, in place where nobody else sees it: see `buffers.writable` for who may hold ``values``.

    Returns:
        What to put in the place of ``values``: new data, or None where the change was made in place. None instead of
        the list if some data is not float32 on the host; then nothing was changed.
    """
    places = writable(values)
    if places is None:
        return None
    read, write, replacements, _kept = places
    table = np.stack([np.array(counts, np.int64), read, write], 1)
    launch(_SCALE, [table], (1,), data={"factor": factor})
    return replacements
