"""Random numbers equal to those of PyTorch's CPU generator, in plain NumPy.

The core is MT19937, the one NumPy ships; what is PyTorch's own is how seeds enter, how 32- and 64-bit outputs are
consumed by each distribution, and how the state is laid out in bytes. Integers come out equal, floats to a few units in
the last place (PyTorch's vectorised logarithm and cosine round differently: 5e-7 for float32 standard normals).

Reproduced: PyTorch 2.13 on CPU. PyTorch 2.2 differs in three rare places: `randint` over a range of 2**28 to 2**32 took
one 32-bit output there, float16 and bfloat16 uniforms took 11 and 8 bits, and normals of those two dtypes were computed
in half precision.

`bernoulli` with one probability (and with it dropout) and `exponential` (and with it `multinomial` without replacement)
are drawn here from the generator itself, as PyTorch does on AMD processors. On Intel processors PyTorch may hand them
to a stream of MKL instead; the numbers then differ, the distributions do not.

Every draw takes `n`, a count or a shape, and returns a fresh NumPy array. NumPy has no bfloat16: draws of that dtype
come back as float32 arrays whose values are exact in bfloat16.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._mt19937_core import (
    CHUNK,
    DEFAULT_SEED,
    FLOATS,
    LARGEST,
    STATE_BYTES,
    Core,
    as_count,
    dtype_name,
    rounded,
)

__all__ = ["DEFAULT_SEED", "STATE_BYTES", "TorchMT19937"]

_WIDE_RANGE = 1 << 28  # from this many different integers on, randint takes 64 bits, so that the modulo stays fair
_PERM_LIMIT = 0xFFFFFFFF // 20
_MASK21 = np.uint32((1 << 21) - 1)


class TorchMT19937(Core):
    """The engine behind `torch.Generator`. Each draw is atomic, so threads may share one engine.

    Args:
        seed: -2**63 to 2**64 - 1; negative values count from 2**64 down, and the low 32 bits alone seed the core.
    """

    # ------------------------------------------------------------------ uniform and normal

    def uniform(
        self, n: int | tuple[int, ...], dtype: Any = "float32", low: float = 0.0, high: float = 1.0
    ) -> np.ndarray:
        """Uniform in [low, high), as `Tensor.uniform_`: 24 random bits a value, 53 for float64.

        Raises:
            RuntimeError: low > high, or a bound or the width is not finite in `dtype`.
        """
        name = dtype_name(dtype, FLOATS)
        total, shape = as_count(n)
        kind = np.dtype(np.float32 if name == "bfloat16" else name)
        limit = float(np.finfo(kind).max)
        if not (low <= high and abs(low) <= limit and abs(high) <= limit and high - low <= limit):
            raise RuntimeError(
                f"uniform_: low={low}, high={high} is not a finite range of {name}; give low <= high within +-{limit:g}"
            )
        if name in ("float32", "float64") and (low, high) == (0.0, 1.0):
            return self._filled(shape, total, kind, self._unit32 if name == "float32" else self._unit64)
        first, last = (rounded(np.array([bound], dtype=np.float64), name)[0] for bound in (low, high))
        work = np.float64 if name == "float64" else np.float32
        start, width = float(work(low)), float(work(high) - work(low))

        def draw(count: int) -> np.ndarray:
            unit = self._unit64(count) if name == "float64" else self._unit32(count).astype(np.float64)
            values = rounded((unit * width + start).astype(work, copy=False), name)
            # Rounding may reach the open end; PyTorch moves those values to the closed one.
            return np.where(values >= last, first, values)

        return self._filled(shape, total, kind, draw)

    def normal(
        self, n: int | tuple[int, ...], dtype: Any = "float32", mean: float = 0.0, std: float = 1.0,
        *, contiguous: bool = True,
    ) -> np.ndarray:
        """Normal values, as `Tensor.normal_`. Raises RuntimeError for std < 0.

        From 16 values on, a contiguous tensor is filled in blocks of 16: eight radii and eight angles become eight
        cosines and eight sines; a remainder redraws the last 16. Fewer values, or `contiguous=False` (a transposed or
        strided tensor, in memory order), go one by one in float64, and the second value of a pair waits in the state
        for the next such call.
        """
        name = dtype_name(dtype, FLOATS)
        total, shape = as_count(n)
        if not std >= 0:
            raise RuntimeError(f"normal_: std={std} is negative or not a number; give std >= 0")
        with self._lock:
            if total < 16 or not contiguous:
                return rounded(self._serial_normal(total) * std + mean, name).reshape(shape)
            work = np.dtype(np.float64 if name == "float64" else np.float32)
            unit = self._unit64 if name == "float64" else self._unit32
            rest = total % 16
            out = np.empty(total, dtype=work)
            for start in range(0, total - rest, CHUNK):
                stop = min(start + CHUNK, total - rest)
                self._box_muller(unit(stop - start), out[start:stop])
            if rest:
                # The half types draw block by block and never reach the remainder before it is redrawn.
                if name in ("float32", "float64"):
                    unit(rest)
                self._box_muller(unit(16), out[-16:])
        if (mean, std) != (0.0, 1.0):
            # One rounding at the end, like the fused multiply-add PyTorch uses.
            out = (out.astype(np.float64) * float(work.type(std)) + float(work.type(mean))).astype(work, copy=False)
        return rounded(out, name).reshape(shape)

    @staticmethod
    def _box_muller(unit: np.ndarray, out: np.ndarray) -> None:
        """Standard normals into `out` from as many uniform values, both in blocks of 16; dtype of `unit` throughout."""
        blocks = unit.reshape(-1, 2, 8)
        radius = (1 - blocks[:, 0]).reshape(-1)  # (0, 1]: the logarithm stays finite
        np.log(radius, out=radius)
        radius *= -2
        np.sqrt(radius, out=radius)
        angle = (blocks[:, 1] * unit.dtype.type(2 * math.pi)).reshape(-1)
        target = out.reshape(-1, 2, 8)
        target[:, 0] = (radius * np.cos(angle)).reshape(-1, 8)
        target[:, 1] = (radius * np.sin(angle)).reshape(-1, 8)

    def _serial_normal(self, n: int) -> np.ndarray:
        """Standard normals one by one, float64 [n]: the one waiting in the state, then cosine and sine in turn."""
        out = np.empty(n, dtype=np.float64)
        if n == 0:
            return out
        begin = 0
        if self._normal is not None:
            out[0], self._normal, begin = self._normal, None, 1
        pairs = (n - begin + 1) // 2
        if pairs:
            unit = self._unit64(2 * pairs)
            radius = np.sqrt(-2.0 * np.log1p(-unit[1::2]))
            angle = 2.0 * math.pi * unit[0::2]
            values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
            out[begin:] = values[: n - begin]
            if values.size > n - begin:
                self._normal = float(values[-1])
        return out

    # ------------------------------------------------------------------ integers

    def randint(self, low: int, high: int, n: int | tuple[int, ...], dtype: Any = "int64") -> np.ndarray:
        """Integers in [low, high), as `torch.randint`: output modulo the range, 64-bit outputs from 2**28 values on.

        `low=-2**63, high=2**63` is the full 64-bit range of `Tensor.random_(-2**63, None)`.

        Raises:
            RuntimeError: low >= high; or a bound that `dtype` cannot hold (a float: cannot count to without gaps, where
                PyTorch warns and draws another range).
        """
        name = dtype_name(dtype)
        total, shape = as_count(n)
        low, high = int(low), int(high)
        if low >= high:
            raise RuntimeError(f"random_: low={low} is not below high={high}; give low < high")
        largest = LARGEST[name]
        smallest = 0 if name in ("bool", "uint8") else -largest - (0 if name in FLOATS else 1)
        if low < smallest or high - 1 > largest:
            raise RuntimeError(f"random_: [{low}, {high}) leaves [{smallest}, {largest}], the whole numbers of {name}")
        span = high - low
        kind = np.dtype(np.float32 if name == "bfloat16" else name)

        def draw(count: int) -> np.ndarray:
            if span < _WIDE_RANGE:
                return (self._raw32(count) % np.uint32(span)).astype(np.int64) + low
            whole = self._raw64(count)
            if span == 2**64:
                return whole.view(np.int64)
            return (whole % np.uint64(span) + np.uint64(low % 2**64)).view(np.int64)  # wraps round to the signed value

        return self._filled(shape, total, kind, draw)

    def random(
        self, n: int | tuple[int, ...], dtype: Any = "int64", low: int | None = None, high: int | None = None
    ) -> np.ndarray:
        """`Tensor.random_()`: without bounds 0 to the largest value of an integer dtype, or 0 to 2**digits of a float.

        With `low` alone up to that same end, with both like `randint`, with `high` alone from 0.
        """
        name = dtype_name(dtype)
        if high is not None or low is not None:
            first = 0 if low is None else int(low)
            return self.randint(first, LARGEST[name] + 1 if high is None else high, n, name)
        total, shape = as_count(n)
        kind = np.dtype(np.float32 if name == "bfloat16" else name)
        span = np.uint64(LARGEST[name] + 1)
        raw = self._raw64 if name in ("int64", "float64") else self._raw  # narrow dtypes: one output, whatever the span
        return self._filled(shape, total, kind, lambda count: raw(count) % span)

    def randperm(self, n: int) -> np.ndarray:
        """A permutation of 0 … n-1, int64 [n], as `torch.randperm`: n - 1 swaps, each with a later place or itself.

        Raises:
            RuntimeError: n < 0. NotImplementedError: n of 214748364 or more, where PyTorch shuffles in another way.
        """
        if n < 0:
            raise RuntimeError(f"randperm: n={n} is negative; give n of 0 or more")
        if n >= _PERM_LIMIT:
            raise NotImplementedError(f"randperm: n={n} is not supported; the limit is {_PERM_LIMIT - 1}")
        if n < 2:
            return np.arange(n, dtype=np.int64)
        with self._lock:
            place = np.arange(n - 1, dtype=np.uint64)
            partner = self._raw(n - 1) % (np.uint64(n) - place) + place
        order = list(range(n))  # a swap depends on the one before; a list swaps ten times faster than an array
        for i, j in enumerate(partner.tolist()):
            order[i], order[j] = order[j], order[i]
        return np.array(order, dtype=np.int64)

    # ------------------------------------------------------------------ other distributions

    def bernoulli(self, n: int | tuple[int, ...], p: float = 0.5) -> np.ndarray:
        """True with probability `p`, bool: `Tensor.bernoulli_(p)` on AMD processors (see the module text).

        Raises RuntimeError for p outside [0, 1].
        """
        if not 0 <= p <= 1:
            raise RuntimeError(f"bernoulli_: p={p} is outside [0, 1]")
        total, shape = as_count(n)
        # k * 2**-53 < p exactly when the integer k is below the threshold. Its upper 21 bits nearly always decide.
        high, low = (np.uint32(part) for part in divmod(math.ceil(p * 2.0**53), 2**32))

        def draw(count: int) -> np.ndarray:
            pairs = self._raw32(2 * count)
            top = pairs[0::2] & _MASK21  # a draw is 53 bits of two outputs, the first above the second
            kept = top < high
            equal = top == high
            if equal.any():
                kept |= equal & (pairs[1::2] < low)
            return kept

        return self._filled(shape, total, bool, draw)

    def bernoulli_each(self, p: np.ndarray) -> np.ndarray:
        """True with the probability given for each place, bool of p's shape: `torch.bernoulli(p)` on every processor.

        A float64 `p` takes 53 bits a value, any other 24. Raises RuntimeError for a probability outside [0, 1].
        """
        p = np.asarray(p)
        if not ((p >= 0) & (p <= 1)).all():
            raise RuntimeError("bernoulli: a probability is outside [0, 1] or not a number")
        with self._lock:
            unit = self._unit64(p.size) if p.dtype == np.float64 else self._unit32(p.size)
        return unit.reshape(p.shape) < p

    def exponential(self, n: int | tuple[int, ...], dtype: Any = "float32", rate: float = 1.0) -> np.ndarray:
        """Exponential with `rate` > 0 (RuntimeError otherwise), as `Tensor.exponential_` without MKL."""
        if not rate > 0:
            raise RuntimeError(f"exponential_: rate={rate} is not positive")
        return self._mapped(n, dtype, lambda unit: -np.log1p(-unit) / rate)

    def geometric(self, n: int | tuple[int, ...], p: float, dtype: Any = "float32") -> np.ndarray:
        """Trials until the first success, 1, 2, …, as `Tensor.geometric_`. Raises RuntimeError unless 0 < p < 1."""
        if not 0 < p < 1:
            raise RuntimeError(f"geometric_: p={p} is outside (0, 1)")
        with np.errstate(divide="ignore"):
            return self._mapped(n, dtype, lambda unit: np.ceil(np.log(unit) / math.log1p(-p)))

    def cauchy(
        self, n: int | tuple[int, ...], dtype: Any = "float32", median: float = 0.0, sigma: float = 1.0
    ) -> np.ndarray:
        """Cauchy values, as `Tensor.cauchy_`. Raises RuntimeError unless sigma > 0."""
        if not sigma > 0:
            raise RuntimeError(f"cauchy_: sigma={sigma} is not positive")
        return self._mapped(n, dtype, lambda unit: median + sigma * np.tan(math.pi * (unit - 0.5)))

    def log_normal(
        self, n: int | tuple[int, ...], dtype: Any = "float32", mean: float = 1.0, std: float = 2.0
    ) -> np.ndarray:
        """exp of normal values, as `Tensor.log_normal_`; always one by one. Raises RuntimeError unless std > 0."""
        if not std > 0:
            raise RuntimeError(f"log_normal_: std={std} is not positive")
        name = dtype_name(dtype, FLOATS)
        total, shape = as_count(n)
        with self._lock:
            return rounded(np.exp(self._serial_normal(total) * std + mean), name).reshape(shape)

    def _mapped(
        self, n: int | tuple[int, ...], dtype: Any, formula: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        name = dtype_name(dtype)
        total, shape = as_count(n)
        kind = np.dtype(np.float32 if name == "bfloat16" else name)
        return self._filled(shape, total, kind, lambda count: rounded(formula(self._unit64(count)), name))

    def multinomial(
        self, weights: np.ndarray, samples: int, replacement: bool = False, dtype: Any | None = None
    ) -> np.ndarray:
        """Indices drawn in proportion to `weights` [k] or [rows, k]: int64 [samples] or [rows, samples].

        As `torch.multinomial`: with replacement by the cumulated weights, otherwise (and for one sample) by the largest
        weight / exponential value. In half precision those values tie at times; PyTorch may take ties in another order.
        `dtype` is the tensor's dtype where the array cannot carry it ("bfloat16").

        Raises:
            RuntimeError: a weight that is negative or not finite, a row that sums to 0, samples < 1, or more samples
                than weights without replacement.
        """
        weights = np.asarray(weights)
        name = dtype_name(weights.dtype if dtype is None else dtype, FLOATS)
        if weights.ndim not in (1, 2):
            raise RuntimeError(f"multinomial: weights have {weights.ndim} dimensions; give 1 or 2")
        rows = weights.reshape(-1, weights.shape[-1])
        if samples < 1 or (not replacement and samples > rows.shape[1]):
            raise RuntimeError(f"multinomial: cannot draw {samples} of {rows.shape[1]} (replacement={replacement})")
        if not (np.isfinite(rows) & (rows >= 0)).all() or not (rows.sum(axis=1, dtype=np.float64) > 0).all():
            raise RuntimeError("multinomial: weights must be finite, 0 or more, and not all 0 in a row")
        if replacement and samples > 1:
            wide = rows.astype(np.float64 if name == "float64" else np.float32)
            bounds = np.cumsum(wide, axis=1)
            bounds /= bounds[:, -1:]
            with self._lock:
                unit = self._unit64(len(rows) * samples).reshape(len(rows), samples)
            chosen = np.stack([np.searchsorted(*pair) for pair in zip(bounds, unit, strict=True)])
        else:
            race = self.exponential(rows.shape, name)
            with np.errstate(divide="ignore"):
                score = rounded(rows / race, name)
            chosen = np.argsort(-score, axis=1, kind="stable")[:, :samples]
        return chosen.astype(np.int64).reshape(*weights.shape[:-1], samples)
