"""What happens to a picture between its file and a network: resize, crop, scale, normalise; with Pillow and NumPy.

Equal to the image processors of transformers 4.39 (``BitImageProcessor`` of DINOv2, ``CLIPImageProcessor``) in every
pixel, without importing transformers, so that decoding processes start fast.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from jdiff_style.errors import UserError

#: Part of every cache key: raise it when anything below, or the decoding, changes a pixel.
VERSION = 1
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture is prepared.

    Attributes:
        size: ``(height, width)`` to resize to; None leaves the size.
        shortest: side in pixels that the shorter edge is resized to, keeping the shape; None where ``size`` says it all.
        resample: Pillow's number of the kernel: 2 bilinear, 3 bicubic; both widen when shrinking (antialiasing).
        crop: ``(height, width)`` of the middle that is kept, padded with black where the picture is smaller.
        scale: factor on 0..255; None leaves uint8 and does not normalise.
        mean: of the three channels, after ``scale``.
        std: likewise.
        rounded: whether the longer edge is rounded after ``shortest`` rather than cut.
    """

    size: tuple[int, int] | None = None
    shortest: int | None = None
    resample: int = 3
    crop: tuple[int, int] | None = None
    scale: float | None = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    rounded: bool = False

    @property
    def keeps_size(self) -> bool:
        """Whether what comes out is as large as the picture."""
        return self.size is None and self.shortest is None and self.crop is None

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Prepare one picture.

        Args:
            rgb: ``(height, width, 3)`` uint8, red first.

        Returns:
            ``(3, height, width)``, float32, or uint8 where ``scale`` is None.
        """
        height, width = rgb.shape[:2]
        target = self.size
        if self.shortest is not None:
            short, long = min(height, width), max(height, width)
            exact = self.shortest * long / short
            other = round(exact) if self.rounded else int(exact)
            target = (other, self.shortest) if width <= height else (self.shortest, other)
        if target is not None and target != (height, width):
            rgb = np.asarray(Image.fromarray(rgb).resize((target[1], target[0]), Image.Resampling(self.resample)))
        channels = _middle(rgb, self.crop) if self.crop else rgb
        if self.scale is not None:
            # In float64, then rounded, as transformers does; the normalisation is float32 there.
            scaled = (channels * self.scale).astype(np.float32)
            channels = (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(channels.transpose(2, 0, 1))

    @staticmethod
    def of_folder(folder: Path) -> Preprocessing:
        """Read a model folder's ``preprocessor_config.json``.

        Raises:
            UserError: the file is missing, damaged, or asks for something that is not done here.
        """
        path = folder / "preprocessor_config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            size, crop = config.get("size", {"shortest_edge": 224}), config.get("crop_size", 224)
            size = {"shortest_edge": size} if isinstance(size, int) else size
            crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
            resize = config.get("do_resize", True)
            normalise = config.get("do_normalize", True)
            return Preprocessing(
                size=(size["height"], size["width"]) if resize and "height" in size else None,
                shortest=size["shortest_edge"] if resize and "height" not in size else None,
                resample=config.get("resample", 3),
                crop=(crop["height"], crop["width"]) if config.get("do_center_crop", True) else None,
                scale=config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0,
                mean=tuple(config.get("image_mean", CLIP_MEAN)) if normalise else (0.0, 0.0, 0.0),
                std=tuple(config.get("image_std", CLIP_STD)) if normalise else (1.0, 1.0, 1.0),
            )
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; a model folder needs it, download it with the weights") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: no description of an image processor ({error}); download it again") from None


#: What torchvision's Resize((256, 256)) does to a Pillow picture before LPIPS; [-1, 1] follows in the batch.
LPIPS_INPUT = Preprocessing(size=(256, 256), resample=2, scale=None)
#: EfficientNet-Lite0's own, as :func:`eval.networks.efficientnet_lite.prepare`.
LITE_INPUT = Preprocessing(
    shortest=256, crop=(224, 224), scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3, rounded=True
)
#: The picture at its own size.
AS_IT_IS = Preprocessing(scale=None)


def _middle(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The centre ``size`` of ``(height, width, 3)``; black around where it is smaller, as transformers pads."""
    (height, width), (crop_height, crop_width) = image.shape[:2], size
    if height < crop_height or width < crop_width:
        padded = np.zeros((max(height, crop_height), max(width, crop_width), 3), image.dtype)
        top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
        padded[top : top + height, left : left + width] = image
        return _middle(padded, size)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return image[top : top + crop_height, left : left + crop_width]
