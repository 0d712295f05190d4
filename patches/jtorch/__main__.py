"""``python -m jtorch``: every change made to other people's code at import time, with the reason for each."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path


def main() -> None:
    """Print one block per ``patch_*`` module: its tested versions and its patches."""
    names = sorted(item.name for item in pkgutil.iter_modules([str(Path(__file__).parent)]))
    for name in names:
        if not name.startswith("patch_"):
            continue
        module = importlib.import_module(f"{__package__}.{name}")
        print(f"{name.removeprefix('patch_')} ({module.VERSIONS})")
        for what, why in module.PATCHES:
            print(f"  {what}: {why}")


if __name__ == "__main__":
    main()
