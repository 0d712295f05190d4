"""Shared hypothesis strategies: small arrays, and tensors that live on the host or in Jittor."""

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

#: Both homes of tensor data. Ranks are kept low on Jittor because each rank of each operation is a kernel to compile.
PLACES = ("host", "jittor")


def tensor_at(array, place):
    """A tensor with the array's values whose data are where ``place`` says."""
    t = torch.from_numpy(array)
    if place == "jittor":
        t._v = torch._raw.to_var(t._data())
    return t


def shapes(max_dims=3, min_dims=1, max_side=5, min_side=1):
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def floats(shape, low=-4.0, high=4.0, dtype=np.float32):
    # Subnormals are flushed to zero by -Ofast kernels, and hypothesis refuses to generate them then.
    return hnp.arrays(dtype, shape, elements=st.floats(low, high, width=32, allow_subnormal=False))


def integers(shape, low=-6, high=6, dtype=np.int64):
    return hnp.arrays(dtype, shape, elements=st.integers(low, high))
