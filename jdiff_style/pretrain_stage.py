"""What every stage that trains from scratch has to offer; pretrain.py runs it."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from jdiff_style.dataset import NOISE, derive_seed
from jdiff_style.errors import UserError
from jdiff_style.pretrain_data import PretrainData
from jdiff_style.pretrain_recipe import PretrainRecipe
from jdiff_style.train import pick_device

RESULT = "result"  # folder of the finished model in a run


class Stage:
    """What a stage has to offer. `parts` are the trained modules, `rates` their shares of the learning rate if not 1.
    `before` is the folder of the finished model of the same kind that it makes better, for the card.
    """

    parts: dict[str, torch.nn.Module]
    rates: dict[str, float]
    before: Path | None = None
    measurement: str  # a name that `validate` always returns

    def __init__(self, recipe: PretrainRecipe):
        if recipe.data is None:
            raise UserError("data: none given; name the folder that holds images.npy and metadata.jsonl with --data")
        self.recipe = recipe
        self.device = pick_device(recipe.device)
        self.data = PretrainData(Path(recipe.data), recipe.seed, recipe.limit)
        self.parts, self.rates = {}, {}
        torch.manual_seed(recipe.seed)

    def prepare(self, run: Path) -> None:
        """Compute once what the steps need, after the run folder exists; the default does nothing."""

    def inputs(self) -> dict[str, str]:
        """Fingerprints of everything that a resumed run must find unchanged, by the name of the recipe's field."""
        return {"data": self.data.fingerprint()}

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The scalar to minimise at `step` (from 0), and scalars for the log."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """Measurements of the present weights; uses no random state."""
        raise NotImplementedError

    def sample(self) -> Image.Image | None:
        """A sheet of sample pictures, or None if the stage has none."""
        return None

    def export(self, folder: Path) -> None:
        """Write the model into the empty `folder`, weights in float16."""
        raise NotImplementedError

    def generator(self, step: int) -> torch.Generator:
        """The random stream of a step's noise, on the CPU, so that every device draws the same."""
        return torch.Generator().manual_seed(derive_seed(self.recipe.seed, NOISE, step))

    def autocast(self) -> Any:
        """bfloat16 convolutions and matmuls where the recipe asks for them, nothing otherwise."""
        if self.recipe.mixed_precision == "no":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def half_copy(module: Any) -> Any:
    """A float16 copy of a model, to be saved; it forgets the folder that it was loaded from."""
    half = copy.deepcopy(module).to(torch.float16)
    for parameter in half.parameters():
        parameter.data = parameter.data.contiguous()  # a compiled step has channels last, which safetensors refuses
    if hasattr(half, "register_to_config"):  # diffusers
        half.register_to_config(_name_or_path="")
    else:
        half.config._name_or_path = ""
    return half
