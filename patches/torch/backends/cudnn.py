"""cuDNN as Jittor loads it."""

enabled = True
benchmark = False
deterministic = False
allow_tf32 = True


def is_available():
    from .. import _raw

    return bool(_raw.jt.has_cuda) and _raw.jt.cudnn is not None


def version():
    return None
