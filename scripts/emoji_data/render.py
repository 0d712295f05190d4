"""From a set's picture to 128 px RGB on white, the object centred and fitted to 112 px."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from .packages import Tarball

SIZE = 128
#: The longer side of the object; a white margin of 8 px is left on each side, so that convolutions see where it ends and
#: all sets draw an object at the same size.
FITTED = 112
#: Below these shares a picture counts as empty: pixels that differ from white at all, and by more than a pale tint.
_COVERED, _VISIBLE = 0.02, 0.012


class RenderFault(Exception):
    """Why a picture is left out; the sentence goes into the manifest."""


class IconSet:
    """One Iconify set: `svg(name)` gives body and box of a picture, aliases resolved."""

    def __init__(self, tarball: Tarball):
        data = tarball.json("icons.json")
        self.icons, self.aliases = data["icons"], data.get("aliases", {})
        self.default = {key: data.get(key, 16 if key in ("width", "height") else 0)
                        for key in ("left", "top", "width", "height")}  # fmt: skip

    def svg(self, name: str) -> tuple[str, tuple[float, float, float, float]]:
        """(body, (left, top, width, height)). Raises RenderFault for an alias that turns its picture by a right angle."""
        own: dict[str, Any] = {}
        while name in self.aliases:
            own = {**self.aliases[name], **own}
            name = own.pop("parent")
        icon = {**self.default, **self.icons[name], **own}
        left, top, width, height = (float(icon[key]) for key in ("left", "top", "width", "height"))
        body = icon["body"]
        if icon.get("rotate"):
            raise RenderFault("turned alias")
        if icon.get("hFlip"):
            body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
        if icon.get("vFlip"):
            body = f'<g transform="translate(0 {2 * top + height}) scale(1 -1)">{body}</g>'
        return body, (left, top, width, height)


def render_icon(icons: IconSet, name: str, size: int = SIZE) -> np.ndarray:
    """[size, size, 3] uint8. Raises RenderFault for an empty or hardly visible picture."""
    body, box = icons.svg(name)
    left, top, width, height = box
    side = max(width, height)
    square = (left + width / 2 - side / 2, top + height / 2 - side / 2, side)
    rough = _resvg(body, box, square, 256, None)
    x0, y0, x1, y1 = _extent(rough.getchannel("A")) / 256 * side
    # Drawn again with the view fitted to the object, which is sharper than resizing pixels.
    fitted = max(x1 - x0, y1 - y0) * SIZE / FITTED
    view = (square[0] + (x0 + x1 - fitted) / 2, square[1] + (y0 + y1 - fitted) / 2, fitted)
    return _checked(_resvg(body, box, view, size, "#ffffff"))


def render_file(data: bytes, size: int = SIZE) -> np.ndarray:
    """[size, size, 3] uint8 from an encoded picture with transparency. Raises RenderFault as `render_icon`."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    x0, y0, x1, y1 = _extent(image.getchannel("A"))
    side = max(x1 - x0, y1 - y0) * SIZE / FITTED
    left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    margin = int(side)
    wide = Image.new("RGBA", (image.width + 2 * margin, image.height + 2 * margin), (255, 255, 255, 0))
    wide.paste(image, (margin, margin))
    white = Image.alpha_composite(Image.new("RGBA", wide.size, "white"), wide).convert("RGB")
    box = (left + margin, top + margin, left + margin + side, top + margin + side)
    return _checked(white.resize((size, size), Image.Resampling.LANCZOS, box=box))


def _resvg(
    body: str, clip: tuple[float, float, float, float], view: tuple[float, float, float], size: int, paper: str | None
) -> Image.Image:
    import resvg_py

    left, top, width, height = clip
    x, y, side = view
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{x:.5f} {y:.5f} {side:.5f} {side:.5f}" width="{size}" height="{size}" color="#000000">'
        # The inner picture clips: what a set draws outside its own box is not meant to be seen.
        f'<svg x="{left}" y="{top}" width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{body}</svg>'
        "</svg>"
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background=paper, skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(png)))
    return image.convert("RGB" if paper else "RGBA")


def _extent(alpha: Image.Image) -> np.ndarray:
    """[x0, y0, x1, y1] of what is not nearly transparent (soft shadows may be cut)."""
    box = alpha.point([0] * 24 + [255] * 232).getbbox()
    if box is None:
        raise RenderFault("empty picture")
    return np.array(box, dtype=np.float64)


def _checked(image: Image.Image) -> np.ndarray:
    pixels = np.array(image)
    away = 255 - pixels.min(axis=2)
    if (away > 2).mean() < _COVERED:
        raise RenderFault("empty picture")
    if (away > 40).mean() < _VISIBLE:
        raise RenderFault("hardly visible on white")
    return pixels
