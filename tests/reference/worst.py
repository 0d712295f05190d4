"""How far two environments are apart: ``python tests/reference/worst.py OURS REFERENCE``.

Two folders that run_case.py wrote, or two run folders of the same recipe (``log.jsonl``, ``grid.png``).
"""

import json
import sys
from pathlib import Path

import compare
import numpy as np
from PIL import Image


def cases(ours: Path, reference: Path) -> None:
    """Per kind of number the largest error as a part of what compare.py allows, and where."""
    worst: dict[str, tuple[float, str]] = {}
    files = sorted(reference.glob("*.npz"))
    for file in files:
        for name, value in compare.check(compare.load(ours / file.name), compare.load(file)).items():
            kind = name.split("/")[0]
            worst[kind] = max(worst.get(kind, (0.0, "")), (float(value), f"{file.stem}: {name}"))
    print(f"{len(files)} cases")
    for kind, (value, where) in sorted(worst.items()):
        print(f"{kind:9} {value:8.2g} of what is allowed  {where}")


def runs(ours: Path, reference: Path) -> None:
    """The largest differences of losses and of the grids' levels."""
    a, b = ([json.loads(row)["loss"] for row in (run / "log.jsonl").read_text().splitlines()] for run in (ours, reference))
    print(f"{len(b)} losses, largest difference {max(abs(x - y) for x, y in zip(a, b, strict=True)):.1g}")
    x, y = (np.asarray(Image.open(run / "grid.png")).astype(int) for run in (ours, reference))
    print(f"grid: largest difference {abs(x - y).max()} of 255")


if __name__ == "__main__":
    one, other = map(Path, sys.argv[1:])
    (runs if (other / "log.jsonl").is_file() else cases)(one, other)
