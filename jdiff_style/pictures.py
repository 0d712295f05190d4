"""Picture files: safe names for prompt words, atomic PNG writing, checks of what is there, and contact sheets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jdiff_style.errors import UserError
from jdiff_style.packs import open_image

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

# Longest file name, in bytes, on the file systems in common use.
NAME_LIMIT = 255
# The closing IEND chunk: length 0, name, checksum.
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_PART_PREFIX, _PART_ENDING = ".jdiff-", ".part"
# Of a contact sheet, in pixels: between tiles, between groups, a line of text, the column of the rows' titles.
_GAP, _GROUP_GAP, _TEXT, _TITLE = 4, 14, 14, 104


def safe_name(text: str, ending: str, what: str) -> str:
    """The file name ``text + ending``, refused where it could leave its folder or cannot be one.

    Refused rather than changed: the challenge finds a picture by its prompt word.

    Args:
        text: a prompt word or a style's name.
        ending: ``.png``, or nothing for a folder.
        what: whose it is, for the message, e.g. ``style 00, prompt 3``.

    Raises:
        UserError: empty or blank, ``.`` or ``..`` or anything else with a leading dot, a slash, backslash or control
            character, text that no file system encodes, or longer than 255 bytes.
    """
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    way_out = "; change the word in the pack"
    if not text.strip():
        raise UserError(f"{what}: {shown} is empty and cannot name a file{way_out}")
    for character in "/\\":
        if character in text:
            raise UserError(f"{what}: {shown} contains {character!r} and could leave the output folder{way_out}")
    if text.startswith("."):
        raise UserError(f"{what}: {shown} begins with a dot and would be a hidden file or another folder{way_out}")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise UserError(f"{what}: {shown} contains a control character and cannot name a file{way_out}")
    try:
        length = len((text + ending).encode("utf-8"))
    except UnicodeEncodeError:
        raise UserError(f"{what}: {shown} is not valid Unicode and cannot name a file{way_out}") from None
    if length > NAME_LIMIT:
        raise UserError(f"{what}: {shown} is {length} bytes long as a file name, {NAME_LIMIT} is the limit{way_out}")
    return text + ending


def is_whole_picture(path: Path) -> bool:
    """Whether ``path`` is a complete PNG by its checksums and its end mark; a truncated or damaged file is not."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
        with open(path, "rb") as file:
            # verify() is content without the last four bytes.
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return False


def save_picture(image: Image.Image, path: Path) -> None:
    """Write ``image`` as PNG so that ``path`` is either absent, as it was, or whole, whatever happens meanwhile.

    Raises:
        OSError: the file cannot be written, e.g. no space is left; nothing of it remains.
    """
    temporary = path.with_name(f"{_PART_PREFIX}{os.getpid()}{_PART_ENDING}")
    try:
        image.save(temporary, format="PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, of_process: int | None = None) -> int:
    """Delete half-written files that killed processes left in ``folder``; returns how many.

    Args:
        folder: a style's output folder; may be absent.
        of_process: only those of this process, known to have ended; otherwise those of all processes that are gone.
    """
    removed = 0
    for path in folder.glob(f"{_PART_PREFIX}*{_PART_ENDING}"):
        owner = path.name[len(_PART_PREFIX) : -len(_PART_ENDING)]
        if owner.isdigit() and (int(owner) == of_process or (of_process is None and not _alive(int(owner)))):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@dataclass(frozen=True)
class Tile:
    """A captioned picture, in memory or a file. None, or a file that is absent or damaged, is shown as a grey tile."""

    caption: str
    picture: Image.Image | Path | None


@dataclass(frozen=True)
class Row:
    """One line of a contact sheet: its title and groups of tiles; a group is set apart from the next."""

    title: str
    groups: Sequence[Sequence[Tile]]


def contact_sheet(rows: Sequence[Row], tile: int = 128, heads: Sequence[Sequence[str]] = ()) -> Image.Image:
    """One picture that shows many.

    Args:
        rows: a row per style, say. Group number g begins in the same column in every row.
        tile: side of a tile in pixels; a picture is scaled to fit in and keeps its shape.
        heads: what stands above the columns: a text per column of each group, in the order of the groups.

    Returns:
        RGB picture; rows are as long as the longest.

    Raises:
        ValueError: no row.
    """
    from PIL import Image, ImageDraw

    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    places, width = _columns(rows, tile)
    top = _GAP + (_TEXT if heads else 0)
    sheet = Image.new("RGB", (width, top + len(rows) * (tile + _TEXT + _GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for group, texts in zip(places, heads):
        for left, text in zip(group, texts):
            pen.text((left, _GAP), _cut(pen, text, tile), fill="black")
    for row in rows:
        for number, line in enumerate(_wrapped(pen, row.title, _TITLE, tile // _TEXT)):
            pen.text((_GAP, top + number * _TEXT), line, fill="black")
        for group, tiles in zip(places, row.groups):
            for left, shown in zip(group, tiles):
                sheet.paste(_thumbnail(shown.picture, tile), (left, top))
                pen.text((left, top + tile + 1), _cut(pen, shown.caption, tile), fill="black")
        top += tile + _TEXT + _GAP
    return sheet


def _columns(rows: Sequence[Row], tile: int) -> tuple[list[list[int]], int]:
    """The left edges of the columns, group by group, and the sheet's width."""
    places: list[list[int]] = []
    left = _GAP + _TITLE + _GAP
    for number in range(max(len(row.groups) for row in rows)):
        count = max(len(row.groups[number]) for row in rows if number < len(row.groups))
        places.append([left + column * (tile + _GAP) for column in range(count)])
        left += count * (tile + _GAP) + _GROUP_GAP
    return places, left - (_GROUP_GAP if places else 0)


def _thumbnail(picture: Image.Image | Path | None, tile: int) -> Image.Image:
    from PIL import Image

    canvas = Image.new("RGB", (tile, tile), "lightgrey")
    try:
        image = open_image(picture) if isinstance(picture, Path) else picture
    except UserError:
        return canvas
    if image is None:
        return canvas
    scale = tile / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    canvas.paste(image, ((tile - size[0]) // 2, (tile - size[1]) // 2))
    return canvas


def _wrapped(pen: ImageDraw.ImageDraw, text: str, width: int, lines: int) -> list[str]:
    """``text`` broken between words into at most so many lines of at most so many pixels."""
    found: list[str] = []
    for word in text.split():
        longer = f"{found[-1]} {word}" if found else word
        if found and pen.textlength(_printable(longer)) <= width:
            found[-1] = longer
        else:
            found.append(word)
    return [_cut(pen, line, width) for line in found[:lines]]


def _cut(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """``text`` cut to a width in pixels."""
    shown = _printable(text)
    while len(shown) > 1 and pen.textlength(shown) > width:
        shown = shown[:-1]
    return shown


def _printable(text: str) -> str:
    """``text`` as Pillow's built-in font can show it, which may lack all but Latin letters."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown.encode("latin-1", "replace").decode("latin-1")
