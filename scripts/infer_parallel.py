"""Draw a picture for every style and prompt word of a pack; ``--help`` lists the options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jdiff_style.parallel import main

if __name__ == "__main__":
    sys.exit(main())
