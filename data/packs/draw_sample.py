"""Draws the sample pack beside this file: three styles, three objects each, 128 px, CC0.

    python data/packs/draw_sample.py [FOLDER]

The pictures are plain geometry, so the pack is small, free of rights and the same on every machine.
"""

import json
import math
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIDE = 128


def disc(x, y, rx, ry=None, start=0, end=360):
    """An ellipse (or a piece of one, in degrees) as a polygon in a unit square."""
    ry = rx if ry is None else ry
    return [(x + rx * math.cos(math.radians(a)), y + ry * math.sin(math.radians(a))) for a in range(start, end + 1, 6)]


# Each object: polygons in a unit square, painted in this order; the number picks a colour of the style.
OBJECTS = {
    "apple": [
        (0, disc(0.4, 0.58, 0.2, 0.25)),
        (0, disc(0.6, 0.58, 0.2, 0.25)),
        (2, [(0.48, 0.38), (0.52, 0.38), (0.56, 0.2), (0.51, 0.2)]),
        (1, disc(0.64, 0.24, 0.1, 0.05)),
    ],
    "house": [
        (0, [(0.22, 0.45), (0.78, 0.45), (0.78, 0.82), (0.22, 0.82)]),
        (1, [(0.14, 0.47), (0.5, 0.16), (0.86, 0.47)]),
        (2, [(0.44, 0.6), (0.58, 0.6), (0.58, 0.82), (0.44, 0.82)]),
    ],
    "fish": [
        (0, disc(0.45, 0.5, 0.27, 0.17)),
        (1, [(0.66, 0.5), (0.88, 0.32), (0.82, 0.5), (0.88, 0.68)]),
        (2, disc(0.3, 0.45, 0.035)),
    ],
    "boat": [
        (0, [(0.14, 0.62), (0.86, 0.62), (0.72, 0.82), (0.28, 0.82)]),
        (1, [(0.5, 0.14), (0.5, 0.56), (0.2, 0.56)]),
        (2, [(0.55, 0.22), (0.55, 0.56), (0.8, 0.56)]),
    ],
    "tree": [
        (2, [(0.45, 0.6), (0.55, 0.6), (0.57, 0.88), (0.43, 0.88)]),
        (0, disc(0.5, 0.4, 0.27, 0.26)),
        (1, disc(0.4, 0.34, 0.1)),
    ],
    "full_moon": [
        (0, disc(0.5, 0.5, 0.32)),
        (1, disc(0.4, 0.42, 0.07)),
        (1, disc(0.6, 0.6, 0.09)),
        (2, disc(0.6, 0.34, 0.04)),
    ],
    "mug": [
        (1, disc(0.72, 0.52, 0.15, 0.16)),
        (2, disc(0.72, 0.52, 0.08, 0.09)),
        (0, [(0.25, 0.3), (0.7, 0.3), (0.66, 0.8), (0.29, 0.8)]),
    ],
    "flower": [
        (2, [(0.48, 0.5), (0.52, 0.5), (0.52, 0.9), (0.48, 0.9)]),
        *[(0, disc(0.5 + 0.17 * math.cos(a), 0.36 + 0.17 * math.sin(a), 0.11)) for a in (0, 1.26, 2.51, 3.77, 5.03)],
        (1, disc(0.5, 0.36, 0.09)),
    ],
    "star": [
        (
            0,
            [
                (
                    0.5 + (0.38 if i % 2 == 0 else 0.16) * math.sin(i * math.pi / 5),
                    0.52 - (0.38 if i % 2 == 0 else 0.16) * math.cos(i * math.pi / 5),
                )
                for i in range(10)
            ],
        ),
        (1, disc(0.5, 0.52, 0.08)),
    ],
}


def scaled(polygon, side, dx=0.0, dy=0.0):
    return [((x + dx) * side, (y + dy) * side) for x, y in polygon]


def neon(shapes):
    """Glowing outlines on near-black."""
    colours = [(255, 60, 200), (60, 220, 255), (255, 210, 70)]
    glow = Image.new("RGB", (SIDE, SIDE), (12, 8, 30))
    for width in (9, 2):
        pen = ImageDraw.Draw(glow)
        for colour, polygon in shapes:
            points = scaled(polygon, SIDE)
            tint = tuple(c // 3 for c in colours[colour]) if width == 9 else colours[colour]
            pen.line([*points, points[0]], fill=tint, width=width, joint="curve")
        if width == 9:
            glow = glow.filter(ImageFilter.GaussianBlur(4))
    return glow


def paper(shapes):
    """Flat sheets that throw a soft shadow on cream paper."""
    colours = [(214, 84, 60), (240, 178, 80), (70, 110, 120)]
    sheet = Image.new("RGB", (SIDE, SIDE), (245, 236, 214))
    for colour, polygon in shapes:
        shadow = Image.new("L", (SIDE, SIDE), 0)
        ImageDraw.Draw(shadow).polygon(scaled(polygon, SIDE, 0.025, 0.035), fill=110)
        sheet.paste((90, 70, 50), mask=shadow.filter(ImageFilter.GaussianBlur(2)))
        ImageDraw.Draw(sheet).polygon(scaled(polygon, SIDE), fill=colours[colour])
    return sheet


def pixels(shapes):
    """Sixteen by sixteen blocks, four colours."""
    colours = [(56, 160, 72), (248, 216, 40), (136, 72, 40)]
    small = Image.new("RGB", (16, 16), (120, 190, 248))
    for colour, polygon in shapes:
        ImageDraw.Draw(small).polygon(scaled(polygon, 16), fill=colours[colour])
    return small.resize((SIDE, SIDE), Image.Resampling.NEAREST)


STYLES = {
    "00": (
        neon,
        "neon, lineart, dark_background",
        {"apple": "apple, fruit", "house": "house, building", "fish": "fish, animal"},
    ),
    "01": (
        paper,
        "paper cut, simple_background",
        {"boat": "boat, sail", "tree": "tree, nature", "full_moon": "moon, sky"},
    ),
    "02": (pixels, "pixelart, blocks", {"mug": "mug, cup", "flower": "flower, plant", "star": "star, sky"}),
}
PROMPTS = ["Cat", "Bridge", "Umbrella", "Butterfly", "Lighthouse", "Guitar"]


def main(folder: Path) -> None:
    for style, (draw, style_tags, items) in STYLES.items():
        (folder / style / "images").mkdir(parents=True, exist_ok=True)
        for name in items:
            draw(OBJECTS[name]).save(folder / style / "images" / f"{name}.png", optimize=True)
        tag = {"item": items, "style": style_tags}
        (folder / style / "tag.json").write_text(json.dumps(tag, indent=4) + "\n", encoding="utf-8")
        prompt = {str(i): word for i, word in enumerate(PROMPTS)}
        (folder / style / "prompt.json").write_text(json.dumps(prompt, indent=4) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "sample")
