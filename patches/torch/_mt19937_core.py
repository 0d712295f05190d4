"""The MT19937 core of the random numbers: seeds, the state in PyTorch's byte layout, and raw outputs.

Private to `_mt19937.py`, which builds the distributions on it.
"""
from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

DEFAULT_SEED = 67280421310721  # what a new torch.Generator() starts from
_WORDS = 624
_STATE = np.dtype(
    {
        "names": ["seed", "left", "seeded", "next", "key", "normal_x", "normal_y", "normal_rho", "has_normal",
                  "float_normal", "has_float_normal"],
        "formats": ["<u8", "<i4", "<i4", "<u8", ("<u8", (_WORDS,)), "<f8", "<f8", "<f8", "<i4", "<f4", "u1"],
        "offsets": [0, 8, 12, 16, 24, 5016, 5024, 5032, 5040, 5048, 5052],
        "itemsize": 5056,
    }
)
STATE_BYTES: int = _STATE.itemsize

CHUNK = 1 << 15  # values per pass: the temporaries of a pass stay in the second-level cache
_MASK24, MASK53 = np.uint32((1 << 24) - 1), np.uint64((1 << 53) - 1)
FLOATS = ("float32", "float64", "float16", "bfloat16")
# Largest integer, inclusive, that Tensor.random_() draws for a dtype: up to there a float counts without gaps.
LARGEST = {"bool": 1, "uint8": 2**8 - 1, "int8": 2**7 - 1, "int16": 2**15 - 1, "int32": 2**31 - 1, "int64": 2**63 - 1,
            "float16": 2**11, "bfloat16": 2**8, "float32": 2**24, "float64": 2**53}


def dtype_name(dtype: Any, allowed: tuple[str, ...] = tuple(LARGEST)) -> str:
    """The bare name of a dtype given as string, NumPy dtype or torch dtype (`torch.float32` -> `float32`)."""
    name = np.dtype(dtype).name if isinstance(dtype, type) else str(dtype).rsplit(".", 1)[-1]
    if name not in allowed:
        raise NotImplementedError(f"dtype: {dtype} cannot be drawn; use one of {', '.join(allowed)}")
    return name


def rounded(values: np.ndarray, name: str) -> np.ndarray:
    """`values` in dtype `name`; half types go through float32, as PyTorch's conversions do."""
    if name == "float16":
        return values.astype(np.float32, copy=False).astype(np.float16)
    if name != "bfloat16":
        return values.astype(name, copy=False)
    single = np.ascontiguousarray(values, dtype=np.float32)
    bits = single.view(np.uint32)
    nearest_even = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(single), single, nearest_even.view(np.float32))


def as_count(n: int | tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    shape = tuple(int(d) for d in n) if isinstance(n, (tuple, list)) else (int(n),)
    if any(d < 0 for d in shape):
        raise RuntimeError(f"size: {shape} has a negative dimension; give sizes of 0 or more")
    return math.prod(shape), shape


class Core:
    """Seed, state and raw outputs; see `TorchMT19937` for the draws.

    Args:
        seed: -2**63 to 2**64 - 1; negative values count from 2**64 down, and the low 32 bits alone seed the core.
    """

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        self._lock = threading.RLock()
        self._bits = np.random.MT19937(0)
        self._seeder = np.random.RandomState(self._bits)  # its seed() is init_genrand; MT19937(seed) hashes the seed
        self.manual_seed(seed)

    # ------------------------------------------------------------------ seed and state

    def manual_seed(self, seed: int) -> None:
        """Start again from `seed` and forget a cached normal. Raises ValueError for a seed that has no 64-bit form."""
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"seed: {seed} does not fit in 64 bits; give a value from -2**63 to 2**64 - 1")
        with self._lock:
            self._seed = int(seed) % 2**64
            self._seeder.seed(self._seed & 0xFFFFFFFF)
            self._later: Any = None  # the words and the place in them, int32 [625], where an operation still draws
            self._normal: float | None = None  # second half of the last scalar Box-Muller pair
            self._float_normal = (0.0, 0)  # PyTorch keeps this pair in its state but no CPU draw uses it
            self._fresh = True  # nothing drawn yet: PyTorch then stores next = 0, later 624 for the same place

    def seed(self) -> int:
        """Start from a seed of the operating system's entropy (53 bits) and return it."""
        value = secrets.randbits(53)
        self.manual_seed(value)
        return value

    def initial_seed(self) -> int:
        """The last seed, as an unsigned 64-bit value."""
        return self._seed

    def get_state(self) -> np.ndarray:
        """The state as uint8 [5056], byte for byte what `torch.Generator.get_state()` holds on CPU."""
        with self._lock:
            self._settle()
            core = self._bits.state["state"]
            record = np.zeros(1, dtype=_STATE)
            at = int(core["pos"])
            record["seed"], record["seeded"], record["key"] = self._seed, 1, core["key"]
            record["left"], record["next"] = (1, 0) if self._fresh else (_WORDS + 1 - at, at)
            if self._normal is not None:
                record["normal_y"], record["has_normal"] = self._normal, 1
            record["float_normal"], record["has_float_normal"] = self._float_normal
            return record.view(np.uint8).copy()

    def set_state(self, state: np.ndarray) -> None:
        """Go on from `state`, uint8 [5056] of `get_state()` here or in PyTorch.

        Raises:
            TypeError: not uint8. RuntimeError: another size, or not a state of a CPU generator.
                The engine is then as before.
        """
        data = np.asarray(state)
        if data.dtype != np.uint8:
            raise TypeError(f"state: dtype {data.dtype} is not uint8; pass what get_state() returned")
        if data.size != STATE_BYTES:
            raise RuntimeError(f"state: {data.size} bytes, but the state of a CPU generator has {STATE_BYTES}")
        record = np.frombuffer(np.ascontiguousarray(data).tobytes(), dtype=_STATE)[0]
        left, following = int(record["left"]), int(record["next"])
        fresh = (left, following) == (1, 0)
        whole_words = int(record["key"].max()) <= 0xFFFFFFFF
        placed = fresh or (1 <= left <= _WORDS and following == _WORDS + 1 - left)
        if record["seeded"] != 1 or not placed or not whole_words:
            raise RuntimeError("state: the bytes are not a valid mt19937 state; pass what get_state() returned")
        with self._lock:
            position = _WORDS if fresh else following
            words = record["key"].astype(np.uint32)
            self._bits.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": position}}
            self._later = None
            self._seed, self._fresh = int(record["seed"]), fresh
            self._normal = float(record["normal_y"]) if record["has_normal"] else None
            self._float_normal = (float(record["float_normal"]), int(record["has_float_normal"]))

    def __reduce__(self) -> tuple:
        return _restored, (type(self), self.get_state())

    # ------------------------------------------------------------------ raw outputs

    def draw_later(self, draw: Callable[[Any], tuple[Any, Any]]) -> Any:
        """The first result of ``draw(state)``, which draws when it is computed; its second is the state after that.

        States are int32 [625], the 624 words and the place in them, as an array or anything with ``numpy()``.
        """
        with self._lock:
            state = self._later
            if state is None:
                core = self._bits.state["state"]
                state = np.append(core["key"], np.uint32(core["pos"])).view(np.int32)
            self._fresh = False
            drawn, self._later = draw(state)
            return drawn

    def _settle(self) -> None:
        """Wait for what is drawn later."""
        if self._later is not None:
            words = self._later.numpy().view(np.uint32)
            self._later = None
            state = {"key": words[:_WORDS], "pos": int(words[_WORDS])}
            self._bits.state = {"bit_generator": "MT19937", "state": state}

    def _raw(self, n: int) -> np.ndarray:
        self._settle()
        self._fresh = self._fresh and n == 0
        return self._bits.random_raw(n)  # uint64 [n], each below 2**32

    def _raw32(self, n: int) -> np.ndarray:
        """The same outputs as uint32 [n], in half the time."""
        self._settle()
        self._fresh = self._fresh and n == 0
        return self._seeder.randint(0, 1 << 32, n, np.uint32)

    def _raw64(self, n: int) -> np.ndarray:
        pairs = self._raw(2 * n)
        return (pairs[0::2] << np.uint64(32)) | pairs[1::2]

    def _unit32(self, n: int) -> np.ndarray:
        """Multiples of 2**-24 in [0, 1), float32 [n]; one output each."""
        whole = self._raw32(n)
        whole &= _MASK24
        unit = whole.view(np.int32).astype(np.float32)  # signed: the conversion is a single instruction
        unit *= np.float32(2.0**-24)
        return unit

    def _unit64(self, n: int) -> np.ndarray:
        """Multiples of 2**-53 in [0, 1), float64 [n]; two outputs each."""
        unit = (self._raw64(n) & MASK53).view(np.int64).astype(np.float64)
        unit *= 2.0**-53
        return unit

    def _filled(
        self, shape: tuple[int, ...], total: int, kind: Any, draw: Callable[[int], np.ndarray]
    ) -> np.ndarray:
        """An array of `kind` filled by `draw(count)` in chunks, which bounds memory and keeps to the cache."""
        out = np.empty(total, dtype=kind)
        with self._lock:
            for start in range(0, total, CHUNK):
                part = out[start : start + CHUNK]
                part[...] = draw(part.size)
        return out.reshape(shape)


def _restored(kind: type[Core], state: np.ndarray) -> Core:
    engine = kind()
    engine.set_state(state)
    return engine
