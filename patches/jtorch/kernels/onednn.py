"""How kernels that call oneDNN are compiled."""

import functools
import os
from pathlib import Path

from ..startup import import_jittor

GEMM = (Path(__file__).parent / "gemm.h").read_text()


@functools.cache
def flags():
    """Compile options for ``jt.flag_scope(compile_options=...)``: the headers and the library that Jittor itself uses."""
    import_jittor()
    import jittor_utils

    root = Path(jittor_utils.home()) / ".cache" / "jittor" / "mkl"
    home = next(p for p in sorted(root.iterdir()) if p.name.startswith("dnnl") and p.is_dir())
    lib = home / "lib"
    return {f'FLAGS: -I"{home / "include"}" -L"{lib}" -ldnnl -Wl,-rpath,"{os.path.realpath(lib)}" ': 1}
