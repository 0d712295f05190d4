"""`SHA256SUMS` of a model folder, in the format of `sha256sum -c`: a damaged file is named before it is used."""

from __future__ import annotations

from pathlib import Path

from jdiff_style.checkpoint import sha256
from jdiff_style.errors import UserError

SUMS_FILE = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Write the hashes of all files below `folder`."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != SUMS_FILE)
    lines = [f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / SUMS_FILE).write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path, field: str) -> None:
    """Raise UserError naming the first file that is missing or has another hash; a folder without the list passes.

    `field` is the option or recipe field that named the folder, for the message.
    """
    if not (folder / SUMS_FILE).is_file():
        return
    for number, line in enumerate((folder / SUMS_FILE).read_text(encoding="utf-8").splitlines(), 1):
        expected, separator, name = line.partition("  ")
        if not separator or len(expected) != 64:
            raise UserError(f"{field}: {folder / SUMS_FILE}, line {number} is damaged; restore the folder from its source")
        if not (folder / name).is_file():
            raise UserError(f"{field}: {folder / name} is missing; restore it from its source")
        found = sha256(folder / name)
        if found != expected:
            raise UserError(
                f"{field}: {folder / name} is damaged: its SHA-256 is {found} instead of {expected}; "
                "restore it from its source"
            )
