"""Matrix products, einsum, and the linear algebra that libraries use."""

import numpy as np
from jtorch.kernels import active

from . import _card_arrays, _engine, _raw
from ._dtype import Size, promote_types
from ._elementwise import _into, broadcast_shape, compute_dtype, finish, sum_to
from ._ops_pointwise import convert
from ._ops_shape import _reshape, expand_to, permute, transpose, unsqueeze
from ._tensor import Tensor, method, same_device

record = _engine.record


def _raw_bmm(a, b, ta, tb):
    """[B|1,M,K] @ [B|1,K,N] on the host or in Jittor; accumulates in float32 at least."""
    if type(a) is np.ndarray and type(b) is np.ndarray:
        return np.matmul(a.swapaxes(-1, -2) if ta else a, b.swapaxes(-1, -2) if tb else b)
    a, b = _raw.to_var(a), _raw.to_var(b)
    dt = str(a.dtype)
    if dt in active.TYPES and 0 not in a.shape and 0 not in b.shape:
        return active.bmm(a, b, ta, tb)
    if dt in ("float16", "bfloat16"):
        r = _raw_bmm(a.float32(), b.float32(), ta, tb)
        return _raw.jt.unary(r if type(r) is _raw.Var else _raw.to_var(r), dt)
    if 0 in a.shape or 0 in b.shape:
        return _raw_bmm(a.numpy(), b.numpy(), ta, tb)
    return _raw.to_var(_raw_bmm(a.numpy(), b.numpy(), ta, tb))  # float64 and integers: NumPy's BLAS


def bmm_op(a, b, ta=False, tb=False):
    """Differentiable batched product of 3-D tensors with equal dtype; a batch of 1 is repeated."""
    if a._device is not b._device:
        same_device(a, b)
    batch = max(a._shape[0], b._shape[0])
    m = a._shape[2] if ta else a._shape[1]
    n = b._shape[1] if tb else b._shape[2]
    va, vb = a._data(), b._data()
    if type(va) is not type(vb):
        va, vb = a._var(), b._var()
    r = finish(_raw_bmm(va, vb, ta, tb), (batch, m, n), a.dtype, a._device)
    if _engine.needs(a, b):
        ga, gb = a.requires_grad, b.requires_grad
        sa, sb = (a._snap() if gb else None), (b._snap() if ga else None)
        na, nb = a._shape[0], b._shape[0]

        def backward(g):
            da = db = None
            if ga:
                da = bmm_op(sb, g, tb, True) if ta else bmm_op(g, sb, False, not tb)
                da = da if na == batch else da.sum(0, keepdim=True)
            if gb:
                db = bmm_op(g, sa, True, ta) if tb else bmm_op(sa, g, not ta, False)
                db = db if nb == batch else db.sum(0, keepdim=True)
            return da, db

        record((r,), (a if ga else None, b if gb else None), backward, "bmm")
    return r


def _same_dtype(name, a, b):
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{name}: expected m1 and m2 to have the same dtype, but got: {a.dtype.name} != "
                           f"{b.dtype.name}")


def lowp(*ts):
    """Cast to the autocast dtype where autocast is on."""
    from .amp import autocast_mode

    return autocast_mode.cast_args("low", *ts) if autocast_mode.ACTIVE else ts


def _untranspose(x):
    """(tensor, transposed?): reads a matrix that is the transpose view of another without copying it."""
    if x._view is not None and x._base is not None and x.ndim >= 2 and x._strides is not None:
        x._sync_view()
        if x._strides[-2] == 1 and x._shape[-1] > 1 and x._strides[-1] == x._shape[-2] and x._base.ndim == x.ndim and \
                x._base._shape == Size((*x._shape[:-2], x._shape[-1], x._shape[-2])) and x._base.is_contiguous() and \
                getattr(x._node, "name", "permute") == "permute" and not x._view[2] and x._base._rg == x._rg:
            return x._base, True
    return x, False


@method("matmul", "__matmul__")
def matmul(input, other, *, out=None):
    a, b = lowp(input, other)
    if not isinstance(b, Tensor):
        return NotImplemented
    _same_dtype("matmul", a, b)
    if not a.ndim or not b.ndim:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D")
    va, vb = a.ndim == 1, b.ndim == 1
    a = unsqueeze(a, 0) if va else a
    b = unsqueeze(b, 1) if vb else b
    if a._shape[-1] != b._shape[-2]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({Size(a._shape[:-1]).numel()}x{a._shape[-1]} "
                           f"and {b._shape[-2]}x{b._shape[-1]})")
    m, n = a._shape[-2], b._shape[-1]
    if b.ndim == 2:
        lead = a._shape[:-1]
        bt, tb = _untranspose(b)
        r = bmm_op(_reshape(a, (1, -1, a._shape[-1])) if a.numel() else _reshape(a, (1, Size(lead).numel(),
                                                                                      a._shape[-1])),
                   _reshape(bt, (1, *bt._shape)), False, tb)
        shape = (*lead, n)
    else:
        batch = broadcast_shape(Size(a._shape[:-2]), Size(b._shape[:-2]))
        at, ta = _untranspose(a)
        bt, tb = _untranspose(b)
        r = bmm_op(_batch(at, batch), _batch(bt, batch), ta, tb)
        shape = (*batch, m, n)
    if va:
        shape = (*shape[:-2], shape[-1])
    if vb:
        shape = shape[:-1]
    return _into(out, _reshape(r, shape).detach_view())


def _batch(x, batch):
    mat = x._shape[-2:]
    if Size(x._shape[:-2]).numel() == 1:
        return _reshape(x, (1, *mat))
    return _reshape(expand_to(x, (*batch, *mat)), (batch.numel(), *mat))


Tensor.__rmatmul__ = lambda self, other: matmul(other, self)


@method("bmm")
def bmm(input, mat2, *, out=None):
    if input.ndim != 3 or mat2.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if input._shape[0] != mat2._shape[0] or input._shape[2] != mat2._shape[1]:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{input._shape[0]}, "
                           f"{input._shape[2]}] but got: [{mat2._shape[0]}, {mat2._shape[1]}].")
    return _into(out, matmul(input, mat2))


method("mm")(lambda input, mat2: matmul(input, mat2))
method("mv")(lambda input, vec: matmul(input, vec))
method("dot", "vdot", "inner")(lambda input, other: matmul(input, transpose(other, -1, -2) if other.ndim > 1 else other))
method("outer", "ger")(lambda input, vec2: unsqueeze(input, 1) * unsqueeze(vec2, 0))


def _scaled(x, f):
    return x if f == 1 else x * f


@method("addmm")
def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    r = _scaled(matmul(mat1, mat2), alpha)
    return r if beta == 0 else _scaled(input, beta) + r


@method("baddbmm")
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1):
    r = _scaled(bmm(batch1, batch2), alpha)
    return r if beta == 0 else _scaled(input, beta) + r


method("addmv")(lambda input, mat, vec, *, beta=1, alpha=1: _scaled(input, beta) + _scaled(matmul(mat, vec), alpha))
method("addbmm")(lambda input, a, b, *, beta=1, alpha=1: _scaled(input, beta) + _scaled(bmm(a, b).sum(0), alpha))

for _n, _f in (("addmm_", addmm), ("baddbmm_", baddbmm)):
    setattr(Tensor, _n, lambda self, *a, _f=_f, **k: self._inplace(_f(self._snap(), *a, **k)))


@method("chain_matmul", attach=False)
def chain_matmul(*matrices):
    r = matrices[0]
    for m in matrices[1:]:
        r = matmul(r, m)
    return r


@method("kron")
def kron(input, other):
    n = max(input.ndim, other.ndim)
    a = _reshape(input, (1,) * (n - input.ndim) + tuple(input._shape))
    b = _reshape(other, (1,) * (n - other.ndim) + tuple(other._shape))
    x = _reshape(a, [v for s in a._shape for v in (s, 1)]) * _reshape(b, [v for s in b._shape for v in (1, s)])
    return _reshape(x, [s * t for s, t in zip(a._shape, b._shape)])


# --- einsum --------------------------------------------------------------------------------------------------------
@method("einsum", attach=False)
def einsum(equation, *operands):
    """Einstein summation, contracted pairwise from the left; each pair is one batched product."""
    ops = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    eq = equation.replace(" ", "")
    ins, arrow, outs = eq.partition("->")
    terms = ins.split(",")
    if len(terms) != len(ops):
        raise RuntimeError(f"einsum(): {len(terms)} subscripts for {len(ops)} operands")
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in eq]
    width = max((o.ndim - len(t.replace("...", "")) for t, o in zip(terms, ops) if "..." in t), default=0)
    dots = "".join(spare[:width])
    full = []
    for t, o in zip(terms, ops):
        k = o.ndim - len(t.replace("...", ""))
        full.append(t.replace("...", dots[width - k:]) if "..." in t else t)
    if arrow:
        outs = outs.replace("...", dots)
    else:
        letters = "".join(full)
        outs = dots + "".join(sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1))
    for i, (t, o) in enumerate(zip(full, ops)):
        full[i], ops[i] = _take_diagonals(t, o)
    while len(ops) > 1:
        keep = set(outs).union(*full[2:]) if len(full) > 2 else set(outs)
        t, o = _contract(full[0], ops[0], full[1], ops[1], keep)
        full[:2], ops[:2] = [t], [o]
    t, o = full[0], ops[0]
    drop = [i for i, c in enumerate(t) if c not in outs]
    if drop:
        o = o.sum(drop)
        t = "".join(c for c in t if c in outs)
    return permute(o, *[t.index(c) for c in outs]) if t != outs else o


def _take_diagonals(t, o):
    for c in set(t):
        while t.count(c) > 1:
            i = t.index(c)
            j = t.index(c, i + 1)
            o = Tensor.diagonal(o, 0, i, j)
            t = t[:i] + t[i + 1:j] + t[j + 1:] + c
    return t, o


def _contract(ta, a, tb, b, keep):
    for t, o, other in ((ta, a, tb), (tb, b, ta)):
        gone = [i for i, c in enumerate(t) if c not in other and c not in keep]
        if gone:
            o = o.sum(gone)
            t = "".join(c for i, c in enumerate(t) if i not in gone)
        if other is tb:
            ta, a = t, o
        else:
            tb, b = t, o
    size = {c: s for t, o in ((ta, a), (tb, b)) for c, s in zip(t, o._shape)}
    for t, o in ((ta, a), (tb, b)):
        for c, s in zip(t, o._shape):
            size[c] = max(size[c], s)
    common = [c for c in ta if c in tb and c in keep]
    summed = [c for c in ta if c in tb and c not in keep]
    ra = [c for c in ta if c not in tb]
    rb = [c for c in tb if c not in ta]

    def shaped(o, t, first, second):
        o = permute(o, *[t.index(c) for c in (*common, *first, *second)])
        o = expand_to(o, tuple(size[c] for c in (*common, *first, *second)))
        n = [Size(size[c] for c in part).numel() for part in (common, first, second)]
        return _reshape(o, n)

    dt = promote_types(a.dtype, b.dtype)
    a, b = (x if x.dtype is dt else convert(x, dt) for x in (a, b))
    r = bmm_op(shaped(a, ta, ra, summed), shaped(b, tb, summed, rb))
    t = "".join((*common, *ra, *rb))
    return t, _reshape(r, tuple(size[c] for c in t))


@method("tensordot", attach=False)
def tensordot(a, b, dims=2):
    if isinstance(dims, int):
        da, db = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        da, db = ([d % x.ndim for d in ds] for ds, x in zip(dims, (a, b)))
    ra = [d for d in range(a.ndim) if d not in da]
    rb = [d for d in range(b.ndim) if d not in db]
    k = Size(a._shape[d] for d in da).numel()
    r = matmul(_reshape(permute(a, *ra, *da), (-1, k)), _reshape(permute(b, *db, *rb), (k, -1)))
    return _reshape(r, [a._shape[d] for d in ra] + [b._shape[d] for d in rb])


@method("cdist", attach=False)
def cdist(x1, x2, p=2.0, compute_mode=None):
    d = unsqueeze(x1, -2) - unsqueeze(x2, -3)
    return d.norm(p, dim=-1)


@method("cross")
def cross(input, other, dim=-1):
    a, b = (x.unbind(dim) for x in (input, other))
    from ._ops_join import stack

    return stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]], dim)


# --- decompositions: in the tensor's precision ------------------------------------------------------------------------
def decompose(name, f, *xs):
    """``f(linalg, *arrays)`` with `numpy.linalg` on host copies or, for data on a card, with cupy's on it.

    The results cannot be differentiated and say so.
    """
    if _engine.needs(*xs):
        raise NotImplementedError(f"the gradient of torch.linalg.{name} is not implemented in torch on Jittor; use "
                                  "torch.no_grad() or detach()")
    dt = xs[0].dtype
    live = active.CARD and any(type(x._data()) is _raw.Var for x in xs) and all(x.numel() for x in xs)
    if live and _card_arrays.libraries():
        values = [_raw.cast(x._var(), compute_dtype(dt)) for x in xs]
        found, many = _card_arrays.run(f, values, [x._shape for x in xs])
        res = tuple(finish(v, shape, dt, xs[0]._device) for v, shape in found)
        return res if many else res[0]
    work = [x._host() if dt.itemsize > 2 else x._host().astype(np.float32) for x in xs]
    out = f(np.linalg, *work)
    many = isinstance(out, tuple)
    res = tuple(finish(np.asarray(o, None if np.asarray(o).dtype.kind in "iu" else (dt.np or np.float32)),
                       np.shape(o), dt, xs[0]._device) for o in (out if many else (out,)))
    return res if many else res[0]


def _inverse(x):
    if x._shape[-1] != x._shape[-2]:
        raise RuntimeError(f"linalg.inv: A must be batches of square matrices, but they are {x._shape[-2]} by "
                           f"{x._shape[-1]} matrices")
    with _engine.set_grad_mode(False):
        try:
            r = decompose("inv", lambda la, a: la.inv(a), x)
        except np.linalg.LinAlgError:
            raise RuntimeError("linalg.inv: The diagonal element is zero, the inversion could not be completed because "
                               "the input matrix is singular.") from None
    if x.requires_grad and _engine.state.grad:
        saved = _engine.SavedResult(r)

        def backward(g):
            rt = saved.get().mT
            return (-matmul(matmul(rt, g), rt),)

        record((r,), (x,), backward, "inverse")
        saved.bind(r)
    return r


inverse = method("inverse")(_inverse)


def solve(A, B):
    """Solution X of A X = B; differentiable in both."""
    vec = B.ndim == 1
    with _engine.set_grad_mode(False):
        r = decompose("solve", lambda la, a, b: la.solve(a, b[..., None] if vec else b), A, B)
        r = r.squeeze(-1).detach_view() if vec else r
    if _engine.needs(A, B):
        sa, saved = A._snap(), _engine.SavedResult(r)
        ga, gb, shape_a, shape_b = A.requires_grad, B.requires_grad, A._shape, B._shape

        def backward(g):
            z, rv = solve(sa.mT, g), saved.get()
            da = -(unsqueeze(z, -1) * unsqueeze(rv, -2) if vec else matmul(z, rv.mT))
            return (sum_to(da, shape_a) if ga else None), (sum_to(z, shape_b) if gb else None)

        record((r,), (A if ga else None, B if gb else None), backward, "solve")
        saved.bind(r)
    return r


method("svd")(lambda input, some=True, compute_uv=True: _svd(input, some))


def _svd(x, some):
    u, s, vh = decompose("svd", lambda la, a: tuple(la.svd(a, full_matrices=not some)), x)
    return u, s, vh.mT


method("trace")(lambda input: Tensor.diagonal(input).sum())
method("det")(lambda input: decompose("det", lambda la, a: la.det(a), input))
method("qr")(lambda input, some=True: decompose("qr", lambda la, a: tuple(la.qr(
    a, "reduced" if some else "complete")), input))
method("cholesky")(lambda input, upper=False: decompose("cholesky", lambda la, a: la.cholesky(a), input))
