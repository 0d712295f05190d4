"""A process that computes its share of a training and writes nothing: started by `jdiff train --processes N`, as

    python -m jdiff_style.train_worker RUN START MAIN_PROCESS      with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set

or, as `jdiff train`, by a launcher (launched.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Iterator, Sequence

import torch.distributed

from jdiff_style import data_parallel
from jdiff_style.errors import Interrupted, UserError
from jdiff_style.launch import load_trainer
from jdiff_style.launched import Place


def main(words: Sequence[str]) -> int:
    """Train from the checkpoint after step START until the main process ends or stops; 1 after an error to be mended."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run, start, parent = Path(words[0]), int(words[1]), int(words[2])
    threading.Thread(target=data_parallel.follow, args=(parent,), daemon=True).start()
    group = data_parallel.Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    try:
        data_parallel.join(group.rank, dict(os.environ))
        _compute(run, start, group)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    data_parallel.leave()
    return 0


def _compute(run: Path, start: int, group: data_parallel.Group) -> None:
    with contextlib.suppress(Interrupted):
        load_trainer(run, start).train(run, start, group)


@contextlib.contextmanager
def leading(place: Place) -> Iterator[None]:
    """Rank 0 inside: if it ends without a training, because all is done or something is wrong, the others end, too."""
    try:
        yield
    finally:
        if not torch.distributed.is_initialized():  # `data_parallel.started` stays in the group
            with contextlib.suppress(OSError, RuntimeError):  # the others are gone already
                data_parallel.join(0, place.address)
                data_parallel.tell(None)
        data_parallel.leave()


def follow_rank_0(place: Place) -> int:
    """Compute this process's share of what rank 0 trains; the exit code."""
    logging.getLogger("jdiff_style").setLevel(logging.ERROR)  # rank 0 says the rest
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it finishes its step and tells the others to stop
    try:
        data_parallel.join(place.rank, place.address)
        told = data_parallel.tell(None)
        if told is not None:
            _compute(Path(told[0]), told[1], data_parallel.Group(place.rank, place.size))
    except (UserError, RuntimeError) as error:
        if not isinstance(error, UserError) and not data_parallel.lost_another(error):
            raise
        print(f"jdiff: error: rank {place.rank}: {error}", file=sys.stderr)
        return 1
    finally:
        data_parallel.leave()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
