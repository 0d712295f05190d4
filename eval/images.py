"""Reading pictures as OpenCV reads them (``cv2.imread`` with its default flag), with Pillow.

Checked against OpenCV 4.11 on the 84 pictures of the challenge's set B and on made-up PNG, JPEG and WebP files of every
mode: equal bit for bit. JPEG needs the same decoder for that; the wheels of both use libjpeg-turbo, another decoder
may differ by 1 in a channel, which Hist hardly notices.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# In order of preference where one picture exists with several endings: the challenge's own layout is PNG.
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
#: What is larger or thinner is refused: networks that see a picture at its own size need about 200 bytes a pixel, and
#: resizing the short edge of a thin one makes its long edge huge.
MAX_PIXELS = 2**25
MAX_ASPECT = 16
#: Pillow's decoders raise many kinds of error on damaged files; whichever it is, the file is at fault.
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error)


class UnreadableImage(Exception):
    """A file is there but is no picture that can be decoded; the text names the file and the reason."""


def read_bgr(path: Path) -> np.ndarray:
    """Decode a picture as ``cv2.imread`` does.

    Turned upright by the EXIF orientation of a JPEG or PNG; grey and palette become colour; alpha is dropped, not
    blended; 16 bits keep their high byte; CMYK becomes RGB by OpenCV's formula; an animation gives its first frame.

    Args:
        path: the file.

    Returns:
        ``(height, width, 3)`` uint8, blue-green-red.

    Raises:
        UnreadableImage: the file is truncated, is no picture, is too large (:data:`MAX_PIXELS`) or too thin
            (:data:`MAX_ASPECT`), or cannot be opened.
    """
    return read_picture(path)[0]


def read_picture(path: Path) -> tuple[np.ndarray, list[str]]:
    """Decode as :func:`read_bgr` does and say what had to be done to make three 8-bit channels of it.

    Returns:
        The array of :func:`read_bgr`, and for instance ``["animated, only its first picture is scored"]``.

    Raises:
        UnreadableImage: as :func:`read_bgr`.
    """
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning), Image.open(path) as opened:
            _refuse_shape(path, opened.size)
            notes = _notes(opened)
            opened.load()
            upright = _upright(opened, notes)
            rgb = _to_rgb(upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise UnreadableImage(f"{path}: too large to be a generated picture ({error})") from error
    except _FAULTS as error:
        reason = "not a picture" if isinstance(error, Image.UnidentifiedImageError) else f"{error}".replace(str(path), "")
        raise UnreadableImage(f"{path}: {reason}") from error
    return np.ascontiguousarray(rgb[..., ::-1]), notes


def pixels_of(path: Path) -> int:
    """How many pixels a file claims to have, by its head alone; 0 where that cannot be read or would be refused."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:
            _refuse_shape(path, opened.size)
            return opened.size[0] * opened.size[1]
    # Decoding will say what is wrong with it.
    except (UnreadableImage, Image.DecompressionBombError, *_FAULTS):
        return 0


def _refuse_shape(path: Path, size: tuple[int, int]) -> None:
    """Before anything is decoded."""
    short, long = sorted(size)
    text = f"{size[0]}x{size[1]}"
    if short * long > MAX_PIXELS:
        raise UnreadableImage(
            f"{path}: too large to be a generated picture ({text}, at most {MAX_PIXELS / 1e6:.1f} megapixels)"
        )
    if long > MAX_ASPECT * short:
        raise UnreadableImage(f"{path}: too thin to be a generated picture ({text}, at most {MAX_ASPECT} times as long)")


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """Turned as its EXIF says, as OpenCV does for JPEG and PNG files, not for WebP; left as it is where EXIF is damaged."""
    if image.format not in ("JPEG", "MPO", "PNG"):
        return image
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, struct.error):
        notes.append("damaged EXIF data, its orientation is not followed")
        return image


def _notes(image: Image.Image) -> list[str]:
    """What is unusual about an opened picture, one clause each."""
    notes = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        notes.append("animated, only its first picture is scored")
    if image.mode.startswith("I"):
        notes.append("16 bits a channel, the high 8 are scored")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        notes.append("transparency is dropped, not blended")
    if image.mode in ("P", "PA"):
        notes.append("palette turned into colours")
    if image.mode in ("CMYK", "YCCK"):
        notes.append("CMYK turned into RGB")
    if image.mode in ("L", "LA", "La", "1"):
        notes.append("grey, its three channels are equal")
    return notes


def _to_rgb(image: Image.Image) -> np.ndarray:
    """``(height, width, 3)`` uint8 red-green-blue from any Pillow mode."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode == "CMYK":
        ink = 255 - np.asarray(image).astype(np.int32)
        black = ink[..., 3:]
        return (black - ((255 - ink[..., :3]) * black >> 8)).astype(np.uint8)
    if image.mode in ("LA", "La"):
        return np.asarray(image.getchannel("L").convert("RGB"))
    if image.mode in ("RGBA", "RGBX"):
        return np.ascontiguousarray(np.asarray(image)[..., :3])
    if image.mode in ("P", "PA"):
        # Through RGBA, then alpha dropped: going straight to RGB, Pillow may blend a transparent colour.
        return np.ascontiguousarray(np.asarray(image.convert("RGBA"))[..., :3])
    return np.asarray(image.convert("RGB"))
