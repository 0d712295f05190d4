"""The joint 2-norm of many tensors, and scaling them, each in one launch, in float32.

``card``: whether the data is on the card, and so the work; otherwise both are on the CPU.
"""

import numpy as np

from .buffers import launch, launch_on_card, readable, writable
from .sources import source

_NORM = source("gradnorm.cc")
_SCALE = source("gradnorm_scale.cc")


def total_norm(values, counts, card=False):
    """Root of the sum of all squares, a float; None if some data is not float32 in that place.

    ``values``: n arrays or variables of ``counts`` (n integers) values each.
    """
    found = readable(values, card)
    if found is None:
        return None
    table = np.stack([np.array(counts, np.int64), found[0]], 1)
    if card:  # lists.cu wants 32 numbers of scratch memory a row
        squares = launch_on_card("card::square_sum(TABLE, in0_shape0, out0_p, out1_p);", [table], 32 * len(table))
    else:
        squares = launch(_NORM, [table], (1,))
    return float(np.sqrt(squares[0]))


def scale_all(values, counts, factor, card=False):
    """Multiply by ``factor``, in place where nobody else sees it: see `buffers.writable` for who may hold ``values``.

    Returns:
        What to put in the place of ``values``: new data, or None where the change was made in place. None instead of
        the list if some data is not float32 in that place; then nothing was changed.
    """
    places = writable(values, card)
    if places is None:
        return None
    read, write, replacements, _kept = places
    table = np.stack([np.array(counts, np.int64), read, write], 1)
    if card:
        launch_on_card('card::scale(TABLE, in0_shape0, (float)data["factor"]);', [table], data={"factor": factor})
    else:
        launch(_SCALE, [table], (1,), data={"factor": factor})
    return replacements
