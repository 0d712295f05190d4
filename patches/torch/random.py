"""`torch.random` and `torch.Generator`: seeding, state, and the generator that draws take when none is given.

A generator draws on the CPU whatever device it names, with the numbers of PyTorch's CPU generator, so that one seed
gives one picture on every machine. A "cuda" generator of real PyTorch has another stream; here it repeats the CPU's.

Other modules draw through `generator._engine`, a `TorchMT19937`.
"""
from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ._dtype import device as as_device
from ._mt19937 import TorchMT19937

if TYPE_CHECKING:
    import torch

__all__ = ["default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]


class Generator:
    """A stream of random numbers of its own.

    Args:
        device: "cpu" or "cuda" (also "cuda:N", N or a `torch.device`); only remembered, see the module text.

    Raises:
        RuntimeError: another device type.
    """

    def __init__(self, device: Any = "cpu") -> None:
        self._device = as_device("cpu" if device is None else device)
        if self._device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"Generator: device '{self._device}' has no random numbers; use 'cpu' or 'cuda'")
        self._engine = TorchMT19937()

    @property
    def device(self) -> torch.device:
        """The device named at construction."""
        return self._device

    def manual_seed(self, seed: int) -> Generator:
        """Start again from `seed`, -2**63 to 2**64 - 1; returns the generator itself.

        Raises:
            TypeError: not an integer. ValueError: outside that range.
        """
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise TypeError(f"manual_seed: expected an integer, got {seed!r} of type {type(seed).__name__}")
        self._engine.manual_seed(operator.index(seed))
        return self

    def seed(self) -> int:
        """Start from a seed of the operating system's entropy and return it."""
        return self._engine.seed()

    def initial_seed(self) -> int:
        """The last seed, 0 to 2**64 - 1; 67280421310721 where none was given."""
        return self._engine.initial_seed()

    def get_state(self) -> torch.Tensor:
        """The state, a uint8 tensor [5056] with the bytes PyTorch's CPU generator uses, for a "cuda" generator too."""
        from ._tensor import from_numpy_copy

        return from_numpy_copy(self._engine.get_state())

    def set_state(self, new_state: torch.Tensor) -> None:
        """Go on from a state of `get_state()`, of this library or of PyTorch.

        Raises:
            TypeError: not a uint8 tensor. RuntimeError: not the state of a CPU generator; nothing has changed then.
        """
        if not hasattr(new_state, "numpy") or str(new_state.dtype).rsplit(".", 1)[-1] != "uint8":
            kind = getattr(new_state, "dtype", type(new_state).__name__)
            raise TypeError(f"set_state: expected a uint8 tensor of get_state(), got {kind}")
        self._engine.set_state(new_state.numpy())

    def __repr__(self) -> str:
        return f"<torch.Generator device={str(self._device)!r} initial_seed={self.initial_seed()}>"

    def __reduce__(self) -> tuple:
        return _restored, (self._device, self._engine)


def _restored(device: torch.device, engine: TorchMT19937) -> Generator:
    generator = Generator(device)
    generator._engine = engine
    return generator


default_generator = Generator()
default_generator.seed()  # as in PyTorch, a program that sets no seed draws other numbers each time


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, for draws on every device; returns it. `seed` goes through `int()`, as in PyTorch."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seed the default generator from the operating system's entropy and return that seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The last seed of the default generator, 0 to 2**64 - 1."""
    return default_generator.initial_seed()


def get_rng_state() -> torch.Tensor:
    """The default generator's state, a uint8 tensor [5056]."""
    return default_generator.get_state()


def set_rng_state(new_state: torch.Tensor) -> None:
    """Put the default generator into a state of `get_rng_state()`; errors as for `Generator.set_state`."""
    default_generator.set_state(new_state)


@contextlib.contextmanager
def fork_rng(
    devices: Iterable[Any] | None = None,
    enabled: bool = True,
    _caller: str = "fork_rng",
    _devices_kw: str = "devices",
    device_type: str = "cuda",
) -> Iterator[None]:
    """Within the block draws may do as they like; after it the default generator is where it was before.

    All devices draw from that one generator, so `devices` and `device_type` choose nothing. With `enabled=False` the
    block does nothing at all.
    """
    if not enabled:
        yield
        return
    before = default_generator._engine.get_state()
    try:
        yield
    finally:
        default_generator._engine.set_state(before)
