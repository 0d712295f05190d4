"""Resizing as the networks' first users did it: the kernels decide the last digit of a score.

- :func:`tf1_bilinear`: what Inception saw when FID was defined, and what torchmetrics did up to 1.7.
- :func:`antialiased_bilinear`: what torchmetrics' FID does by default since 1.8.

LPIPS, DINOv2, CLIP and EfficientNet get pictures resized by Pillow: ``eval/preprocess.py``.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def tf1_bilinear(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear as TensorFlow 1's ``resize_bilinear`` without ``align_corners``: pixel i lies at i, not at i + 1/2.

    Nothing is averaged when shrinking, and the picture moves by up to half a pixel. Source: tensorflow 1.15
    ``resize_bilinear_op.cc``; equal to torch-fidelity's ``interpolate_bilinear_2d_like_tensorflow1x``, its positions
    in float32 included.

    Args:
        images: ``(batch, channels, height, width)`` float32.
        size: (height, width) wanted.

    Returns:
        ``(batch, channels, *size)`` float32.
    """
    rows, columns = (_positions(n, out) for n, out in zip(images.shape[2:], size))
    for axis, (low, high, weight) in ((3, columns), (2, rows)):
        shape = [1, 1, 1, 1]
        shape[axis] = len(weight)
        first = images.index_select(axis, torch.from_numpy(low).to(images.device))
        second = images.index_select(axis, torch.from_numpy(high).to(images.device))
        images = first + (second - first) * torch.from_numpy(weight).to(images.device).reshape(shape)
    return images


def _positions(n: int, out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``out`` pixels its two neighbours among ``n`` (int64) and the second one's weight (float32)."""
    at = np.arange(out, dtype=np.float32) * np.float32(n / out)
    low = at.astype(np.int64)
    return low, np.minimum(low + 1, n - 1), at - low.astype(np.float32)


def antialiased_bilinear(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with half-pixel centres whose triangle widens when shrinking, as ``F.interpolate(antialias=True)``.

    Args:
        images: ``(batch, channels, height, width)`` float32.
        size: (height, width) wanted.

    Returns:
        ``(batch, channels, *size)`` float32.
    """
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
