"""Time one workload in the environment of the interpreter that runs this: ``python benchmarks/measure.py NAME FOLDER``.

FOLDER gets ``NAME.json`` (seconds of each run, of the import, of building and of the first run, peak memory) and
``NAME.npz`` (everything that the first run computed). ``run.py`` calls this; by itself it is handy under a profiler.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

START = time.perf_counter()
for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ.setdefault(variable, "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


def peak_megabytes() -> float:
    """The largest resident size this process has had. (``ru_maxrss`` would inherit the parent's.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def main() -> None:
    """Parse the command line, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--budget", type=float, default=8.0, help="seconds to spend on timed runs (default %(default)s)")
    parser.add_argument("--least", type=int, default=2, help="timed runs at least (default %(default)s)")
    parser.add_argument("--no-settle", action="store_true", help="time from the second run on, not from the third")
    parser.add_argument("--channels-last", action="store_true", help="turn the model to channels-last first")
    parser.add_argument("--first-only", action="store_true", help="stop after the first run")
    options = parser.parse_args()

    import numpy as np
    import torch
    from kernels import KERNELS
    from scoring import SCORING
    from workloads import WORKLOADS

    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    imported = time.perf_counter()
    prepared = {**WORKLOADS, **KERNELS, **SCORING}[options.name].prepare()
    if options.channels_last:
        if prepared.model is None:
            raise SystemExit(f"{options.name} has no model that could be channels-last")
        prepared.model.to(memory_format=torch.channels_last)
    built = time.perf_counter()
    found = prepared.step()
    first = time.perf_counter()
    options.folder.mkdir(parents=True, exist_ok=True)
    np.savez(options.folder / f"{options.name}.npz", **{key.replace("/", "|"): value for key, value in found.items()})
    del found
    seconds: list[float] = []
    if not options.first_only:
        if not options.no_settle:
            prepared.step()  # once more: allocators and caches settle
        until = time.perf_counter() + options.budget
        while len(seconds) < options.least or (time.perf_counter() < until and len(seconds) < 50):
            began = time.perf_counter()
            prepared.step()
            seconds.append(time.perf_counter() - began)
            if prepared.seconds is not None:
                seconds[-1] = prepared.seconds[0]
    result = {
        "seconds": seconds,
        "import_s": imported - START,
        "build_s": built - imported,
        "first_s": first - built,
        "peak_mb": peak_megabytes(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "channels_last": options.channels_last,
    }
    (options.folder / f"{options.name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
