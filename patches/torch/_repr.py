"""How tensors print."""

import numpy as np

OPTIONS = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


def tensor_repr(t):
    """``tensor(...)`` with values, dtype where it is not the default, and the tape position."""
    prefix = type(t).__name__.lower() + "(" if type(t).__name__ == "Tensor" else "tensor("
    tail = []
    if t.is_meta:
        return f"{prefix}..., device='meta', size={tuple(t.shape)}" + \
            (f", dtype={t.dtype})" if t.dtype.name != "float32" else ")")
    body = np.array2string(
        np.asarray(t._host()), precision=OPTIONS["precision"], threshold=OPTIONS["threshold"],
        edgeitems=OPTIONS["edgeitems"], max_line_width=OPTIONS["linewidth"], separator=", ",
        prefix=prefix, floatmode="maxprec_equal", suppress_small=not OPTIONS["sci_mode"])
    if t.dtype.name not in ("float32", "int64", "bool"):
        tail.append(f"dtype={t.dtype}")
    if t.is_cuda:
        tail.append(f"device='{t.device}'")
    if t.numel() == 0 and t.ndim != 1:
        tail.append(f"size={tuple(t.shape)}")
    if t.requires_grad:
        tail.append(f"grad_fn=<{t.grad_fn.name}>" if t.grad_fn is not None else "requires_grad=True")
    text = prefix + ", ".join([body, *tail]) + ")"
    return f"Parameter containing:\n{text}" if type(t).__name__ == "Parameter" else text
