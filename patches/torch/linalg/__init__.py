"""Linear algebra: norms differentiate; decompositions are NumPy's on the host, and cupy's for data on a card."""

from collections import namedtuple

import numpy as np

from .. import _ops_linalg as _la
from .._missing import module_getattr
from .._ops_linalg import cross, inverse, matmul, solve
from .._ops_linalg import decompose as _run
from .._ops_reduce import norm as _norm

LinAlgError = np.linalg.LinAlgError
inv = inverse


def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    """Norm of order ``ord`` over ``dim`` (the whole tensor by default)."""
    return _norm(x, ord, dim, keepdim, dtype)


def matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
    """Matrix norm; ``fro`` differentiates, ``nuc`` and 2 go through the singular values."""
    if ord == "fro":
        return _norm(A, 2, dim, keepdim, dtype)
    if ord in ("nuc", 2, -2):
        s = svdvals(A)
        return s.sum(-1) if ord == "nuc" else (s.amax(-1) if ord == 2 else s.amin(-1))
    if ord in (1, float("inf")):
        return A.abs().sum(dim[0] if ord == 1 else dim[1]).amax(-1)
    raise NotImplementedError(f"torch.linalg.matrix_norm with ord={ord!r} is not implemented in torch on Jittor")


def norm(A, ord=None, dim=None, keepdim=False, *, dtype=None):
    """``vector_norm`` or ``matrix_norm`` by the number of axes, as in torch.linalg.norm."""
    if ord is not None and (isinstance(ord, str) or (isinstance(dim, (tuple, list)) and len(dim) == 2) or (
            dim is None and A.ndim == 2)):
        return matrix_norm(A, ord, tuple(dim) if dim is not None else (-2, -1), keepdim, dtype=dtype)
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


_svd_result = namedtuple("linalg_svd", ("U", "S", "Vh"))
_qr_result = namedtuple("linalg_qr", ("Q", "R"))
_eigh_result = namedtuple("linalg_eigh", ("eigenvalues", "eigenvectors"))
_slogdet_result = namedtuple("linalg_slogdet", ("sign", "logabsdet"))
_lstsq_result = namedtuple("linalg_lstsq", ("solution", "residuals", "rank", "singular_values"))


def svd(A, full_matrices=True, *, driver=None):
    return _svd_result(*_run("svd", lambda la, a: tuple(la.svd(a, full_matrices=full_matrices)), A))


def svdvals(A):
    return _run("svdvals", lambda la, a: la.svd(a, compute_uv=False), A)


def qr(A, mode="reduced"):
    return _qr_result(*_run("qr", lambda la, a: tuple(la.qr(a, mode)), A))


def eigh(A, UPLO="L"):
    return _eigh_result(*_run("eigh", lambda la, a: tuple(la.eigh(a, UPLO)), A))


def eigvalsh(A, UPLO="L"):
    return _run("eigvalsh", lambda la, a: la.eigvalsh(a, UPLO), A)


def cholesky(A, *, upper=False):
    r = _run("cholesky", lambda la, a: la.cholesky(a), A)
    return r.mT if upper else r


def det(A):
    return _run("det", lambda la, a: la.det(a), A)


def slogdet(A):
    return _slogdet_result(*_run("slogdet", lambda la, a: tuple(la.slogdet(a)), A))


def pinv(A, rcond=1e-15):
    return _run("pinv", lambda la, a: la.pinv(a, rcond), A)


def matrix_rank(A):
    return _run("matrix_rank", lambda la, a: la.matrix_rank(a), A).long()


def matrix_power(A, n):
    return _run("matrix_power", lambda la, a: la.matrix_power(a, n), A)


def lstsq(A, B, rcond=None):
    s = _run("lstsq", lambda la, a, b: la.lstsq(a, b, rcond)[0], A, B)
    return _lstsq_result(s, None, None, None)


def multi_dot(tensors):
    return _la.chain_matmul(*tensors)


__all__ = ["LinAlgError", "cross", "inv", "matmul", "norm", "solve", "svd", "vector_norm"]
__getattr__ = module_getattr("torch.linalg")
