"""Number of OpenMP threads, read and set through the runtime Jittor's kernels and oneDNN share."""

import ctypes

_lib = None


def _omp():
    global _lib
    if _lib is None:
        _lib = ctypes.CDLL("libgomp.so.1")
    return _lib


def get():
    """Threads a parallel kernel will use."""
    return int(_omp().omp_get_max_threads())


def set(n):
    """Use ``n`` threads from now on (in this thread of the program)."""
    _omp().omp_set_num_threads(int(n))
