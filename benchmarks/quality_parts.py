"""The figures of the models by themselves: autoencoder, small CLIP, base model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL

from benchmarks.quality_measures import Figure, ranks, share_within
from benchmarks.quality_networks import Networks, read_all
from benchmarks.quality_pictures import draw_all
from jdiff_style.captions import object_words
from jdiff_style.errors import UserError
from jdiff_style.generate import SamplingOptions, choose_device
from jdiff_style.hashes import check_sums
from jdiff_style.pretrain_base import WORDS_FILE
from jdiff_style.pretrain_data import (
    IMAGES_FILE,
    METADATA_FILE,
    OTHER_STYLES,
    evenly,
    plain_caption,
    read_pictures,
    to_pictures,
    to_pixels,
)
from jdiff_style.pretrain_vae import psnr
from jdiff_style.progress import Progress
from jdiff_style.prompts import Prompt

BATCH = 16
Figures = dict[str, Figure]


@dataclass(frozen=True)
class Settings:
    """What is measured, and with how much.

    Attributes:
        base, clip, data, pack, recipe, tiny_recipe: folders and files; `pack` None takes the recipe's.
        out: where runs, pictures and features are kept.
        device: as of `jdiff generate`.
        seeds: of the training runs and their pictures.
        words: how many training words of the base and of the CLIP are looked at.
        limit: of each style, at most so many of the true pictures and of the pack's words; 0 for all.
        style: the base's own style that its pictures are drawn in.
        steps, guidance: of the base's pictures; those of a LoRA follow its recipe.
    """

    base: Path
    clip: Path
    data: Path
    pack: Path | None
    recipe: Path
    tiny_recipe: Path
    out: Path
    device: str = "auto"
    seeds: tuple[int, ...] = (0, 1, 2)
    words: int = 200
    limit: int = 0
    style: str = "noto"
    steps: int = 20
    guidance: float = 3.0


@dataclass(frozen=True)
class TruePictures:
    """True pictures of one data file: `images` uint8 N × side × side × 3 and a row of its description for each."""

    images: np.ndarray
    rows: list[dict[str, Any]]

    def where(self, **wanted: Any) -> np.ndarray:
        """Numbers of the pictures whose rows have these values."""
        return np.flatnonzero([all(row[key] == value for key, value in wanted.items()) for row in self.rows])

    def objects(self, numbers: Sequence[int]) -> list[str]:
        """What these pictures show, spelt as in captions."""
        return [self.rows[number]["object"] for number in numbers]


def true_pictures(settings: Settings, other_styles: bool = False) -> TruePictures:
    """The pictures that the base was trained on with those held out, or those of the styles that it never saw."""
    names = OTHER_STYLES if other_styles else (IMAGES_FILE, METADATA_FILE)
    images, items = read_pictures(settings.data, *names)
    lines = (settings.data / names[1]).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) | {"object": item.object} for line, item in zip(lines, items, strict=True)]
    return TruePictures(images, rows)


def measure_vae(settings: Settings, networks: Networks) -> Figures:
    """Reconstruction of pictures of objects that were held out, each in every base style, and in styles never seen."""
    known, others = true_pictures(settings), true_pictures(settings, other_styles=True)
    found = {}
    for name, data in (("known", known), ("other", others)):
        for style in dict.fromkeys(row["style"] for row in data.rows):
            numbers = data.where(style=style, split="held_out")
            numbers = numbers[evenly(len(numbers), settings.limit or len(numbers))]
            true = [np.asarray(data.images[number]) for number in numbers]
            found[name, style] = [psnr(*pair) for pair in zip(true, reconstruct(settings, true, f"reconstructing {style}"))]
    return {
        "psnr_held_out": _mean_figure("autoencoder: PSNR on held-out objects", found, "known", 26.0),
        "psnr_other_styles": _mean_figure("the same in styles it never saw", found, "other", None),
    }


def _mean_figure(text: str, found: dict[tuple[str, str], list[float]], kind: str, goal: float | None) -> Figure:
    parts = {style: values for (group, style), values in found.items() if group == kind and values}
    values = [value for own in parts.values() for value in own]
    if not values:
        return Figure(text, None, goal, unit="dB", why="the data hold out no picture")
    details = {"pictures": len(values), "per_style": {style: float(np.mean(own)) for style, own in parts.items()}}
    return Figure(text, float(np.mean(values)), goal, unit="dB", details=details)


def reconstruct(settings: Settings, pictures: Sequence[np.ndarray], title: str = "reconstructing") -> list[np.ndarray]:
    """Pictures encoded and decoded by the base's autoencoder, uint8 side × side × 3 as they came."""
    vae, device = _autoencoder(settings.base), choose_device(settings.device)
    vae = vae.to(torch.float32).to(device).eval()
    found: list[np.ndarray] = []
    progress = Progress(title, len(pictures))
    for first in range(0, len(pictures), BATCH):
        part = np.stack(pictures[first : first + BATCH])
        with torch.no_grad():
            latents = vae.encode(torch.from_numpy(to_pixels(part)).to(device)).latent_dist.mean
            found += list(to_pictures(vae.decode(latents).sample.cpu().numpy()))
        progress.update(len(found))
    progress.close()
    return found


def _autoencoder(base: Path) -> Any:
    check_sums(base, "--base")
    try:
        return AutoencoderKL.from_pretrained(str(base / "vae"), local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"--base: {base / 'vae'} cannot be loaded ({error}); give an exported base") from None


def measure_clip(settings: Settings, networks: Networks) -> Figures:
    """Among the names of all objects, is that of a true picture one of the five nearest?"""
    known, others = true_pictures(settings), true_pictures(settings, other_styles=True)
    names = list(dict.fromkeys(known.objects(range(len(known.rows)))))
    texts = networks.clip_texts(names)

    def figure(text: str, data: TruePictures, split: str, goal: float | None) -> Figure:
        numbers = np.array([n for n in data.where(split=split) if data.rows[n]["object"] in names], dtype=np.int64)
        numbers = numbers[evenly(len(numbers), settings.words)]
        if not len(numbers):
            return Figure(text, None, goal, why="the data hold no such picture")
        vectors = networks.clip_images([data.images[n] for n in numbers])
        places = ranks(vectors, texts, [names.index(word) for word in data.objects(numbers)])
        details = {"top1": share_within(places, 1), "pictures": len(numbers), "candidates": len(names)}
        return Figure(text, share_within(places, 5), goal, details=details)

    return {
        "top5_training": figure("small CLIP: top 5, training objects", known, "train", 0.8),
        "top5_held_out": figure("the same, held-out objects", known, "held_out", None),
        "top5_other_styles": figure("the same, training objects in styles it never saw", others, "train", None),
    }


def measure_base(settings: Settings, networks: Networks) -> Figures:
    """Pictures drawn in one of the base's own styles: is the nearest true picture of that style that of the word?"""
    data = true_pictures(settings)
    numbers = data.where(style=settings.style)
    if not len(numbers):
        raise UserError(f"--style: {settings.style!r} is no style of {settings.data}")
    objects = data.objects(numbers)
    try:
        known = set((settings.base / WORDS_FILE).read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise UserError(
            f"--base: {settings.base / WORDS_FILE} says what it was trained on, and cannot be read ({error.strerror}); "
            f"export the base again with `jdiff export`"
        ) from None
    candidates, _ = networks.look([data.images[n] for n in numbers], f"true pictures, {settings.style}")
    texts = networks.clip_texts(objects)
    figures: Figures = {}
    goals: dict[str, tuple[str, dict[str, float]]] = {
        "train": ("training", {"top1": 0.5, "top5": 0.7, "clip_top5": 0.8}),
        "held_out": ("held-out", {}),
    }
    for split, (kind, goal) in goals.items():
        words = data.objects(data.where(style=settings.style, split=split))
        if split == "train":
            words = [word for word in words if word in known]
        words = [words[n] for n in evenly(len(words), settings.words)]
        if not words:
            continue
        drawn = draw_words(settings, words, seed=settings.seeds[0])
        features, _ = networks.look(drawn, f"drawn, {kind} words")
        right = [objects.index(word) for word in words]
        near = ranks(features, candidates, right)
        named = ranks(networks.clip_images(drawn), texts, right)
        details = {"pictures": len(words), "candidates": len(objects)}
        for name, text, value in (
            ("top1", "nearest true picture is that of the word", share_within(near, 1)),
            ("top5", "among the five nearest", share_within(near, 5)),
            ("clip_top5", "small CLIP: word among the five nearest", share_within(named, 5)),
        ):
            key = name if split == "train" else f"{name}_held_out"
            figures[key] = Figure(f"base, {kind} words: {text}", value, goal.get(name), details=details)
    return figures


def draw_words(settings: Settings, words: Sequence[str], seed: int) -> list[np.ndarray]:
    """The base's pictures of words in its own style."""
    prompts = [Prompt(settings.style, word, object_words(word), plain_caption(settings.style, object_words(word)))
               for word in words]  # fmt: skip
    options = SamplingOptions(steps=settings.steps, guidance=settings.guidance, seed=seed)
    files = draw_all(settings.base, None, prompts, options, settings.out / "pictures", settings.style, settings.device)
    return read_all(files[prompt.style, prompt.word] for prompt in prompts)
