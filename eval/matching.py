"""Matching generated pictures with a style pack.

Generated pictures lie as ``<folder>/<style>/<prompt word>.<ending>``. What is missing and which files nobody asked for is
noted; nothing is read yet.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from eval.images import ENDINGS
from jdiff_style.errors import UserError

if TYPE_CHECKING:
    from jdiff_style.packs import Pack, Style


@dataclass
class StyleFiles:
    """What was found for one style: generated pictures by prompt word, words without one, what was not asked for."""

    style: Style
    found: dict[str, Path] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[Path] = field(default_factory=list)


@dataclass
class Matching:
    """The whole comparison before any picture is read.

    Attributes:
        folder: the generated pictures.
        styles: one entry per scored style, in the pack's order.
        others: folders in ``folder`` that belong to no scored style, and pictures that lie in no folder of a style.
        without_words: styles of the pack that ask for no picture, so that nothing of theirs is scored.
    """

    folder: Path
    styles: list[StyleFiles]
    others: list[Path] = field(default_factory=list)
    without_words: list[str] = field(default_factory=list)

    @property
    def expected(self) -> int:
        """How many pictures the pack asks for."""
        return sum(len(files.found) + len(files.missing) for files in self.styles)


def match_files(folder: Path, pack: Pack, option: str = "--generated") -> Matching:
    """Find the generated picture of every style and prompt word of ``pack``.

    A word's picture is the file of exactly that name without its ending (.png, .jpg, .jpeg or .webp, in any case); of
    several, the first in that order counts and the others are reported as unexpected.

    Args:
        folder: the generated pictures.
        pack: what was asked for.
        option: the option that named the folder, for messages.

    Raises:
        UserError: ``folder`` is no folder, holds no folder of a style, or the pack has no prompt words.
    """
    if not folder.is_dir():
        raise UserError(f"{option}: {folder} is not a folder; give the one that holds <style>/<prompt>.png")
    if not any(style.prompts for style in pack.styles):
        raise UserError(f"--pack: {pack.path} has no prompt words; scoring needs a prompt.json in each style's folder")
    names = {style.id for style in pack.styles if style.prompts}
    if not any((folder / name).is_dir() for name in names):
        raise UserError(
            f"{option}: {folder} holds none of the pack's {len(names)} styles ({some(sorted(names))}); "
            "give the folder that holds <style>/<prompt>.png"
        )
    matching = Matching(folder, [_match_style(folder / style.id, style) for style in pack.styles if style.prompts])
    matching.without_words = [style.id for style in pack.styles if not style.prompts]
    matching.others = sorted(
        child
        for child in folder.iterdir()
        if not child.name.startswith(".")
        and (child.name not in names if child.is_dir() else child.suffix.lower() in ENDINGS)
    )
    return matching


def _match_style(folder: Path, style: Style) -> StyleFiles:
    present = list(folder.iterdir()) if folder.is_dir() else []
    by_stem: dict[str, list[Path]] = {}
    result = StyleFiles(style)
    for path in sorted(path for path in present if not path.name.startswith(".")):
        if path.is_file() and path.suffix.lower() in ENDINGS:
            # macOS decomposes accents in file names; JSON files usually hold them composed.
            by_stem.setdefault(unicodedata.normalize("NFC", path.stem), []).append(path)
        else:
            result.unexpected.append(path)
    for word in dict.fromkeys(style.prompts.values()):
        candidates = sorted(
            by_stem.pop(unicodedata.normalize("NFC", word), []), key=lambda path: ENDINGS.index(path.suffix.lower())
        )
        if candidates:
            result.found[word] = candidates[0]
            result.unexpected += candidates[1:]
        else:
            result.missing.append(word)
    result.unexpected += [path for paths in by_stem.values() for path in paths]
    return result


def some(names: Sequence[str], limit: int = 8) -> str:
    """The first few of many names, and how many more there are."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
