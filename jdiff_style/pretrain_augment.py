"""Random changes of a picture's colours, background, size and texture, so that an autoencoder meets more than flat drawings.

The training styles are flat colours on white. Pictures in other styles (dark grounds, thin lines, grain, blocks) are
drawn later through the same autoencoder; these changes stand in for them without showing it any.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

# How often each kind of change is made to a picture that is changed at all.
ZOOM, COLOURS, OUTLINE, GROUND, TEXTURE = 0.5, 0.6, 0.2, 0.4, 0.6
SMALLEST, LARGEST = 0.7, 1.3
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def alter(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A changed copy of `picture`, uint8 side × side × 3; which changes are made follows from `rng` alone."""
    if rng.random() < ZOOM:
        picture = _zoom(picture, float(rng.uniform(SMALLEST, LARGEST)))
    levels = picture.astype(np.float32) / np.float32(255.0)
    if rng.random() < OUTLINE:
        levels = _outline(picture)
    if rng.random() < GROUND:
        levels = _ground(levels, rng.random(3).astype(np.float32))
    if rng.random() < COLOURS:
        levels = _colours(levels, rng)
    if rng.random() < TEXTURE:
        levels = _texture(levels, rng)
    return to_bytes(levels)


def to_bytes(levels: np.ndarray) -> np.ndarray:
    """Levels from 0 to 1 as uint8; what lies beyond is clipped."""
    return np.round(np.clip(levels, 0.0, 1.0) * 255.0).astype(np.uint8)


def blurred(levels: np.ndarray, sigma: float) -> np.ndarray:
    """Levels after a Gaussian blur of so many px, in steps of 1/255."""
    soft = Image.fromarray(to_bytes(levels)).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(soft, dtype=np.float32) / np.float32(255.0)


def in_blocks(levels: np.ndarray, block: int) -> np.ndarray:
    """Squares of `block` px, which divides the side, each in its mean colour."""
    cells = len(levels) // block
    means = levels.reshape(cells, block, cells, block, 3).mean(axis=(1, 3))
    return means.repeat(block, axis=0).repeat(block, axis=1)


def _zoom(picture: np.ndarray, factor: float) -> np.ndarray:
    """Larger or smaller about the centre; what comes in from outside has the colour of the first corner."""
    side = len(picture)
    start, step = side / 2 * (1 - 1 / factor), 1 / factor
    corner = tuple(int(level) for level in picture[0, 0])
    moved = Image.fromarray(picture).transform(
        (side, side), Image.Transform.AFFINE, (step, 0, start, 0, step, start), Image.Resampling.BILINEAR, fillcolor=corner
    )
    return np.asarray(moved)


def _outline(picture: np.ndarray) -> np.ndarray:
    """Dark lines on white where the picture has edges."""
    image = Image.fromarray(picture).convert("L").filter(ImageFilter.GaussianBlur(0.6)).filter(ImageFilter.FIND_EDGES)
    edges = np.asarray(image, dtype=np.float32) / np.float32(255.0)
    edges[[0, -1]], edges[:, [0, -1]] = 0.0, 0.0  # the filter leaves the border as it was
    return np.repeat(1.0 - np.clip(2.5 * edges, 0.0, 1.0)[:, :, None], 3, axis=2)


def _ground(levels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """White gives way to `colour`, what is nearly white in part."""
    share = np.clip((levels.min(axis=2, keepdims=True) - 0.8) / 0.2, 0.0, 1.0)
    return levels * (1.0 - share) + colour * share


def _colours(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Negative, other order of the channels, no colour, or other brightness, contrast and saturation."""
    kind = int(rng.integers(4))
    if kind == 0:
        return 1.0 - levels
    if kind == 1:
        return levels[:, :, rng.permutation(3)]
    grey = np.repeat((levels @ LUMA)[:, :, None], 3, axis=2)
    if kind == 2:
        return grey
    saturation, contrast, shift = rng.uniform(0.3, 1.7), rng.uniform(0.6, 1.4), rng.uniform(-0.25, 0.25)
    return ((grey + (levels - grey) * saturation) - 0.5) * contrast + 0.5 + shift


def _texture(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grain, blur, hatching of the darker parts, or square blocks."""
    side, kind = len(levels), int(rng.integers(4))
    if kind == 0:
        return levels + rng.normal(0.0, rng.uniform(0.01, 0.04), (side, side, int(rng.choice((1, 3)))))
    if kind == 1:
        return blurred(levels, float(rng.uniform(0.5, 2.0)))
    if kind == 2:
        angle, period = rng.uniform(0.0, np.pi), rng.uniform(3.0, 9.0)
        ys, xs = np.mgrid[:side, :side]
        wave = 0.5 + 0.5 * np.cos(2 * np.pi / period * (xs * np.cos(angle) + ys * np.sin(angle)))
        depth = (1.0 - levels @ LUMA) * rng.uniform(0.3, 1.0)
        return levels + (wave * depth)[:, :, None]
    return in_blocks(levels, int(rng.choice([size for size in (2, 4, 8) if side % size == 0] or [1])))
