"""Distances and similarities between vectors."""

import numpy as np

from .._dtype import int64
from .._tensor import mk


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along ``dim``."""
    n1 = x1.norm(2, dim, keepdim=True).clamp(min=eps)
    n2 = x2.norm(2, dim, keepdim=True).clamp(min=eps)
    return ((x1 / n1) * (x2 / n2)).sum(dim)


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The norm of order ``p`` of x1 - x2 + eps over the last axis."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)


def pdist(input, p=2.0):
    """Distances of all pairs of rows, (0, 1), (0, 2), ..., as one vector."""
    i, j = np.triu_indices(input._shape[0], 1)
    i, j = (mk(k.astype(np.int64), k.shape, int64) for k in (i, j))
    return (input[i] - input[j]).norm(p, -1)
