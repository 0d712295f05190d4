"""Fourier transforms, computed on the host. Results are complex tensors, which live on the host."""

import numpy as np

from .. import _engine
from .._missing import module_getattr
from .._ops_create import _from_host
from .._ops_join import roll
from .._tensor import mk


def _apply(name, f, x):
    if _engine.needs(x):
        raise NotImplementedError(f"the gradient of torch.fft.{name} is not implemented in torch on Jittor")
    src = x.dtype.to_real()
    wide = src.name == "float64"
    if src._kind == 2 and src.itemsize == 2:
        raise RuntimeError(f"Unsupported dtype {src.name} for torch.fft.{name}")
    a = np.asarray(f(x._host()))
    if a.dtype.kind == "c":
        a = a.astype(np.complex128 if wide else np.complex64)
        from .._dtype import complex64, complex128

        return mk(a, a.shape, complex128 if wide else complex64)
    from .._dtype import float32, float64

    return _from_host(a, float64 if wide else float32, None)


def _one(name):
    f = getattr(np.fft, name)

    def op(input, n=None, dim=-1, norm=None):
        return _apply(name, lambda a: f(a, n=n, axis=dim, norm=norm), input)

    op.__name__ = name
    return op


def _many(name, default=None):
    f = getattr(np.fft, name)

    def op(input, s=None, dim=default, norm=None):
        return _apply(name, lambda a: f(a, s=s, axes=dim, norm=norm), input)

    op.__name__ = name
    return op


fft, ifft, rfft, irfft, hfft, ihfft = (_one(n) for n in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"))
fft2, ifft2, rfft2, irfft2 = (_many(n, (-2, -1)) for n in ("fft2", "ifft2", "rfft2", "irfft2"))
fftn, ifftn, rfftn, irfftn = (_many(n) for n in ("fftn", "ifftn", "rfftn", "irfftn"))


def _shift(input, dim, sign):
    dims = list(range(input.ndim)) if dim is None else ([dim] if isinstance(dim, int) else list(dim))
    r = np.roll(input._host(), [sign * (input.shape[d] // 2) if sign > 0 else -(input.shape[d] // 2) for d in dims],
                dims) if input.dtype.is_complex else None
    if r is not None:
        return mk(r, r.shape, input.dtype)
    return roll(input, [sign * (input.shape[d] // 2) for d in dims], dims)


def fftshift(input, dim=None):
    return _shift(input, dim, 1)


def ifftshift(input, dim=None):
    return _shift(input, dim, -1)


def fftfreq(n, d=1.0, *, dtype=None, device=None, requires_grad=False):
    from .._dtype import get_default_dtype

    return _from_host(np.fft.fftfreq(n, d), dtype or get_default_dtype(), device, requires_grad)


def rfftfreq(n, d=1.0, *, dtype=None, device=None, requires_grad=False):
    from .._dtype import get_default_dtype

    return _from_host(np.fft.rfftfreq(n, d), dtype or get_default_dtype(), device, requires_grad)


__getattr__ = module_getattr("torch.fft")
