"""Compute the picture features that the `clip` stage of the base model learns from; ``--help`` lists the options."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from emoji_data.features import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
