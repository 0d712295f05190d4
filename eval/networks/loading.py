"""Filling a network with a published checkpoint: exactly, or with one sentence about what does not fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from jdiff_style.errors import UserError

#: A counter of training steps in every batch norm; inference never reads it and old checkpoints lack it.
_COUNTER = "num_batches_tracked"


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a torch checkpoint, without running code that is in it.

    Args:
        path: the file.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as network weights ({error}); download it again") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no plain table of weights; give the published file as it is")
    return dict(state)


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put ``state`` into ``module``: every weight, no other, each of the right shape; then inference only.

    Args:
        module: the network; it is left in evaluation mode, in float32, without gradients.
        state: tensors by the module's own parameter names.
        source: where they come from, for errors.

    Raises:
        UserError: a weight is missing, unknown or of another shape.
    """
    own = {name: value for name, value in module.state_dict().items() if not name.endswith(_COUNTER)}
    given = {name: value for name, value in state.items() if not name.endswith(_COUNTER)}
    missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    for what, names in (("lacks", missing), ("has an unknown", unknown)):
        if names:
            raise UserError(f"{source}: {what} {names[0]} ({len(names)} such); these are not the weights of this network")
    for name, value in own.items():
        if tuple(value.shape) != tuple(given[name].shape):
            raise UserError(
                f"{source}: {name} has shape {tuple(given[name].shape)}, not {tuple(value.shape)}; "
                "these are not the weights of this network"
            )
    module.load_state_dict({name: value.float() for name, value in given.items()}, strict=False)
    module.requires_grad_(False)
    module.eval()


class Published(nn.Module):
    """A network whose weights are one published file.

    Attributes:
        besides: names in the file that are no weights of the network.
    """

    besides: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def reads(path: Path) -> Mapping[str, Tensor]:
        """What the file holds, by name."""
        return read_state(path)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The network with the weights in ``path``, for inference.

        Raises:
            UserError: the file is unreadable or holds another network.
        """
        network = cls()
        state = cls.reads(path)
        fill(network, {name: value for name, value in state.items() if name not in cls.besides}, str(path))
        return network
