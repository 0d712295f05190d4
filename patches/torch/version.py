"""What this distribution is built on."""

__version__ = "2.2.2+jittor"
debug = False
git_version = "jdiff-style"
hip = None


def _cuda_version():
    from . import cuda

    return cuda._toolkit_version()


def __getattr__(name):
    if name == "cuda":  # asked late: it needs Jittor
        return _cuda_version()
    raise AttributeError(f"module 'torch.version' has no attribute {name!r}")
