"""How close is equal. The part of a name before ``/`` decides; errors are measured against the reference.

=======  ====================================================================================
exact    equal (text, names of files, counts)
zero     0 in both environments: a difference that must vanish inside one environment
same     at most 1e-5 in both environments: as `zero`, up to rounding
init     2e-6 of the largest value; for tables, of each column's largest value
out      1e-5 of the largest value: the forward tolerance in float32
loss     1e-4 of each value
grad     1e-4 of the largest value
latents  1e-4 of the largest value: several steps of a model
brownian 1e-3 of the largest value: rounding of a time t by d changes Brownian motion at t by about the root of d
weights  1e-3 of the norm, after training: AdamW divides small gradients by their own size
half     3e-2 of the largest value: bfloat16 keeps 8 bits, and float32 itself is 1.5e-2 away
picture  2/255 at most, for values in [0, 1]
=======  ====================================================================================
"""

from __future__ import annotations

import numpy as np

RELATIVE = {"init": 2e-6, "out": 1e-5, "grad": 1e-4, "latents": 1e-4, "brownian": 1e-3, "half": 3e-2}
KINDS = {*RELATIVE, "exact", "zero", "same", "loss", "weights", "picture"}
#: Values of one array kept in a golden file, evenly spaced; tables of weights are kept whole.
KEEP = 500


def excess(name: str, ours: np.ndarray, reference: np.ndarray) -> float:
    """The error of `ours` as a fraction of what is allowed: above 1 it is too large. Infinite for another shape, for
    values that are not finite, and for an inequality where equality is asked."""
    kind = name.split("/")[0]
    if kind not in KINDS:
        raise ValueError(f"{name!r} begins with none of {sorted(KINDS)}")
    if ours.shape != reference.shape:
        return np.inf
    if kind == "exact":
        return 0.0 if np.array_equal(ours, reference) else np.inf
    ours, reference = ours.astype(np.float64), reference.astype(np.float64)
    if not (np.isfinite(ours).all() and np.isfinite(reference).all()):
        return np.inf
    if kind in ("zero", "same"):
        worst = max(np.abs(ours).max(), np.abs(reference).max())
        return worst / 1e-5 if kind == "same" else (0.0 if worst == 0 else np.inf)
    error = np.abs(ours - reference)
    if kind == "picture":
        return error.max() / (2 / 255 + 1e-6)
    if kind == "weights":
        return np.sqrt((error**2).sum() / (reference**2).sum()) / 1e-3
    if kind == "loss":
        return (error / (1e-4 * np.abs(reference))).max()
    axis = 0 if kind == "init" and reference.ndim == 2 else None
    size = np.abs(reference).max(axis=axis)
    return (error / (RELATIVE[kind] * np.where(size > 0, size, 1.0))).max()


def check(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, float]:
    """:func:`excess` of every array. Raises AssertionError that lists all that is too far off or in one side only."""
    missing, unknown = set(reference) - set(ours), set(ours) - set(reference)
    found = {name: excess(name, ours[name], reference[name]) for name in reference if name in ours}
    bad = [f"{name}: {value:.3g} times the allowed error" for name, value in found.items() if not value <= 1]
    bad += [f"{name}: missing on Jittor" for name in sorted(missing)]
    bad += [f"{name}: missing in the reference" for name in sorted(unknown)]
    assert not bad, "\n".join(bad)
    return found


def thin(name: str, values: np.ndarray) -> np.ndarray:
    """What a golden file keeps of an array: float32, at most ``KEEP`` values unless it is a table of weights."""
    if values.dtype.kind not in "fc":
        return values
    if values.size > KEEP and not (name.startswith(("init/", "zero/")) and values.ndim == 2):
        values = values.ravel()[:: -(-values.size // KEEP)]
    return values.astype(np.float32)


def load(path) -> dict[str, np.ndarray]:
    """The arrays of a case as run_case.py wrote them."""
    with np.load(path) as file:
        return {key.replace("|", "/"): file[key] for key in file.files}
