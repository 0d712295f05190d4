"""The packed LoRA: attaching it, its parameter groups, and its file in diffusers format.

W' = W + (alpha/rank)·B·A with A: rank × in and B: out × rank (Hu et al. 2021, section 4.1). alpha equals the rank, so
the factor is 1 and the file needs no alpha. In peft `lora_A` is the down projection A and `lora_B` the up projection B.
Of a convolution, A is a convolution with the layer's own kernel, stride and padding to rank channels, and B one of 1 × 1
(LoCon; Yeh et al. 2024): W' is the same formula with `in` being input channels × kernel height × width.

The decoder of the VAE may have a LoRA, too, for surfaces that the VAE never met; see `style_decoder`. diffusers' loader
would refuse its keys, so it has a file of its own beside the other, which is read with it.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import nn

from jdiff_style.errors import UserError
from jdiff_style.lora_files import DECODER_FILE, LORA_FILE, decoder_file, lora_file
from jdiff_style.runs import open_to_all

log = logging.getLogger(__name__)

UNET_TARGETS = ["to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_v_proj"]
# Of ResNet blocks, down- and upsamplers, and both ends. Levels without attention have nothing else.
UNET_CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv", "conv_in", "conv_out"]
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj"]
DECODER_TARGETS = ["conv1", "conv2", "conv_shortcut", "conv", "conv_in", "conv_out", "to_q", "to_k", "to_v", "to_out.0"]
ADAPTER = "default"


def attach(module: nn.Module, targets: list[str], rank: int, *, dropout: float = 0.0, dora: bool = False) -> Counter:
    """Give every target layer of `module` (a UNet, a CLIP text encoder or a VAE's decoder) a LoRA of `rank`; freeze
    everything else.

    A is drawn from a normal distribution of deviation 1/rank, B is zero, both float32 whatever the base's type: the
    output is unchanged at the start. Returns how many layers each target name reached. Raises UserError if it reached
    none.
    """
    reached = Counter(
        target
        for name, layer in module.named_modules()
        for target in targets
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and (name == target or name.endswith("." + target))
    )
    if not reached:
        raise UserError(
            f"the base model's {type(module).__name__} has none of the layers {', '.join(targets)}; "
            "it is not an attention model this LoRA fits"
        )
    module.requires_grad_(False)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=dropout,
        init_lora_weights="gaussian",
        target_modules=targets,
        use_dora=dora,
    )
    if hasattr(module, "add_adapter"):
        module.add_adapter(config)
    else:  # a decoder is no model of its own to diffusers
        inject_adapter_in_model(config, module, ADAPTER)
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.to(torch.float32)
    missed = sum(reached.values()) - len(lora_layers(module))
    if missed:
        raise RuntimeError(f"peft left {missed} of {sum(reached.values())} target layers without a LoRA")
    return reached


def unet_targets(layers: str) -> list[str]:
    """The names of the UNet's layers that the recipe's `lora_targets` stands for."""
    return [*UNET_TARGETS, *(UNET_CONVOLUTIONS if layers == "attention+convolutions" else [])]


def lora_layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, layer) of every layer that carries a LoRA, in the module's order."""
    return [
        (name, layer) for name, layer in module.named_modules() if hasattr(layer, "lora_A") and ADAPTER in layer.lora_A
    ]


@contextlib.contextmanager
def switched_off(*modules: nn.Module) -> Iterator[None]:
    """Inside, the modules compute as if they had no LoRA."""
    layers = [layer for module in modules for _, layer in lora_layers(module)]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def b_rate_factor(in_features: int, rank: int, gamma: float) -> float:
    """max(1, gamma·sqrt(in_features/rank)): how much faster B learns than A.

    LoRA+ (Hayou, Ghosh, Yu 2024, section 3) shows that with one rate for both, B learns too slowly as the layer's width
    n grows. n is the input width, the number of columns of A, over which A sums its input: for a cross-attention key it
    is the text width, for `to_out.0` the attention's inner width, for a convolution channels × kernel height × width.
    """
    return max(1.0, gamma * math.sqrt(in_features / rank))


def parameter_groups(modules: dict[str, nn.Module], learning_rate: float, gamma: float) -> list[dict[str, Any]]:
    """Optimiser groups over all LoRA parameters of `modules` (component name -> module).

    One group `A` (and DoRA magnitudes) at `learning_rate`, then one group per distinct B factor, rising, each with
    `params`, `lr`, `base_lr` (before any warm-up), `factor` and `label`. Every trainable parameter is in exactly one
    group.
    """
    slow: list[nn.Parameter] = []
    fast: dict[float, list[nn.Parameter]] = {}
    widths: dict[tuple[str, int, float], int] = {}
    for component, module in modules.items():
        for _, layer in lora_layers(module):
            down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
            rank, width = down.shape[0], down[0].numel()
            factor = b_rate_factor(width, rank, gamma)
            slow.append(down)
            fast.setdefault(factor, []).append(up)
            key = (component, width, factor)
            widths[key] = widths.get(key, 0) + 1
            magnitude = getattr(layer, "lora_magnitude_vector", None)
            if magnitude is not None and ADAPTER in magnitude:
                slow.append(magnitude[ADAPTER])
    for (component, width, factor), count in sorted(widths.items()):
        log.info("lora_B of %d %s layers of input width %d: rate x %.4f", count, component, width, factor)
    groups: list[dict[str, Any]] = [{"label": "A", "factor": 1.0, "params": slow}]
    groups += [{"label": f"B x{factor:.4f}", "factor": factor, "params": fast[factor]} for factor in sorted(fast)]
    for group in groups:
        group["lr"] = group["base_lr"] = learning_rate * group["factor"]
    return groups


def lora_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The LoRA parameters of `module` under peft's file names, without the adapter: `….to_q.lora_A.weight`."""
    return {name.replace(f".{ADAPTER}", ""): p for name, p in module.named_parameters() if ".lora_" in name}


def save_lora(
    folder: Path,
    unet: nn.Module,
    text_encoder: Optional[nn.Module] = None,
    decoder: Optional[Mapping[str, torch.Tensor]] = None,
) -> Path:
    """Write `pytorch_lora_weights.safetensors` in diffusers format into `folder` and return its path; with the tensors of a
    `decoder` from `style_decoder.split`, `decoder_lora.safetensors`, too.

    diffusers 0.27 reads a text encoder's rank from its `out_proj` layers and fails without them, so those are written
    as zeros where they are not trained: nothing changes in the result and its own `load_lora_weights` accepts the file.
    """
    text_layers = None
    if text_encoder is not None and lora_layers(text_encoder):
        text_layers = convert_state_dict_to_diffusers(_with_zero_out_proj(text_encoder))
    StableDiffusionPipeline.save_lora_weights(
        str(folder),
        unet_lora_layers=convert_state_dict_to_diffusers(_cpu_state(unet)),
        text_encoder_lora_layers=text_layers,
    )
    open_to_all(folder / LORA_FILE)
    if decoder is not None:
        save_file(dict(decoder), str(folder / DECODER_FILE))
        open_to_all(folder / DECODER_FILE)
    return folder / LORA_FILE


def _cpu_state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().to("cpu").contiguous() for key, value in lora_parameters(module).items()}


def _with_zero_out_proj(text_encoder: nn.Module) -> dict[str, torch.Tensor]:
    state = _cpu_state(text_encoder)
    modules = dict(text_encoder.named_modules())
    for name, layer in lora_layers(text_encoder):
        out_proj = name.rsplit(".", 1)[0] + ".out_proj"
        if out_proj in modules and f"{out_proj}.lora_A.weight" not in state:
            rank = layer.lora_A[ADAPTER].weight.shape[0]
            weight = modules[out_proj].weight
            state[f"{out_proj}.lora_A.weight"] = torch.zeros(rank, weight.shape[1])
            state[f"{out_proj}.lora_B.weight"] = torch.zeros(weight.shape[0], rank)
    return state


def read_lora(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """`{"unet": …, "text_encoder": …, "decoder": …}` with peft's key names from a LoRA file in diffusers format, or its
    folder; what the LoRA has not is empty. The decoder's are those of its styles, as `style_decoder.split` has them.

    Raises UserError if the file is missing, damaged or not such a LoRA.
    """
    file = lora_file(path)
    parts: dict[str, dict[str, torch.Tensor]] = {"unet": {}, "text_encoder": {}}
    for key, value in _read_file(file).items():
        component, _, rest = key.partition(".")
        if component not in parts or ".lora" not in rest:
            raise UserError(
                f"LoRA: {file} is not in diffusers format (key {key!r}); expected unet.… and text_encoder.…"
            )
        parts[component][rest] = value
    parts["unet"] = convert_unet_state_dict_to_peft(parts["unet"])
    if any("lora_linear_layer" in key for key in parts["text_encoder"]):
        parts["text_encoder"] = convert_state_dict_to_peft(parts["text_encoder"])
    return {**parts, "decoder": read_decoder(path)}


def read_decoder(path: Path) -> dict[str, torch.Tensor]:
    """The decoder's part of `read_lora` alone."""
    beside = decoder_file(lora_file(path))
    return _read_file(beside) if beside is not None else {}


def _read_file(file: Path) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise UserError(f"LoRA: {file} does not exist")
    try:
        tensors: dict[str, torch.Tensor] = load_file(str(file))
    except Exception as error:  # safetensors raises its own type, OSError or ValueError, depending on the damage
        raise UserError(f"LoRA: {file} is damaged or not a safetensors file ({error})") from None
    return tensors


def copy_into(modules: dict[str, nn.Module], parts: dict[str, dict[str, torch.Tensor]], source: str) -> None:
    """Copy LoRA tensors into the LoRA layers attached to `modules`, exactly.

    Raises UserError, before anything is changed, if names or shapes differ, listing the first differing keys. Zero
    `out_proj` tensors that `save_lora` added for diffusers are not asked of the modules.
    """
    problems: list[str] = []
    plan: list[tuple[torch.Tensor, torch.Tensor]] = []
    for component in sorted(set(modules) | set(parts)):
        given = parts.get(component, {})
        wanted = lora_parameters(modules[component]) if component in modules else {}
        for key in sorted(set(given) | set(wanted)):
            if key not in wanted:
                if not (".out_proj." in key and not bool(given[key].any())):
                    problems.append(f"{component}.{key}: not in the model")
            elif key not in given:
                problems.append(f"{component}.{key}: not in the file")
            elif tuple(given[key].shape) != tuple(wanted[key].shape):
                problems.append(
                    f"{component}.{key}: {list(given[key].shape)} in the file, {list(wanted[key].shape)} in the model"
                )
            else:
                plan.append((wanted[key], given[key]))
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"LoRA {source} was made for another architecture, rank or set of layers: {'; '.join(problems[:3])}{more}"
        )
    with torch.no_grad():
        for target, value in plan:
            target.copy_(value)


def load_lora(pipeline: StableDiffusionPipeline, path: Path) -> int:
    """Attach the LoRA of a file or run folder to `pipeline`'s UNet and text encoder and return its packed rank. That of a
    decoder is for a `style_decoder.StyleDecoder`.

    Reads what `save_lora` wrote, DoRA included (which diffusers 0.27's own loader would read as plain LoRA). Raises
    UserError, leaving the pipeline unchanged, for a LoRA of another architecture.
    """
    parts = {name: state for name, state in read_lora(path).items() if name != "decoder" and state}
    modules = {name: getattr(pipeline, name) for name in parts}
    rank = _check_fit(modules, parts, str(path))
    for name, module in modules.items():
        state = parts[name]
        used = {key: value for key, value in state.items() if not (".out_proj." in key and not bool(value.any()))}
        targets = sorted({key.split(".lora_")[0] for key in used})
        attach(module, targets, rank, dora=any("lora_magnitude_vector" in key for key in used))
        module.eval()
    copy_into(modules, parts, str(path))
    return rank


def _check_fit(modules: dict[str, nn.Module], parts: dict[str, dict[str, torch.Tensor]], source: str) -> int:
    """The LoRA's packed rank; UserError listing the first keys that do not fit the layers of `modules`."""
    ranks: set[int] = set()
    problems: list[str] = []
    for component, module in modules.items():
        layers = dict(module.named_modules())
        for key, value in parts[component].items():
            name, _, kind = key.partition(".lora_")
            weight = getattr(layers.get(name), "weight", None)
            if weight is None:
                problems.append(f"{component}.{key}: the model has no layer {name}")
            elif kind.startswith("A"):
                ranks.add(value.shape[0])
                if value.shape[1:] != weight.shape[1:]:
                    problems.append(f"{component}.{key}: input {_sizes(value)}, the model's is {_sizes(weight)}")
            elif kind.startswith("B") and (value.shape[0] != weight.shape[0] or value.dim() != weight.dim()):
                problems.append(f"{component}.{key}: output width {value.shape[0]}, the model's is {weight.shape[0]}")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"LoRA {source} was made for another architecture: {'; '.join(problems[:3])}{more}")
    if len(ranks) != 1:
        raise UserError(
            f"LoRA {source}: layers of different rank ({sorted(ranks)}) are not supported; use diffusers' loader"
        )
    return ranks.pop()


def _sizes(weight: torch.Tensor) -> str:
    """`width 64`, or `width 64, kernel 3 x 3` of a convolution's weight."""
    kernel = f", kernel {weight.shape[2]} x {weight.shape[3]}" if weight.dim() == 4 else ""
    return f"width {weight.shape[1]}{kernel}"
