"""What `jdiff train --processes N` starts besides itself: a process that computes its share and writes nothing.

    python -m jdiff_style.train_worker RUN START MAIN_PROCESS      with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Sequence

import torch.distributed

from jdiff_style import data_parallel
from jdiff_style.errors import Interrupted, UserError
from jdiff_style.launch import load_trainer


def main(words: Sequence[str]) -> int:
    """Train from the checkpoint after step START until the main process ends or stops; 1 after an error to be mended."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run, start, parent = Path(words[0]), int(words[1]), int(words[2])
    threading.Thread(target=data_parallel.follow, args=(parent,), daemon=True).start()
    group = data_parallel.Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    try:
        data_parallel.join(group.rank, dict(os.environ))
        with contextlib.suppress(Interrupted):
            load_trainer(run, start).train(run, start, group)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
