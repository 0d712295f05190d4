"""Hist: how close the colours of generated pictures are to those of a style's reference pictures.

Two colour histograms per picture, one of RGB and one of HSV cells, compared by Pearson correlation with the mean
histogram of the references. Reproduces the checker of the 4th Jittor AI challenge (track 2), which computes in
OpenCV; everything here is NumPy, checked bit for bit against OpenCV 4.11 (``tests/eval/test_hist.py`` keeps the
values). Pictures are ``(height, width, 3)`` uint8 arrays in blue-green-red order at their own size.

Two protocols:

``challenge``
    the checker with its quirks. RGB: its index ``B//16*256 + G//16*16 + R//16`` is computed in uint8, where 256 is 0,
    so blue is ignored: 256 live cells out of 4096, the empty ones still count. HSV: OpenCV's hue 0..179 is doubled in
    uint8, so hues from 128 on wrap round to the cells of the reds.
``corrected``
    blue counts, hue is not wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

PROTOCOLS = ("challenge", "corrected")

RGB_BINS = 4096
HSV_BINS = 72

# Fixed-point reciprocals of OpenCV's 8-bit HSV conversion (12 fractional bits, rounded half to even). Entry 0 is 0:
# black has no saturation and grey no hue.
_SHIFT = 12
_HALF = 1 << (_SHIFT - 1)
_ORDINALS = np.arange(1, 256, dtype=np.float64)
_S_RECIPROCAL = np.concatenate([[0], np.rint((255 << _SHIFT) / _ORDINALS)]).astype(np.int32)
_H_RECIPROCAL = np.concatenate([[0], np.rint((180 << _SHIFT) / (6.0 * _ORDINALS))]).astype(np.int32)

# Upper edges of the hue cells in degrees; what lies above the last one is red again, cell 0.
_HUE_EDGES = np.array([20, 40, 75, 155, 190, 270, 295, 315])


def _hue_cells(protocol: str) -> np.ndarray:
    """Cell 0..7 for each OpenCV hue 0..255 (179 is the largest that occurs), ``(256,)`` int32."""
    degrees = np.arange(256) * 2
    if protocol == "challenge":
        degrees = degrees % 256
    return (np.searchsorted(_HUE_EDGES, degrees, side="left") % 8).astype(np.int32)


_HUE_CELLS = {protocol: _hue_cells(protocol) for protocol in PROTOCOLS}
_LEVEL_CELLS = np.searchsorted([51, 178], np.arange(256), side="left").astype(np.int32)


def bgr_to_hsv(image: np.ndarray) -> np.ndarray:
    """Convert 8-bit colours to OpenCV's 8-bit HSV, bit for bit (``cv2.COLOR_BGR2HSV``).

    Args:
        image: ``(..., 3)`` uint8, blue-green-red.

    Returns:
        ``(..., 3)`` uint8: hue in half degrees 0..179, saturation 0..255, value 0..255.

    Raises:
        ValueError: the array is not uint8 with three channels.
    """
    _require_bgr(image)
    b, g, r = (image[..., channel].astype(np.int32) for channel in range(3))
    value = np.maximum(np.maximum(b, g), r)
    chroma = value - np.minimum(np.minimum(b, g), r)
    saturation = (chroma * _S_RECIPROCAL[value] + _HALF) >> _SHIFT
    # Sextant by the largest channel; red wins ties over green, green over blue, as in OpenCV.
    sextant = np.where(value == r, g - b, np.where(value == g, b - r + 2 * chroma, r - g + 4 * chroma))
    hue = (sextant * _H_RECIPROCAL[chroma] + _HALF) >> _SHIFT
    hue += np.where(hue < 0, 180, 0)
    return np.stack([hue, saturation, value], axis=-1).astype(np.uint8)


def rgb_histogram(image: np.ndarray, protocol: str = "challenge") -> np.ndarray:
    """Count a picture's pixels in cells of 16 levels per channel.

    Args:
        image: ``(height, width, 3)`` uint8, blue-green-red.
        protocol: ``challenge`` ignores blue (see the module), ``corrected`` counts it.

    Returns:
        ``(4096,)`` float32 raw counts.

    Raises:
        ValueError: unknown protocol, or not such an array.
    """
    _require_protocol(protocol)
    _require_bgr(image)
    coarse = (image >> 4).astype(np.int32)
    cells = coarse[..., 1] * 16 + coarse[..., 2]
    if protocol == "corrected":
        cells += coarse[..., 0] * 256
    return np.bincount(cells.ravel(), minlength=RGB_BINS).astype(np.float32)


def hsv_histogram(image: np.ndarray, protocol: str = "challenge") -> np.ndarray:
    """Count a picture's pixels in cells ``9·H + 3·S + V`` of 8 hues, 3 saturations and 3 values.

    The checker bins the cell number over [0, 71) and so would drop cell 71; with its wrapped hue that cell cannot
    occur, so nothing depends on it. ``corrected`` counts it.

    Args:
        image: ``(height, width, 3)`` uint8, blue-green-red.
        protocol: ``challenge`` wraps the hue (see the module), ``corrected`` does not.

    Returns:
        ``(72,)`` float32 raw counts.

    Raises:
        ValueError: unknown protocol, or not such an array.
    """
    _require_protocol(protocol)
    hsv = bgr_to_hsv(image)
    cells = _HUE_CELLS[protocol][hsv[..., 0]] * 9 + _LEVEL_CELLS[hsv[..., 1]] * 3 + _LEVEL_CELLS[hsv[..., 2]]
    return np.bincount(cells.ravel(), minlength=HSV_BINS).astype(np.float32)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of two histograms over all their bins (OpenCV's ``HISTCMP_CORREL``).

    Args:
        first: ``(bins,)`` float.
        second: ``(bins,)`` float, as many bins.

    Returns:
        -1..1; 1 where one of the two is flat, as OpenCV answers.

    Raises:
        ValueError: the shapes differ or are empty.
    """
    a, b = np.asarray(first, dtype=np.float64).ravel(), np.asarray(second, dtype=np.float64).ravel()
    if a.size != b.size or a.size == 0:
        raise ValueError(f"histograms of {a.size} and {b.size} bins cannot be compared")
    scale = 1.0 / a.size
    covariance = a @ b - a.sum() * b.sum() * scale
    spread = (a @ a - a.sum() ** 2 * scale) * (b @ b - b.sum() ** 2 * scale)
    if abs(spread) <= np.finfo(np.float64).eps:
        return 1.0
    # Rounding may leave the last bit above 1.
    return float(np.clip(covariance / np.sqrt(spread), -1.0, 1.0))


class StyleHist:
    """Hist of one style: holds the mean histograms of its references and scores pictures against them.

    Args:
        references: the style's reference pictures, each ``(height, width, 3)`` uint8 blue-green-red; sizes may differ.
        protocol: ``challenge`` or ``corrected``.

    Raises:
        ValueError: no reference, unknown protocol, or not such arrays.
    """

    def __init__(self, references: Iterable[np.ndarray], protocol: str = "challenge"):
        _require_protocol(protocol)
        self._take([(rgb_histogram(image, protocol), hsv_histogram(image, protocol)) for image in references], protocol)

    @classmethod
    def of_histograms(cls, pairs: Sequence[tuple[np.ndarray, np.ndarray]], protocol: str = "challenge") -> StyleHist:
        """The same from the references' (RGB, HSV) histograms, made with the same protocol."""
        _require_protocol(protocol)
        made = cls.__new__(cls)
        made._take(pairs, protocol)
        return made

    def _take(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]], protocol: str) -> None:
        self.protocol = protocol
        if not pairs:
            raise ValueError("a style needs at least one reference picture")
        # float32 as OpenCV's histograms are: the division by 3 rounds there too.
        count = np.float32(len(pairs))
        self.rgb = np.sum([rgb for rgb, _ in pairs], axis=0, dtype=np.float32) / count
        self.hsv = np.sum([hsv for _, hsv in pairs], axis=0, dtype=np.float32) / count

    def score(self, image: np.ndarray) -> float:
        """Mean of the RGB and the HSV correlation of one ``(height, width, 3)`` uint8 picture, -1..1."""
        return self.score_histograms(rgb_histogram(image, self.protocol), hsv_histogram(image, self.protocol))

    def score_histograms(self, rgb: np.ndarray, hsv: np.ndarray) -> float:
        """The same from a picture's two histograms, made with the same protocol."""
        return (correlation(rgb, self.rgb) + correlation(hsv, self.hsv)) / 2


def _require_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: {protocol!r} is unknown; choose {' or '.join(PROTOCOLS)}")


def _require_bgr(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim < 1 or image.shape[-1] != 3:
        raise ValueError(f"a picture is (height, width, 3) uint8, not {image.shape} {image.dtype}")
