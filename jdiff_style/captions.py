"""Captions for training pictures: trigger word, style tags, then the picture's own words in random order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from jdiff_style.packs import ImageRecord, Style

if TYPE_CHECKING:
    import numpy as np

FLIP_TAG = "horizontal_flip"


def object_words(name: str) -> str:
    """The words of a file name: `woman_walking_a_dog` -> `woman walking a dog`."""
    return " ".join(name.replace("_", " ").replace("-", " ").split())


def make_caption(
    style: Style,
    image: ImageRecord,
    flipped: bool,
    rng: Optional[np.random.Generator] = None,
    template: Optional[str] = None,
) -> str:
    """The caption of one training picture.

    Without `template`: `trigger, style tags…, picture tags and file name words shuffled by rng…`, and `horizontal_flip`
    last if the picture is flipped. A word that occurs twice is kept once. A caption text that came with the picture
    stays in one piece and stands in place of its tags and name. `rng=None` keeps the order of the pack. With
    `template`, its {trigger}, {style}, {tags} and {object} are filled in, and the flip tag is appended.
    """
    own = [image.caption] if image.caption else _unique([*image.tags, object_words(image.name)])
    if rng is not None:
        own = [own[i] for i in rng.permutation(len(own))]
    if template is None:
        parts = _unique([style.trigger, *style.style_tags, *own])
    else:
        parts = [
            template.format(
                trigger=style.trigger,
                style=", ".join(style.style_tags),
                tags=", ".join(own),
                object=object_words(image.name),
            )
        ]
    return ", ".join([*parts, FLIP_TAG] if flipped else parts)


def make_style_caption(style: Style, flipped: bool, template: Optional[str] = None) -> str:
    """A caption that says nothing of the picture but its style: `trigger, style tags…`, or `template` with its {trigger}
    and {style} filled in; `horizontal_flip` last if the picture is flipped.
    """
    if template is None:
        parts = _unique([style.trigger, *style.style_tags])
    else:
        parts = [template.format(trigger=style.trigger, style=", ".join(style.style_tags))]
    return ", ".join([*parts, FLIP_TAG] if flipped else parts)


def _unique(words: list[str]) -> list[str]:
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(word.casefold(), word)
    return list(first.values())
