"""Linear algebra and NCCL on the card: cupy's routines on the memory of Jittor's variables.

Inputs are read where they lie, through ``__cuda_array_interface__``; results are copied once, from cupy's memory on the card
to Jittor's. Both libraries work on CUDA's default stream, so what one has begun comes before what the other begins.
"""

import math

from jtorch.kernels import buffers

from . import _raw

_NCCL_NAMES = {"float32": "FLOAT32", "float64": "FLOAT64", "float16": "FLOAT16", "bfloat16": "BFLOAT16", "int32": "INT32",
               "int64": "INT64", "uint8": "UINT8"}


class _Shared:
    """A computed variable's memory for `cupy.asarray`; its holder keeps the variable."""

    def __init__(self, v, shape):
        kind = {"float32": "<f4", "float64": "<f8"}[str(v.dtype)]
        self.kept = v
        self.__cuda_array_interface__ = {"shape": shape, "typestr": kind, "version": 3, "strides": None,
                                         "data": (buffers.address_on_card(v), False)}


def libraries():
    """(cupy, cupyx), or None where cupy is not installed: then NumPy does it, through the host."""
    try:
        import cupy
        import cupyx
    except ImportError:
        return None
    return cupy, cupyx


def run(f, values, shapes):
    """``f(cupy.linalg, *arrays)`` of float32 or float64 variables as arrays of these shapes.

    Returns:
        What ``f`` returns, an array or a tuple of them, as a list of (data, shape): floating-point results as variables,
        others as NumPy arrays; and whether it was a tuple.

    Raises:
        numpy.linalg.LinAlgError: as NumPy's routines do. (cupy looks at what cuSOLVER reports only where told to.)
    """
    cupy, cupyx = libraries()
    shared = []
    for v, shape in zip(values, shapes):
        if not buffers.address_on_card(v):
            v = _raw.jt.core.ops.copy(v)  # computed before Jittor was switched to the card
        shared.append(_Shared(v, tuple(shape)))
    with cupyx.errstate(linalg="raise"):
        found = f(cupy.linalg, *(cupy.asarray(s) for s in shared))
    results = []
    for r in found if isinstance(found, tuple) else (found,):
        r = cupy.asarray(r)
        if r.dtype.kind != "f" or not math.prod(r.shape):
            results.append((cupy.asnumpy(r), r.shape))
            continue
        v = _raw.jt.core.ops.empty(tuple(r.shape) or (1,), str(r.dtype))
        cupy.copyto(cupy.asarray(_Shared(v, r.shape)), r)
        results.append((v, r.shape))
    return results, isinstance(found, tuple)


def nccl():
    """cupy's binding of NCCL, or None where there is none."""
    try:
        from cupy.cuda import nccl as found
    except ImportError:
        return None
    return found if getattr(found, "available", False) else None


def all_reduce(communicator, v, shape, op):
    """The variable of ``shape`` combined over the processes of an NCCL communicator, as a new variable.

    ``op``: ``"sum"``, ``"max"`` or ``"min"``. NCCL works on CUDA's default stream, as Jittor does, so what reads
    the result comes after it.
    """
    library = nccl()
    if not buffers.address_on_card(v):
        v = _raw.jt.core.ops.copy(v)
    result = _raw.jt.core.ops.empty(tuple(shape) or (1,), str(v.dtype))
    kind = getattr(library, f"NCCL_{_NCCL_NAMES[str(v.dtype)]}")
    communicator.allReduce(buffers.address_on_card(v), buffers.address_on_card(result), math.prod(shape), kind,
                           getattr(library, f"NCCL_{op.upper()}"), 0)
    return result
