"""Appearances: changes of a drawing's lines, colours, ground and surface, each with the words that name it.

A base that has only read the names of a few like styles, all flat on white, has nothing for a new style to build on: what
is drawn and how it is drawn are one to it. With appearances it learns them apart, any object in any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from PIL import Image, ImageFilter

from jdiff_style.colours import COLOURS
from jdiff_style.pretrain_augment import LUMA, blurred, in_blocks, to_bytes
from jdiff_style.pretrain_data import choose_template

LINES, TONES = ("lineart", "bold outline", "colored lines"), ("gray", "pale", "two colors")
SURFACES = ("grain", "soft", "hatched", "few colors", "blocks", "soft light", "glow")
# These surfaces go without lines: with them they would come near to styles of packs, which a base is not to have seen.
WITHOUT_LINES = ("blocks", "glow")
PARTS = ("lines", "tone", "inverted", "ground", "surface")
# How often one, two or three of the parts are changed. What one word does is learnt sooner from pictures that nothing else
# was done to, and with more than three changes hardly anything of the object is left to learn from.
CHANGES = (0.6, 0.3, 0.1)
# The share of captions written in each way; {words} name the appearance. A style's word does not stand beside them.
TEMPLATES = ((0.7, "a {words} emoji of {object}"), (0.15, "{words}, {object}"), (0.15, "a {words} emoji"))


@dataclass(frozen=True)
class Appearance:
    """What is changed; an empty text changes nothing. `colours` are of a `tone` of two colours, dark one first; the seed is
    for what chance decides besides.
    """

    lines: str
    tone: str
    colours: tuple[str, str]
    inverted: bool
    ground: str
    surface: str
    seed: int

    @property
    def words(self) -> list[str]:
        """The names of all changes."""
        tone = f"{self.colours[0]} and {self.colours[1]}" if self.tone == "two colors" else self.tone
        ground = f"{self.ground} background" if self.ground else ""
        if self.surface == "glow" and not ground:
            ground = "dark background"
        return [word for word in (self.lines, tone, "inverted" * self.inverted, ground, self.surface) if word]


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """A random appearance with one to three changes."""
    names = list(COLOURS)
    count = 1 + int(rng.choice(len(CHANGES), p=CHANGES))
    changed = {PARTS[i] for i in rng.permutation(len(PARTS))[:count]}

    def choose(part: str, choices: Sequence[str]) -> str:
        choice = choices[int(rng.integers(len(choices)))]
        return choice if part in changed else ""

    lines, surface = choose("lines", LINES), choose("surface", SURFACES)
    one, other = sorted(rng.permutation(len(names))[:2], key=lambda n: float(np.dot(COLOURS[names[n]], LUMA)))
    return Appearance(
        lines="" if surface in WITHOUT_LINES else lines,
        tone=choose("tone", TONES),
        colours=(names[one], names[other]),
        inverted="inverted" in changed,
        ground=choose("ground", names),
        surface=surface,
        seed=int(rng.integers(2**31)),
    )


def change(picture: np.ndarray, appearance: Appearance) -> np.ndarray:
    """A changed copy of `picture`, uint8 side × side × 3."""
    rng = np.random.default_rng(appearance.seed)
    levels = picture.astype(np.float32) / np.float32(255.0)
    if appearance.lines:
        levels = _lines(picture, levels, appearance.lines)
    white = np.clip((levels.min(axis=2, keepdims=True) - 0.8) / 0.2, 0.0, 1.0)
    if appearance.inverted:
        levels = 1.0 - levels
    if appearance.tone:
        levels = _tone(levels, appearance)
    if appearance.ground:
        ground = np.clip(_colour(appearance.ground) + rng.normal(0.0, 0.04, 3).astype(np.float32), 0.0, 1.0)
        levels = levels * (1.0 - white) + ground * white
    if appearance.surface == "glow" and not appearance.ground:
        levels = levels * (1.0 - white) + rng.uniform(0.0, 0.15, 3).astype(np.float32) * white  # nothing shines on white
    if appearance.surface:
        levels = _surface(levels, 1.0 - white, appearance.surface, rng)
    return to_bytes(levels)


def make_caption(words: Sequence[str], word: str, rng: np.random.Generator) -> str:
    """A caption in one of `TEMPLATES`, the words of an appearance in random order."""
    shuffled = ", ".join(words[i] for i in rng.permutation(len(words)))
    return choose_template(TEMPLATES, rng).format(words=shuffled, object=word)


def _colour(name: str) -> np.ndarray:
    return np.array(COLOURS[name], dtype=np.float32) / np.float32(255.0)


def _lines(picture: np.ndarray, levels: np.ndarray, kind: str) -> np.ndarray:
    """Lines where the picture has edges: dark ones alone on white or thicker and over the picture, or in its colours."""
    smooth = Image.fromarray(picture).convert("L").filter(ImageFilter.GaussianBlur(0.8))
    edges = np.array(smooth.filter(ImageFilter.FIND_EDGES))
    edges[[0, -1]], edges[:, [0, -1]] = 0, 0  # the filter leaves the border as it was
    image, bold = Image.fromarray(edges), kind == "bold outline"
    if bold:
        image = image.filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.GaussianBlur(0.6))
    ink = np.clip(np.asarray(image, dtype=np.float32)[:, :, None] / np.float32(255.0) * 4.0, 0.0, 1.0)
    if kind == "colored lines":
        # The darkest nearby: at the rim, where the white begins, it is the object's own colour.
        darkest = Image.fromarray(picture).filter(ImageFilter.MinFilter(5))
        return 1.0 - ink * (1.0 - np.asarray(darkest, dtype=np.float32) / np.float32(255.0))
    return levels * (1.0 - ink) if bold else np.repeat(1.0 - ink, 3, axis=2)


def _tone(levels: np.ndarray, appearance: Appearance) -> np.ndarray:
    grey = (levels @ LUMA)[:, :, None]
    if appearance.tone == "gray":
        return np.repeat(grey, 3, axis=2)
    if appearance.tone == "pale":
        return 0.45 + 0.55 * levels
    dark, light = (_colour(name) for name in appearance.colours)
    return dark + (light - dark) * grey


def _surface(levels: np.ndarray, inside: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    side = len(levels)
    if kind == "grain":
        return levels + rng.normal(0.0, 0.05, (side // 2, side // 2, 1)).repeat(2, axis=0).repeat(2, axis=1)
    if kind == "soft":
        return blurred(levels, 2.0 * side / 128)
    if kind == "hatched":
        angle, period = rng.uniform(0.0, np.pi), rng.uniform(5.0, 9.0)
        ys, xs = np.mgrid[:side, :side]
        wave = np.cos(2 * np.pi / period * (xs * np.cos(angle) + ys * np.sin(angle)))
        return levels + (0.35 * wave * (1.0 - levels @ LUMA))[:, :, None]
    if kind == "blocks":
        return in_blocks(levels, side // int(rng.choice([cells for cells in (16, 32) if side % cells == 0] or [side])))
    if kind == "soft light":
        return _lit(levels, inside)
    if kind == "glow":
        spread = [blurred(levels, sigma * side / 128) for sigma in (2.0, 6.0)]
        return 1.0 - (1.0 - levels) * (1.0 - 0.7 * spread[0]) * (1.0 - 0.7 * spread[1])
    return np.round(levels * 2.0) / 2.0


def _lit(levels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """As if the object were round and lit from above on the left: lighter there, darker below, with a spot that shines."""
    side = len(levels)
    height = blurred(np.repeat(inside, 3, axis=2), 9.0 * side / 128)[:, :, :1]
    slope = (np.gradient(height, axis=0) + np.gradient(height, axis=1)) * side / 128
    light = 7.0 * slope * inside
    lit = levels * (1.0 + np.clip(light, -0.5, 0.0)) + (1.0 - levels) * 0.6 * np.clip(light, 0.0, 1.0)
    spot = np.clip((light - 0.6 * float(light.max())) / max(0.4 * float(light.max()), 1e-6), 0.0, 1.0)
    return lit + (1.0 - lit) * 0.6 * blurred(np.repeat(spot, 3, axis=2), 1.0 * side / 128)
