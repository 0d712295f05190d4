"""oneDNN (formerly MKL-DNN), which runs convolutions and matrix products on the CPU."""


def is_available():
    from .. import _raw

    return _raw.jt.mkl_ops is not None
