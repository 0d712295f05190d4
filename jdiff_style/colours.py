"""Colours by name."""

from __future__ import annotations

import numpy as np

COLOURS = {
    "black": (15, 15, 20),
    "white": (250, 250, 250),
    "gray": (128, 128, 128),
    "red": (215, 50, 45),
    "orange": (240, 140, 40),
    "yellow": (250, 215, 70),
    "ochre": (200, 155, 80),
    "brown": (115, 75, 45),
    "green": (70, 160, 75),
    "blue": (50, 100, 200),
    "purple": (125, 70, 175),
    "pink": (240, 135, 180),
}


def main_colours(picture: np.ndarray) -> list[str]:
    """The names of the two colours that most of `picture`, uint8 side × side × 3, is nearest to, the first one first."""
    names = list(COLOURS)
    apart = picture[:, :, None].astype(np.float32) - np.array([COLOURS[name] for name in names], dtype=np.float32)
    counts = np.bincount(np.argmin((apart**2).sum(axis=-1), axis=-1).ravel(), minlength=len(names))
    return [names[place] for place in np.argsort(-counts, kind="stable")[:2]]
