"""Batched matrix product on oneDNN. Jittor's own four-dimensional matmul runs as broadcast, multiply and reduce."""

import os
from pathlib import Path

from ..startup import import_jittor

_SOURCE = (Path(__file__).parent / "bmm.cc").read_text()
_flags = None


def _onednn_flags(jt):
    global _flags
    if _flags is None:
        import jittor_utils

        root = Path(jittor_utils.home()) / ".cache" / "jittor" / "mkl"
        home = next(p for p in sorted(root.iterdir()) if p.name.startswith("dnnl") and p.is_dir())
        lib = home / "lib"
        _flags = {f'FLAGS: -I"{home / "include"}" -L"{lib}" -ldnnl -Wl,-rpath,"{os.path.realpath(lib)}" ': 1}
    return _flags


def bmm(a, b, ta=False, tb=False):
    """``op(a) @ op(b)`` for float32 variables of shape [B or 1, M, K] and [B or 1, K, N] -> [B, M, N].

    ``ta`` / ``tb`` read the last two axes transposed, without copying.
    """
    jt = import_jittor()
    batch = max(a.shape[0], b.shape[0])
    m = a.shape[2] if ta else a.shape[1]
    n = b.shape[1] if tb else b.shape[2]
    with jt.flag_scope(compile_options=_onednn_flags(jt)):
        return jt.code((batch, m, n), "float32", [a, b], cpu_header="#include <dnnl.h>", cpu_src=_SOURCE,
                       data={"ta": float(ta), "tb": float(tb)})
