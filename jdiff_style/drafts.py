"""Drafts: an object drawn in a style that the model knows, to be drawn again in another.

A small model has no memory of an object in a style that it learnt from three pictures of others; but what it needs is all
there, in a picture of the object as it does know it. So that picture is made noisy and denoised under the new style's
caption (SDEdit; Meng et al. 2022). To a model that was never taught so, noise of much strength hides the draft and noise of
little strength leaves its looks as they are. Hence the training here: noisy drafts go in, true pictures are to come out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np

from jdiff_style.generate import SamplingOptions, load_pipeline, noise_seed
from jdiff_style.prompts import draft_template, draft_text

if TYPE_CHECKING:
    import torch

    from jdiff_style.dataset import TrainingData
    from jdiff_style.packs import Style
    from jdiff_style.recipe import Recipe

# Drafts are made noisy to this timestep or beyond. What comes before it sees what a draft of this one became on the way:
# DDIM takes what is left of the draft for noise, and that noise stays the same to the end.
FIRST_TIMESTEP = 250
BATCH = 8


def noise_with_drafts(
    noise: torch.Tensor,
    clean: torch.Tensor,
    drafts: torch.Tensor,
    shares: torch.Tensor,
    timesteps: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    first: int = FIRST_TIMESTEP,
) -> torch.Tensor:
    """The noise with which `clean` becomes what `noise` would make of a draft.

    With a = sqrt(alpha_cumprod) and s = sqrt(1 - alpha_cumprod), a draft d made noisy is a·d + s·n = a·z + s·n' for
    n' = n + (a/s)·(d - z): as if the clean latents z had met the noise n', which is then what a model of noise or velocity
    is to predict, under the plain loss. `noise`, `clean` and `drafts` are batch × c × h × w. `shares`, (batch,), mixes: 1 is
    the draft, 0 the clean latents, and between them is what denoising passes through on its way. Below `first`, a/s is that
    of `first`.
    """
    alphas = alphas_cumprod.to(noise.device)[timesteps.clamp(min=first)]
    ratio = (alphas / (1.0 - alphas)).sqrt() * shares.to(noise.device)
    return noise + ratio.view(-1, 1, 1, 1) * (drafts - clean)


def draft_timesteps(timesteps: torch.Tensor, shares: torch.Tensor, limit: int) -> torch.Tensor:
    """`timesteps`, int64 (batch,), spread below `limit` instead of below 1000 where there is a share of a draft."""
    return timesteps.where(shares.to(timesteps.device) == 0, timesteps * limit // 1000)


class Drafter:
    """Draws drafts with a base alone, each prompt once: the same object is asked for in many styles."""

    def __init__(self, pipeline: Any, options: SamplingOptions):
        """`pipeline` is a StableDiffusionPipeline without LoRA; of the options, steps, guidance of drafts, seed and size are
        used.
        """
        self.pipeline, self.options = pipeline, options
        self.guidance = options.guidance if options.draft_guidance is None else options.draft_guidance
        pipeline.set_progress_bar_config(disable=True)
        self.kept: dict[str, torch.Tensor] = {}

    def latents(self, prompts: Sequence[str]) -> torch.Tensor:
        """float32 prompts × c × h × w, as the UNet takes them. A draft's noise follows from the seed and its prompt."""
        import torch

        new = [text for text in dict.fromkeys(prompts) if text not in self.kept]
        for first in range(0, len(new), BATCH):
            part = new[first : first + BATCH]
            with torch.no_grad():
                drawn = self.pipeline(
                    part,
                    num_inference_steps=self.options.steps,
                    guidance_scale=self.guidance,
                    height=self.options.height,
                    width=self.options.width,
                    generator=[torch.Generator().manual_seed(noise_seed(self.options.seed, "", text)) for text in part],
                    output_type="latent",
                ).images
            self.kept.update(zip(part, drawn.to(torch.float32)))
        return torch.stack([self.kept[text] for text in prompts])


def colour_distance(pictures: np.ndarray, others: np.ndarray) -> float:
    """How far the colours of pictures are from those of others: the mean over pairs and channels of the Wasserstein-1
    distance of their values, as a share of the range. Shapes do not count: values are compared in order of size, not in
    place. Both are pictures × channels × height × width in [-1, 1].
    """
    ordered = [np.sort(np.clip(side, -1, 1).reshape(*side.shape[:2], -1), axis=-1) for side in (pictures, others)]
    return float(np.abs(ordered[0] - ordered[1]).mean() / 2)


def strengths_of_styles(vae: Any, drafts: torch.Tensor, data: TrainingData, most: float) -> dict[str, float]:
    """For each style's id how much noise its drafts need: as much as its pictures' colours are away from theirs, `most` at
    most. A style near to that of the drafts then keeps their shapes, where more noise would only blur them.

    `drafts` are latents as the UNet takes them, one for each picture of `data`.
    """
    import torch

    found: dict[str, list[float]] = {}
    for number, (style, _) in enumerate(data.records):
        with torch.no_grad():
            drawn = vae.decode(drafts[number : number + 1].to(vae.device) / vae.config.scaling_factor).sample
        found.setdefault(style.id, []).append(colour_distance(drawn.cpu().numpy(), data.pixels(number, flipped=False)[None]))
    return {style: min(most, max(0.001, round(sum(own) / len(own), 3))) for style, own in found.items()}


def recipe_sampling(recipe: Recipe, strengths: Mapping[str, float]) -> SamplingOptions:
    """How a recipe's own pictures are drawn, with the strengths of its run's styles."""
    return SamplingOptions(
        steps=recipe.grid_steps,
        guidance=recipe.grid_guidance,
        seed=recipe.seed,
        height=recipe.resolution,
        width=recipe.resolution,
        draft_strength=recipe.draft_strength,
        draft_strengths=strengths,
        draft_guidance=recipe.draft_guidance,
    )


def draft_prompt(recipe: Recipe, style: Style, word: str) -> str:
    """What a recipe with drafts asks for in a style; see `prompts.draft_text`."""
    return draft_text(style, word, str(recipe.draft_template), recipe.draft_templates or {})


def describe_drafts(recipe: Recipe, styles: Sequence[Style]) -> list[str]:
    """What `draft_templates` of a recipe does to these styles, a line for each that has a tag in it and for each tag that
    none has.
    """
    by_tag = recipe.draft_templates or {}
    lines = []
    for style in styles:
        template = draft_template(style, "", by_tag)
        if template:
            lines.append(f"drafts of style {style.id}: {template}")
    missing = [tag for tag in by_tag if not any(draft_template(style, "", {tag: "x"}) for style in styles)]
    return lines + [f"draft_templates: no style of the pack has the tag {tag!r}" for tag in missing]


def load_drafter(base: Path, options: SamplingOptions, device: str = "cpu", dtype: str = "float32") -> Drafter:
    """A drafter on the base as it is. It takes the memory of a second model; see `load_pipeline` for errors."""
    return Drafter(load_pipeline(base, None, options, device, dtype), options)
