"""Build the emoji pictures for the base model and the packs; ``--help`` lists the options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emoji_data.command import main

if __name__ == "__main__":
    sys.exit(main())
