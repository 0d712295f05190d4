"""Drift: how far training moved what the base model draws when no style is asked for."""

from __future__ import annotations

from eval.metrics.base import PerPicture, Picture
from eval.metrics.dino import unit


class Drift(PerPicture):
    """1 − DINO cosine between the base model's picture and the tuned model's, same prompt and seed, no trigger.

    Mean over the pictures of each subfolder, then over subfolders; 0 where training changed nothing. The pictures come as
    two folders with the same file names (``--drift``); a picture's key is (its subfolder, its file name).
    """

    name, title, direction = "drift", "Drift", "less"
    range = (0.0, 2.0)
    needs = ("dino", "dino_base")
    reference_features = False
    shared = False

    def score(self, picture: Picture) -> float:
        return max(0.0, 1.0 - float(unit(picture.features["dino"]) @ unit(picture.features["dino_base"])))
