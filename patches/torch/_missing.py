"""The error for torch names that this backend does not have."""


class TorchNameError(NotImplementedError, AttributeError):
    """A name real PyTorch may have and this backend lacks.

    It is both a ``NotImplementedError`` (so that using the name fails loudly) and an ``AttributeError`` (so that
    ``hasattr`` and ``getattr`` with a default, with which libraries probe for features, answer truthfully).
    """


def module_getattr(module_name):
    """Return a module-level ``__getattr__`` that raises `TorchNameError` with the full dotted name."""

    def __getattr__(name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"module {module_name!r} has no attribute {name!r}")
        raise TorchNameError(f"{module_name}.{name} is not implemented in torch on Jittor")

    return __getattr__
