"""Time the same work on Jittor (``.venv``) and on PyTorch (``.venv-reference``), in turn, and compare what they compute.

    python benchmarks/run.py                       every workload: about an hour on two cores
    python benchmarks/run.py unet-mini adamw       some of them
    python benchmarks/run.py --light               without the full-width models
    python benchmarks/run.py --kernels             single operations, forward and with backward
    python benchmarks/run.py --scoring             eval/ against torchmetrics
    python benchmarks/run.py --write               also write the rows into benchmarks/RESULTS.md
    python benchmarks/floor.py train-step          where the time of a workload goes, and the least it needs

Each measurement is a process of its own, after warm-up, with all outputs and gradients read back; the two sides take
turns (A B A B). PyTorch runs eagerly at its best settings: scaled_dot_product_attention, inference_mode, the same
number of threads, channels-last where a trial run shows that it is faster. A ratio above 1 means that Jittor is
faster. No ratio is printed when the two sides computed different numbers (PyTorch's in its plain layout).
"cold" is the first run with an empty kernel cache (Jittor's core being compiled), "warm" the time from starting Python
to the end of the first run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import results

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"
SIDES = {"jittor": ROOT / ".venv" / "bin" / "python", "pytorch": ROOT / ".venv-reference" / "bin" / "python"}
#: Largest error allowed, as a part of the reference's largest value, by the first part of an output's name.
TOLERANCE = {"out": 1e-5, "last": 1e-5, "loss": 1e-4, "grad": 1e-4, "latents": 1e-4,
             "fid": 1e-3, "kid": 1e-3, "lpips": 1e-4, "clip_iqa": 1e-4, "clip_score": 1e-4}
PICTURE = 2 / 255

Row = dict[str, Any]


def difference(ours: Path, reference: Path) -> tuple[float, str]:
    """The worst error as a fraction of what is allowed, and the name of the output it was found in."""
    worst, where = 0.0, "none"
    with np.load(ours) as a, np.load(reference) as b:
        if sorted(a.files) != sorted(b.files):
            return math.inf, f"different outputs: {sorted(set(a.files) ^ set(b.files))}"
        if not b.files:
            return math.inf, "no outputs"
        for name in b.files:
            x, y = a[name].astype(np.float64), b[name].astype(np.float64)
            if x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
                return math.inf, name
            error = np.abs(x - y).max()
            kind = name.split("|")[0]
            error /= PICTURE if kind == "picture" else TOLERANCE[kind] * max(np.abs(y).max(), 1e-30)
            if error >= worst:
                worst, where = float(error), name.replace("|", "/")
    return worst, where


def measure(side: str, name: str, folder: Path, threads: int, *arguments: str, kernels: Path | None = None) -> Row:
    """Run measure.py on one side; RuntimeError with its last words if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if kernels:
        environment |= {"JTORCH_KERNELS": str(kernels)}
    command = [str(SIDES[side]), str(HERE / "measure.py"), name, str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name} on {side} failed ({done.returncode}):\n{done.stderr.strip()[-2000:]}")
    return json.loads((folder / f"{name}.json").read_text())


def run_workload(name: str, heavy: bool, images: bool, options: argparse.Namespace, folder: Path) -> Row:
    """All measurements of one workload."""
    few = []
    if heavy:  # a run takes many seconds: one in each turn says enough
        few = ["--budget", "0", "--no-settle", "--least", "1"]
    elif options.quick:
        few = ["--budget", "3", "--least", "2"]
    formats: dict[str, list[str]] = {"pytorch": []}
    if images and options.channels_last:
        formats |= {"channels-last": ["--channels-last"]}
    seconds: dict[str, list[list[float]]] = {"jittor": [], "pytorch": []}
    rows: dict[str, Row] = {}
    peaks: dict[str, list[float]] = {"jittor": [], "pytorch": []}
    for _ in range(options.rounds):
        for side in ("pytorch", "jittor"):
            if side == "pytorch":
                # Each layout in the first turn, the better one from then on.
                tried = {form: measure(side, name, folder / form, options.threads, *few, *arguments)
                         for form, arguments in formats.items()}
                best = min(tried, key=lambda form: statistics.median(tried[form]["seconds"]))
                formats, rows[side] = {best: formats[best]}, tried[best]
            else:
                rows[side] = measure(side, name, folder / side, options.threads, *few)
            seconds[side].append(rows[side]["seconds"])
            peaks[side].append(rows[side]["peak_mb"])
    # The time of channels-last counts where it is shorter, the numbers of the plain layout always: on the large pictures
    # of vae-decode PyTorch's channels-last path is itself 2e-5 away from float64.
    error, where = difference(folder / "jittor" / f"{name}.npz", folder / "pytorch" / f"{name}.npz")
    ours, theirs = ([t for part in seconds[side] for t in part] for side in ("jittor", "pytorch"))
    turns = [statistics.median(b) / statistics.median(a) for a, b in zip(seconds["jittor"], seconds["pytorch"])]
    row: Row = {
        "jittor_s": statistics.median(ours), "pytorch_s": statistics.median(theirs),
        "jittor_all": seconds["jittor"], "pytorch_all": seconds["pytorch"],
        "jittor_mb": max(peaks["jittor"]), "pytorch_mb": max(peaks["pytorch"]),
        "error": error, "error_in": where, "channels_last": "channels-last" in formats,
        "warm_s": sum(rows["jittor"][key] for key in ("import_s", "build_s", "first_s")),
        "torch": rows["pytorch"]["torch"], "backend": rows["jittor"]["torch"],
    }
    if error <= 1:
        row |= {"ratio": row["pytorch_s"] / row["jittor_s"], "ratio_turns": turns}
    if options.cold:
        with tempfile.TemporaryDirectory(prefix="jittor-kernels-") as kernels:
            cold = measure("jittor", name, folder / "cold", options.threads, "--first-only", kernels=Path(kernels))
        row["cold_s"] = cold["first_s"]
        row["cold_build_s"] = cold["build_s"]
    for side in ("jittor", "pytorch", "channels-last", "cold"):
        (folder / side / f"{name}.npz").unlink(missing_ok=True)
    return row


def all_workloads() -> dict[str, dict[str, list[Any]]]:
    """Per table, name -> [title, heavy, images]; asked from an environment that has torch."""
    ask = ("import json, sys; sys.path[:0] = sys.argv[1:3]; import workloads as w, kernels as k, scoring as s; "
           "print(json.dumps([{n: [v.title, v.heavy, v.images] for n, v in t.items()} "
           "for t in (w.WORKLOADS, k.KERNELS, s.SCORING)]))")
    done = subprocess.run([SIDES["pytorch"], "-c", ask, HERE, ROOT], capture_output=True, text=True, check=True)
    return dict(zip(("workloads", "kernels", "scoring"), json.loads(done.stdout)))


def titles_of(tables: dict[str, dict[str, list[Any]]]) -> dict[str, dict[str, str]]:
    """The titles in what `all_workloads` gives, per table by name."""
    return {kind: {name: title for name, (title, *_) in rows.items()} for kind, rows in tables.items()}


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="WORKLOAD", nargs="*", help="default: all")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="OpenMP threads of both sides (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="how often the sides take turns (%(default)s)")
    parser.add_argument("--light", action="store_true", help="leave the full-width models out")
    parser.add_argument("--kernels", action="store_true", help="single operations (kernels.py) instead of the workloads")
    parser.add_argument("--scoring", action="store_true", help="eval/ against torchmetrics (scoring.py) instead")
    parser.add_argument("--quick", action="store_true", help="few runs: for work on a kernel, not for a report")
    parser.add_argument("--no-cold", dest="cold", action="store_false", help="skip the run with an empty kernel cache")
    parser.add_argument("--no-channels-last", dest="channels_last", action="store_false",
                        help="do not try channels-last for PyTorch")
    parser.add_argument("--json", type=Path, help="where the figures go (default: a file in the temporary folder)")
    parser.add_argument("--write", action="store_true", help="put the rows into benchmarks/RESULTS.md and RESULTS.json")
    parser.add_argument("--list", action="store_true", help="list the workloads")
    options = parser.parse_args()
    for side, python in SIDES.items():
        if not python.exists():
            sys.exit(f"{python} is missing: bash scripts/setup.sh{' --reference' if side == 'pytorch' else ''}")
    kind = "kernels" if options.kernels else "scoring" if options.scoring else "workloads"
    tables = all_workloads()
    known = tables[kind]
    if options.list:
        print("\n".join(f"{name:22} {title}" for name, (title, *_) in known.items()))
        return
    if unknown := set(options.names) - set(known):
        sys.exit(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    names = options.names or [n for n in known if not (options.light and "full" in n)]
    titles = titles_of(tables)
    rows: dict[str, Row] = {}
    began, where = time.monotonic(), ""
    target = options.json or Path(tempfile.gettempdir()) / "jdiff-benchmark.json"
    with tempfile.TemporaryDirectory(prefix="jdiff-benchmark-") as folder:
        for number, name in enumerate(names):
            try:
                rows[name] = run_workload(name, *known[name][1:], options, Path(folder)) | {"measured": results.stamp()}
                where = results.machine(options.threads, rows[name]["torch"], rows[name]["backend"])
            except RuntimeError as error:
                rows[name] = {"failed": str(error)}
                print(error, file=sys.stderr)
            found = results.merge({}, kind, options.threads, where, rows)
            target.write_text(json.dumps(found, indent=1) + "\n")
            if options.write:
                results.write(results.merge(results.read(), kind, options.threads, where, rows), titles)
            spent = time.monotonic() - began
            left = spent / (number + 1) * (len(names) - number - 1)
            line = results.line(titles[kind][name], rows[name])
            print(f"{line}  [{number + 1}/{len(names)}, {left / 60:.0f} min left]", flush=True)
    rows = {name: rows[name] for name in known if name in rows}
    print(f"\n{results.table(rows, titles[kind])}\n\n{where}\nfigures: {target}")
    if any("ratio" not in row for row in rows.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
