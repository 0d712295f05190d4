"""``python -m jtorch``: every change made to other people's code at import time, with the reason for each.

    python -m jtorch               as text
    python -m jtorch --markdown    as the table of patches/README.md
    python -m jtorch --write FILE  put that table between the two marks in FILE
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

BEGIN, END = "<!-- patches: python -m jtorch --write -->\n", "<!-- end of patches -->\n"


def patches() -> Iterator[tuple[str, str, str, str]]:
    """(library, tested versions, what is changed, why) for every patch, libraries in alphabetical order."""
    for name in sorted(item.name for item in pkgutil.iter_modules([str(Path(__file__).parent)])):
        if name.startswith("patch_"):
            module = importlib.import_module(f"{__package__}.{name}")
            for what, why in module.PATCHES:
                yield name.removeprefix("patch_"), module.VERSIONS, what, why


def markdown() -> str:
    """The patches as a table."""
    rows = ["| library | tested | what | why |", "|---|---|---|---|"]
    for row in patches():
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Print or write the list."""
    parser = argparse.ArgumentParser(prog="python -m jtorch", description="List every patch with its reason.")
    parser.add_argument("--markdown", action="store_true", help="print the table of patches/README.md")
    parser.add_argument("--write", metavar="FILE", type=Path, help="put the table between the marks in FILE")
    options = parser.parse_args()
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        if BEGIN not in text or END not in text:
            parser.error(f"{options.write} has no lines {BEGIN.strip()} and {END.strip()}")
        head, tail = text.split(BEGIN)[0], text.split(END)[1]
        options.write.write_text(f"{head}{BEGIN}\n{markdown()}\n{END}{tail}", encoding="utf-8")
    elif options.markdown:
        print(markdown(), end="")
    else:
        shown = None
        for library, versions, what, why in patches():
            if library != shown:
                print(f"{library} ({versions})")
                shown = library
            print(f"  {what}: {why}")


if __name__ == "__main__":
    main()
