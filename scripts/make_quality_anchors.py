"""Makes eval/lite_quality.npz, which lite scoring measures quality by: ``python scripts/make_quality_anchors.py [FILE]``.

Two vectors of length 1 in the space of EfficientNet-Lite0's last 1280 features: the mean of the 24 references of
data/packs/emoji-8 as they are, and of the same pictures blurred (Gaussian, 4 of 128 pixels) and covered with noise
(Gaussian, 64 of 255 levels).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PICTURES = ROOT / "data" / "packs" / "emoji-8"
BLUR, NOISE = 4.0, 64.0


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """Out of focus: a Gaussian whose deviation is ``radius`` pixels of a picture of 128."""
    return image.filter(ImageFilter.GaussianBlur(radius * min(image.size) / 128))


def noisy(image: Image.Image, deviation: float, seed: int) -> Image.Image:
    """Independent Gaussian noise of ``deviation`` levels of 255 in every pixel and channel."""
    pixels = np.asarray(image, np.float32)
    noise = np.random.default_rng(seed).normal(0, deviation, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def anchors(images: list[Image.Image]) -> np.ndarray:
    """``(2, 1280)`` float32: sound pictures, spoilt pictures."""
    import torch

    from eval import weights
    from eval.networks.efficientnet_lite import EfficientNetLite0, prepare

    network = EfficientNetLite0.from_file(weights.find("efficientnet_lite0").path)

    def mean(pictures: list[Image.Image]) -> np.ndarray:
        rows = [network.features(torch.from_numpy(prepare(picture)[None])).numpy()[0] for picture in pictures]
        total = np.sum([row.astype(np.float64) / np.linalg.norm(row) for row in rows], axis=0)
        return total / np.linalg.norm(total)

    spoilt = [blurred(image, BLUR) for image in images]
    spoilt += [noisy(image, NOISE, number) for number, image in enumerate(images)]
    return np.stack([mean(images), mean(spoilt)]).astype(np.float32)


def main(target: Path) -> None:
    """Read the pictures, write the file."""
    images = [Image.open(path).convert("RGB") for path in sorted(PICTURES.glob("*/images/*.png"))]
    np.savez(target, anchors=anchors(images))
    print(f"{target}: from {len(images)} pictures")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "eval" / "lite_quality.npz")
