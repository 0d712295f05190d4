"""One step of Adam or AdamW over many tensors in one launch, in float32."""

import numpy as np

from .buffers import launch, launch_on_card, readable, writable
from .sources import source

_SOURCE = source("adamw.cc")
_HEADER = "#include <cmath>\n#include <type_traits>\n"


def adam_step(grads, values, counts, options, amsgrad, card=False):
    """Update parameters and moments; where nobody else sees them, in place.

    Args:
        grads: n arrays or variables, float32.
        values: parameters, first moments, second moments and, for rows with ``amsgrad``, their running maximum, one
            after the other, each referred to by this list and its tensor only (see `buffers.writable`).
        counts: number of values of each row, int64 [n].
        options: float64 [n, 8], see adamw.cc.
        amsgrad: bool [n].
        card: whether the data is on the card, and so the work.

    Returns:
        What to put in the place of ``values``: new data, or None where the change was made in place. None instead of
        the list if some data is not float32 in that place; then nothing was changed.
    """
    sources, places = readable(grads, card), writable(values, card)
    if sources is None or places is None:
        return None
    read, write, replacements, _kept = places
    n = len(counts)
    table = np.zeros((n, 10), np.int64)
    table[:, 0], table[:, 1] = counts, sources[0]
    for k in range(3):
        table[:, 2 + 2 * k], table[:, 3 + 2 * k] = read[k * n:(k + 1) * n], write[k * n:(k + 1) * n]
    table[amsgrad, 8], table[amsgrad, 9] = read[3 * n:], write[3 * n:]
    if card:
        launch_on_card("card::adam(TABLE, in1_p, in0_shape0);", [table, options])
    else:
        launch(_SOURCE, [table, options], (1,), header=_HEADER)
    return replacements
