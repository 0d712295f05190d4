"""Distances between two sets of feature vectors: Fréchet (FID) and kernel (KID). Everything in float64, with NumPy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½, the squared Fréchet distance of two normal distributions.

    GANs Trained by a Two Time-Scale Update Rule (arXiv 1706.08500), equation 6. The last trace is the sum of the roots
    of the eigenvalues of Σ₁Σ₂, as in torchmetrics; these are found as those of the symmetric Σ₁^½ Σ₂ Σ₁^½, which is
    several times faster and never gives complex numbers.

    Args:
        mu1: mean of the first set, ``(width,)``.
        sigma1: its covariance, ``(width, width)``.
        mu2: likewise of the second.
        sigma2: likewise.

    Returns:
        0 or more, up to rounding; singular covariances are fine.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """
    mu1, mu2, sigma1, sigma2 = (np.asarray(value, np.float64) for value in (mu1, mu2, sigma1, sigma2))
    width = len(mu1)
    for name, value, shape in (("mu2", mu2, (width,)), ("sigma1", sigma1, (width,) * 2), ("sigma2", sigma2, (width,) * 2)):
        if value.shape != shape:
            raise ValueError(f"{name}: shape {shape} is needed, not {value.shape}")
    if not all(np.isfinite(value).all() for value in (mu1, sigma1, mu2, sigma2)):
        raise ValueError("some moments are not finite")
    values, vectors = np.linalg.eigh(sigma1)
    root = vectors * np.sqrt(np.maximum(values, 0))
    product = root.T @ sigma2 @ root
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
    cross = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * cross)


def kernel_inception_distance(
    features_a: ArrayLike, features_b: ArrayLike, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """KID: squared maximum mean discrepancy under (x·y / width + 1)³, averaged over random subsets.

    Demystifying MMD GANs (arXiv 1801.01401), section 4. As torchmetrics' ``KernelInceptionDistance``: the same subsets
    after ``torch.manual_seed(seed)`` with ``features_a`` as the real ones, the same estimator. Fair to small sets, unlike
    the Fréchet distance; may be slightly negative.

    Args:
        features_a: ``(count, width)``.
        features_b: ``(count, width)``.
        subsets: how many subsets are drawn.
        subset_size: vectors in each, of either set.
        seed: of the drawing.

    Returns:
        Mean and (population) standard deviation over the subsets.

    Raises:
        ValueError: shapes that do not fit, or fewer vectors than a subset needs.
    """
    a, b = np.asarray(features_a), np.asarray(features_b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features: two tables of the same width are needed, not {a.shape} and {b.shape}")
    if subsets < 1 or not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(f"subset_size: {subset_size} is not in 2..{min(len(a), len(b))}, or subsets: {subsets} below 1")
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for _ in range(subsets):
        # Only what is drawn becomes float64: the tables may be mapped from files larger than memory.
        x, y = (
            rows[torch.randperm(len(rows), generator=generator).numpy()[:subset_size]].astype(np.float64) for rows in (a, b)
        )
        within = _off_diagonal_sum(_kernel(x, x)) + _off_diagonal_sum(_kernel(y, y))
        scores.append(within / (subset_size * (subset_size - 1)) - 2 * _kernel(x, y).mean())
    return float(np.mean(scores)), float(np.std(scores))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal_sum(table: np.ndarray) -> float:
    return table.sum() - np.trace(table)
