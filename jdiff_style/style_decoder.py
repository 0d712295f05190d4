"""A LoRA of the VAE's decoder in which every style of a pack has a part of its own.

Latents do not say whether an edge is to be hard or soft, or whether a surface has blocks or strokes: they were made for a
decoder that knows one kind of picture. One LoRA for all styles learns a mean of them. But whoever draws a picture knows
its style, so each style has a LoRA of its own rank here, and a picture is decoded with that of its style alone.

While training, the LoRAs lie side by side in one packed LoRA, W' = W + sum over styles of m_s·B_s·A_s, and a mask m makes
each picture of a batch see its own. In their file the tensors of a style begin with its id: `00/mid_block.….lora_A.weight`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Sequence

import torch
from torch import nn

from jdiff_style.errors import UserError
from jdiff_style.lora import ADAPTER, lora_layers, lora_parameters

if TYPE_CHECKING:
    import numpy as np

UP = ".lora_B.weight"
DOWN = ".lora_A.weight"
State = dict[str, torch.Tensor]


def split(packed: Mapping[str, torch.Tensor], styles: Sequence[str]) -> State:
    """The packed LoRA (names as of `lora.lora_parameters`) as it is written: `STYLE/NAME`, each style's rank apart."""
    found = {}
    for name, value in packed.items():
        parts = value.detach().to("cpu").chunk(len(styles), dim=1 if name.endswith(UP) else 0)
        found.update({f"{style}/{name}": part.contiguous() for style, part in zip(styles, parts, strict=True)})
    return found


def join(parts: Mapping[str, torch.Tensor], styles: Sequence[str], source: str) -> State:
    """The inverse of `split`; UserError if the file `source` has other styles than `styles`."""
    own = by_style(parts, source)
    if sorted(own) != sorted(styles):
        raise UserError(
            f"LoRA {source}: its decoder's LoRA is of the styles {', '.join(own)}, the pack has {', '.join(styles)}"
        )
    names = dict.fromkeys(name for state in own.values() for name in state)
    missing = [f"{style}/{name}" for style in styles for name in names if name not in own[style]]
    if missing:
        raise UserError(f"LoRA {source}: its decoder's LoRA has no {missing[0]}; every style needs the same layers")
    return {name: torch.cat([own[style][name] for style in styles], dim=1 if name.endswith(UP) else 0) for name in names}


def by_style(parts: Mapping[str, torch.Tensor], source: str) -> dict[str, State]:
    """Style -> the tensors of its LoRA; UserError for names that begin with none."""
    found: dict[str, State] = {}
    for key, value in parts.items():
        style, slash, name = key.partition("/")
        if not slash or not name.endswith((UP, DOWN)):
            raise UserError(f"LoRA {source}: its decoder's LoRA holds {key!r}; expected STYLE/LAYER{DOWN} or {UP}")
        found.setdefault(style, {})[name] = value
    return found


class StyleMask:
    """Makes a decoder with a packed LoRA decode every picture with its own style's part.

    `styles` holds the number of each picture's style in the next batch, until its gradients are computed.
    """

    def __init__(self, decoder: nn.Module, count: int):
        """`decoder` has LoRA layers, whose rank is a multiple of `count`, the number of styles."""
        self.count, self.styles = count, list[int]()
        for _, layer in lora_layers(decoder):
            layer.lora_A[ADAPTER].register_forward_hook(self._own_part)

    def _own_part(self, down: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """What A gives, batch × rank × h × w, or batch × tokens × rank of a linear layer, 0 beyond the picture's style."""
        convolution = isinstance(down, nn.Conv2d)
        rank = output.shape[1 if convolution else -1]
        owners = torch.arange(rank) // (rank // self.count)
        mask = (owners[None, :] == torch.tensor(self.styles)[:, None]).to(device=output.device, dtype=output.dtype)
        return output * (mask[:, :, None, None] if convolution else mask[:, None, :])


class StyleDecoder:
    """Decodes pictures, each with the LoRA of its style merged into the decoder's weights.

    Merging costs a product of two thin matrices a layer and is done when the style changes; a decoder with all styles' ranks
    at once would cost more for every picture.
    """

    def __init__(self, vae: Any, parts: Mapping[str, torch.Tensor], source: str, scale: float = 1.0):
        """`parts` as of `split`; `scale` is how much of them is merged. UserError if they do not fit the `vae`'s decoder."""
        self.vae, self.source, self.scale = vae, source, scale
        self.styles = by_style(parts, source)
        named = vae.decoder.named_modules()
        self.layers = {name: layer for name, layer in named if isinstance(layer, (nn.Conv2d, nn.Linear))}
        for style, state in self.styles.items():
            self._check(style, state)
        self.merged = ""
        self.kept: State = {}

    def _check(self, style: str, state: State) -> None:
        for name in (key.removesuffix(DOWN) for key in state if key.endswith(DOWN)):
            layer, down, up = self.layers.get(name), state[name + DOWN], state.get(name + UP)
            if layer is None:
                problem = f"the model has no layer {name}"
            elif up is None:
                problem = f"{name}{UP} is missing"
            elif (up.shape[0], *down.shape[1:]) != tuple(layer.weight.shape) or up.shape[1] != down.shape[0]:
                problem = f"{name}: {list(up.shape)} by {list(down.shape)}, the model's weight is {list(layer.weight.shape)}"
            else:
                continue
            raise UserError(f"LoRA {self.source} was made for another architecture: decoder, style {style}: {problem}")

    @classmethod
    def taken_from(cls, vae: Any, styles: Sequence[str]) -> StyleDecoder:
        """One of the packed LoRA that was trained on the `vae`'s decoder, whose layers become plain again."""
        parts = split(lora_parameters(vae.decoder), styles)
        for name, layer in lora_layers(vae.decoder):
            parent, _, leaf = name.rpartition(".")
            setattr(vae.decoder.get_submodule(parent), leaf, layer.get_base_layer())
        return cls(vae, parts, "in training")

    def check(self, styles: Sequence[str]) -> None:
        """Raise UserError if one of `styles` has no LoRA here."""
        for style in styles:
            if style not in self.styles:
                raise UserError(
                    f"LoRA {self.source}: its decoder knows the styles {', '.join(self.styles)}, not {style!r}; draw with "
                    f"the pack that it was trained on, or use a copy of the LoRA without its decoder's file"
                )

    def pictures(self, latents: torch.Tensor, styles: Sequence[str]) -> np.ndarray:
        """The pictures of `latents`, as the UNet makes them, batch × c × h × w: float32 batch × height × width × 3 from 0 to
        1, each with the LoRA of its style. UserError for a style that has none.
        """
        self.check(styles)
        found: dict[int, torch.Tensor] = {}
        for style in dict.fromkeys(styles):
            self._merge(style)
            rows = [row for row, own in enumerate(styles) if own == style]
            with torch.no_grad():
                decoded = self.vae.decode(latents[rows] / self.vae.config.scaling_factor).sample
            found.update(zip(rows, (decoded / 2 + 0.5).clamp(0, 1)))
        pixels = torch.stack([found[row] for row in range(len(styles))])
        made: np.ndarray = pixels.to(torch.float32).permute(0, 2, 3, 1).cpu().numpy()
        return made

    def _merge(self, style: str) -> None:
        if style == self.merged:
            return
        state = self.styles[style]
        for name, own in self.kept.items():
            self.layers[name].weight.data = own
        for name in (key.removesuffix(DOWN) for key in state if key.endswith(DOWN)):
            weight = self.layers[name].weight
            # From the base's own weight each time, so that nothing adds up.
            own = self.kept.setdefault(name, weight.data)
            change = state[name + UP].flatten(1) @ state[name + DOWN].flatten(1)
            change = change.reshape(own.shape).to(device=own.device, dtype=torch.float32)
            weight.data = (own.to(torch.float32) + self.scale * change).to(own.dtype)
        self.merged = style
