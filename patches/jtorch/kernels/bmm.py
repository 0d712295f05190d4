"""Batched matrix product on oneDNN. Jittor's own four-dimensional matmul runs as broadcast, multiply and reduce."""

from . import onednn
from .sources import source

_SOURCE = source("bmm.cc")


def bmm(a, b, ta=False, tb=False):
    """``op(a) @ op(b)`` for float32 variables of shape [B or 1, M, K] and [B or 1, K, N] -> [B, M, N].

    ``ta`` / ``tb`` read the last two axes transposed, without copying.
    """
    batch = max(a.shape[0], b.shape[0])
    m = a.shape[2] if ta else a.shape[1]
    n = b.shape[1] if tb else b.shape[2]
    return onednn.code((batch, m, n), "float32", [a, b], cpu_header=onednn.GEMM, cpu_src=_SOURCE,
                       data={"ta": float(ta), "tb": float(tb)})
