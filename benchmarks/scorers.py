"""Other people's metrics in the reference environment: makes them importable, for benchmarks/scoring.py and tests/golden."""

from __future__ import annotations

import sys
from pathlib import Path

import torch


def find_scorers() -> None:
    """Put ``.venv-reference/scorers`` on the path and make torchvision importable beside the CPU build of PyTorch.

    torchvision's wheel is built against the CUDA build. Its compiled operators cannot be loaded beside the CPU build, and
    its Python part only asks that two of them be known by name; the models use neither.
    """
    folder = str(Path(sys.prefix) / "scorers")
    if folder in sys.path:
        return
    sys.path.append(folder)
    if not torch.cuda.is_available() and torch.version.cuda is None:
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
