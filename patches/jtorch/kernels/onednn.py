"""How kernels that call oneDNN are compiled."""

import functools
import os
from pathlib import Path

from .sources import jt, source

GEMM = source("gemm.h")


@functools.cache
def flags():
    """Jittor's ``compile_options`` for the headers and the library that Jittor itself uses."""
    import jittor_utils

    root = Path(jittor_utils.home()) / ".cache" / "jittor" / "mkl"
    home = next(p for p in sorted(root.iterdir()) if p.name.startswith("dnnl") and p.is_dir())
    lib = home / "lib"
    return {f'FLAGS: -I"{home / "include"}" -L"{lib}" -ldnnl -Wl,-rpath,"{os.path.realpath(lib)}" ': 1}


def code(*arguments, **options):
    """``jt.code`` of a kernel that is compiled with `flags`. (``jt.flag_scope`` takes longer than most kernels' launch.)"""
    before = jt.flags.compile_options
    jt.flags.compile_options = before | flags() if before else flags()
    try:
        return jt.code(*arguments, **options)
    finally:
        jt.flags.compile_options = before
