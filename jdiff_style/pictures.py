"""Picture files: safe names for prompt words, atomic PNG writing, checks of what is there, and contact sheets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jdiff_style.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

# Longest file name, in bytes, on the file systems in common use.
NAME_LIMIT = 255
# The closing IEND chunk: length 0, name, checksum.
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_PART_PREFIX, _PART_ENDING = ".jdiff-", ".part"


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


def contact_sheet(rows: Sequence[tuple[str, Sequence[tuple[str, Path]]]], tile: int = 128) -> Image.Image:
    """One picture that shows many: a row per style, a captioned tile per picture.

    Args:
        rows: (row title, [(caption, file)]); a file that is absent or damaged becomes a grey tile.
        tile: side of a tile in pixels.

    Returns:
        RGB picture; rows are as long as the longest.

    Raises:
        ValueError: no row.
    """
    from PIL import Image, ImageDraw

    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    gap, text_height, title_width = 4, 14, 84
    columns = max(1, max(len(tiles) for _, tiles in rows))
    width = title_width + columns * (tile + gap) + gap
    height = len(rows) * (tile + text_height + gap) + gap
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (title, tiles) in enumerate(rows):
        top = gap + row * (tile + text_height + gap)
        draw.text((gap, top + tile // 2), _printable(title, title_width), fill="black")
        for column, (caption, path) in enumerate(tiles):
            left = title_width + gap + column * (tile + gap)
            sheet.paste(_thumbnail(path, tile), (left, top))
            draw.text((left, top + tile + 1), _printable(caption, tile), fill="black")
    return sheet


def _thumbnail(path: Path, tile: int) -> Image.Image:
    from PIL import Image

    canvas = Image.new("RGB", (tile, tile), "lightgrey")
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((tile, tile), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return canvas
    canvas.paste(small, ((tile - small.width) // 2, (tile - small.height) // 2))
    return canvas


def _printable(text: str, width: int) -> str:
    """``text`` cut to about ``width`` pixels of Pillow's built-in font, which may lack all but Latin letters."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown.encode("latin-1", "replace").decode("latin-1")[: max(1, width // 6)]
