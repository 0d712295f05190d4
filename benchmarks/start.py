"""How long a person waits for `jdiff` to begin, and for the first picture, on Jittor and on PyTorch.

    python benchmarks/start.py                     warm starts, and a picture with an empty kernel cache
    python benchmarks/start.py --install           also with Jittor's core not compiled yet, as after a clean install
    python benchmarks/start.py --write             also write the rows into benchmarks/RESULTS.md

Every row is a command of its own, timed from outside until it has ended, the sides in turn; the median of the rounds. The
picture is drawn by `jdiff generate` with the embedded base model (or `--base`), float32, 20 steps with guidance. "Ready"
is the same command with `--dry-run`: everything is imported, read and checked, and nothing is drawn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import results
from results import STARTS
from run import ROOT, SIDES, all_workloads, titles_of


def command(what: str, python: Path, folder: Path, options: argparse.Namespace) -> list[str]:
    """The words of a row's command."""
    if what == "torch":
        return [str(python), "-c", "import torch; torch.zeros(1)"]
    jdiff = [str(python), "-m", "jdiff_style.cli"]
    if what == "help":
        return [*jdiff, "--help"]
    words = [*jdiff, "generate", "--base", str(options.base), "--pack", str(options.pack), "--out", str(folder / "out"),
             "--limit", "1", "--styles", options.style, "--steps", "20", "--guidance", "3", "--overwrite"]
    return [*words, "--dry-run"] if what == "ready" else words


def once(what: str, side: str, options: argparse.Namespace) -> float:
    """Seconds of one run; RuntimeError with its last words if it fails."""
    with tempfile.TemporaryDirectory(prefix="jdiff-start-") as name:
        folder = Path(name)
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        if what == "picture-cold":
            environment["JTORCH_KERNELS"] = str(folder / "kernels")
        if what == "picture-install":  # not JITTOR_HOME: Jittor would remember that folder in the user's home
            environment = {key: value for key, value in environment.items() if key != "JITTOR_HOME"}
            environment["HOME"] = str(folder)
        began = time.perf_counter()
        done = subprocess.run(command(what, SIDES[side], folder, options), env=environment, cwd=ROOT, capture_output=True,
                              text=True, check=False)
        spent = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{what} on {side} failed ({done.returncode}):\n{done.stderr.strip()[-2000:]}")
    return spent


def measure(what: str, options: argparse.Namespace) -> results.Row:
    """The row of one command."""
    slow = what in ("picture-cold", "picture-install")  # PyTorch compiles nothing; one run is long enough
    sides = ["jittor"] if slow else ["pytorch", "jittor"]
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    if not slow:
        for side in sides:
            once(what, side, options)
    for _ in range(1 if slow else options.rounds):
        for side in sides:
            seconds[side].append(once(what, side, options))
    row: results.Row = {"jittor_s": statistics.median(seconds["jittor"]), "all": seconds, "measured": results.stamp()}
    if "pytorch" in seconds:
        row["pytorch_s"] = statistics.median(seconds["pytorch"])
    return row


def versions() -> tuple[str, str]:
    """(PyTorch's version, ours)."""
    found = [subprocess.run([SIDES[side], "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True,
                            check=True).stdout.strip() for side in ("pytorch", "jittor")]
    return found[0], found[1]


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="ROW", nargs="*", help=f"default: all; {', '.join(STARTS)}")
    parser.add_argument("--base", type=Path, default=ROOT / "data" / "base" / "emoji-sd", help="base model (%(default)s)")
    parser.add_argument("--pack", type=Path, default=ROOT / "data" / "packs" / "emoji-8", help="pack (%(default)s)")
    parser.add_argument("--style", default="00", help="style of the picture (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="OpenMP threads of both sides (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often the sides take turns (%(default)s)")
    parser.add_argument("--install", action="store_true", help="also with nothing compiled: some minutes")
    parser.add_argument("--write", action="store_true", help="put the rows into benchmarks/RESULTS.md and RESULTS.json")
    options = parser.parse_args()
    if unknown := set(options.names) - set(STARTS):
        sys.exit(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(STARTS)}")
    if not (options.base / "model_index.json").is_file():
        sys.exit(f"{options.base} holds no base model (model_index.json is missing): name one with --base")
    names = options.names or [name for name in STARTS if name != "picture-install" or options.install]
    where = results.machine(options.threads, *versions())
    rows: dict[str, Any] = {}
    for name in names:
        rows[name] = measure(name, options)
        print(results.start_line(STARTS[name], rows[name]), flush=True)
    if options.write:
        found = results.merge(results.read(), "starts", options.threads, where, rows)
        results.write(found, titles_of(all_workloads()))
    print(where)


if __name__ == "__main__":
    main()
