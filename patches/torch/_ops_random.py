"""Random draws, equal to PyTorch's for the same generator state."""

import numpy as np
from jtorch.kernels import bernoulli as kernel

from . import _raw
from ._dtype import Size, get_default_dtype, int64, preserve_format, strided
from ._ops_create import _from_host, _make, resolve_device
from ._ops_shape import dims_arg
from ._tensor import Tensor, method, mk


def engine_of(generator):
    from . import random

    return (generator or random.default_generator)._engine


def kept(shape, p):
    """Which numbers dropout with probability ``p`` keeps: a uint8 variable, drawn when it is computed."""
    return engine_of(None).draw_later(lambda state: kernel.bernoulli(_raw.to_var(state), shape, 1 - p))


def _drawn(a, shape, dt, dev, requires_grad=False):
    return _from_host(np.asarray(a).reshape(shape), dt, dev, requires_grad)


def _sample(draw, dt, *args, n, generator):
    return getattr(engine_of(generator), draw)(n, dt.name, *args)


def _random_fn(name, draw, *params):
    def op(*size, generator=None, dtype=None, device=None, requires_grad=False, layout=strided, out=None,
           pin_memory=False, **kw):
        shape = Size(dims_arg(kw.get("size", size)))
        dt = dtype or get_default_dtype()
        if resolve_device(device).type == "meta":
            return _make(shape, 0, dt, device)
        return _drawn(_sample(draw, dt, *params, n=shape.numel(), generator=generator), shape, dt, device,
                      requires_grad)

    op.__name__ = name
    method(name, attach=False)(op)

    def like(input, *, dtype=None, device=None, requires_grad=False, layout=None, memory_format=preserve_format,
             generator=None):
        return op(*input._shape, dtype=dtype or input.dtype, device=device or input._device,
                  requires_grad=requires_grad, generator=generator)

    method(f"{name}_like", attach=False)(like)


_random_fn("rand", "uniform", 0.0, 1.0)
_random_fn("randn", "normal", 0.0, 1.0)


@method("randint", attach=False)
def randint(low=0, high=None, size=None, *, generator=None, dtype=None, device=None, requires_grad=False, layout=strided):
    if size is None:
        low, high, size = 0, low, high
    if high is None:
        low, high = 0, low
    shape = Size(size)
    dt = dtype or int64
    a = engine_of(generator).randint(int(low), int(high), shape.numel(), dt.name)
    return _drawn(a, shape, dt, device)


@method("randint_like", attach=False)
def randint_like(input, low, high=None, *, dtype=None, device=None):
    return randint(low, high, input._shape, dtype=dtype or input.dtype, device=device) if high is not None else \
        randint(0, low, input._shape, dtype=dtype or input.dtype, device=device)


@method("randperm", attach=False)
def randperm(n, *, generator=None, dtype=int64, device=None, requires_grad=False, layout=strided, pin_memory=False):
    return _drawn(engine_of(generator).randperm(int(n)), (int(n),), dtype, device)


@method("normal", attach=False)
def normal(mean, std=1.0, size=None, *, generator=None, dtype=None, device=None, out=None):
    if size is not None:
        shape, dt = Size(size), dtype or get_default_dtype()
        return _drawn(_sample("normal", dt, float(mean), float(std), n=shape.numel(), generator=generator), shape, dt,
                      device)
    ref = mean if isinstance(mean, Tensor) else std
    from ._ops_shape import broadcast_shapes

    shape = broadcast_shapes(*(x._shape for x in (mean, std) if isinstance(x, Tensor)))
    z = _drawn(_sample("normal", ref.dtype, 0.0, 1.0, n=shape.numel(), generator=generator), shape, ref.dtype, None)
    return z * std + mean


def _in_place_draw(self, a):
    return self._inplace(_drawn(a, self._shape, self.dtype, self._device))


@method("normal_", function=False)
def normal_(self, mean=0, std=1, *, generator=None):
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    return self if self.is_meta else _in_place_draw(
        self, _sample("normal", self.dtype, float(mean), float(std), n=self.numel(), generator=generator))


def _uniform_(self, from_=0.0, to=1.0, *, generator=None, **kw):
    lo = kw.get("from", from_)
    return self if self.is_meta else _in_place_draw(
        self, _sample("uniform", self.dtype, float(lo), float(to), n=self.numel(), generator=generator))


method("uniform_", function=False)(_uniform_)


@method("random_", function=False)
def random_(self, from_=None, to=None, *, generator=None, **kw):
    from_ = kw.get("from", from_)
    e = engine_of(generator)
    if from_ is None:
        return _in_place_draw(self, e.random(self.numel(), self.dtype.name))
    if to is None:
        from_, to = 0, from_
    return _in_place_draw(self, e.randint(int(from_), int(to), self.numel(), self.dtype.name))


@method("bernoulli")
def bernoulli(input, p=None, *, generator=None):
    e = engine_of(generator)
    a = e.bernoulli_each(input.detach()._host()) if p is None else e.bernoulli(input.numel(), p)
    return _drawn(np.asarray(a), input._shape, input.dtype, input._device)


@method("bernoulli_", function=False)
def bernoulli_(self, p=0.5, *, generator=None):
    e = engine_of(generator)
    if isinstance(p, Tensor):
        return _in_place_draw(self, e.bernoulli_each(np.broadcast_to(p.detach()._host(), self._shape)))
    return _in_place_draw(self, e.bernoulli(self.numel(), p))


@method("exponential_", function=False)
def exponential_(self, lambd=1, *, generator=None):
    return _in_place_draw(self, engine_of(generator).exponential(
        self.numel(), self.dtype.name, lambd))


@method("multinomial")
def multinomial(input, num_samples, replacement=False, *, generator=None):
    p = input.detach()._host()
    a = np.asarray(engine_of(generator).multinomial(p, num_samples, replacement,
                                                          dtype=input.dtype.name), np.int64)
    return mk(a, a.shape, int64, input._device)
