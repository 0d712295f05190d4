"""Where a workload's time goes on each side, and the least that its arithmetic and its parameters need.

    python benchmarks/floor.py train-step clip-text

For each side: the time of one run as measure.py takes it; how many operations a profiler (``torch.profiler``) saw in one
run and how long they took together (under the profiler: a few percent more than without); and what is left, which is
Python, recording and scheduling. A Jittor operation is one kernel; PyTorch's ``aten`` operations nest, and their times hold
dispatch. The floor is the larger of
- the multiplications and additions of convolutions, products and attention (counted by PyTorch's FlopCounterMode) over the
  rate of a product of two 1536 × 1536 matrices; Winograd's algorithm may need fewer;
- the bytes of all parameters, read once, and six times more for each one in an optimizer (its gradient read, itself and
  two moments read and written) over the rate of adding a number to 64 MB.
Rates are measured here, on both sides; the higher one counts.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

Row = dict[str, Any]
HERE = Path(__file__).resolve().parent


def best(function: Callable[[], Any], repeats: int) -> float:
    """The shortest of some durations, in seconds; the first call is not counted."""
    function()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        found.append(time.perf_counter() - began)
    return min(found)


def rates() -> tuple[float, float]:
    """(additions and multiplications per second in a product, bytes per second of a pass over memory)."""
    import torch

    side, count = 1536, 1 << 24
    a, b, x, y = torch.ones(side, side), torch.ones(side, side), torch.zeros(count), torch.zeros(count)

    def add() -> None:
        torch.add(x, 1.0, out=y)
        y[:1].item()

    with torch.inference_mode():
        product = best(lambda: (a @ b)[0, 0].item(), 10)
        return 2 * side**3 / product, 8 * count / best(add, 10)


def parameter_bytes() -> int:
    """What has to pass through memory for the parameters that are alive: see the head of this file."""
    import torch

    alive = gc.get_objects()
    parameters = {id(o): o for o in alive if issubclass(type(o), torch.nn.Parameter)}
    total = sum(p.numel() * p.element_size() for p in parameters.values())
    for optimizer in [o for o in alive if issubclass(type(o), torch.optim.Optimizer)]:
        total += sum(6 * p.numel() * p.element_size() for group in optimizer.param_groups for p in group["params"])
    return total


def count_operations(step: Callable[[], Any]) -> int:
    """Additions and multiplications of a run; PyTorch only. Attention is taken apart into products, which are counted."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def look(name: str, reference: bool) -> Row:
    """All figures of one side, for one run of what the workload's title names."""
    import torch
    from kernels import KERNELS
    from torch.profiler import ProfilerActivity, profile
    from workloads import WORKLOADS

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    prepared = {**WORKLOADS, **KERNELS}[name].prepare()
    prepared.step()
    prepared.step()
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        prepared.step()
        seconds.append(time.perf_counter() - began if prepared.seconds is None else prepared.seconds[0])
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        prepared.step()
    found = [event for event in profiler.key_averages() if event.key.startswith("aten::") or not reference]
    found.sort(key=lambda event: -event.self_cpu_time_total)
    arithmetic, memory = rates()
    times = prepared.repeats
    return {
        "seconds": statistics.median(seconds),
        "operations": sum(event.count for event in found) / times,
        "operations_s": sum(event.self_cpu_time_total for event in found) / 1e6 / times,
        "table": [[event.key, event.count / times, event.self_cpu_time_total / 1e6 / times] for event in found[:10]],
        "flops": count_operations(prepared.step) / times if reference else None,
        "bytes": parameter_bytes(),
        "flops_per_s": arithmetic,
        "bytes_per_s": memory,
    }


def report(title: str, rows: dict[str, Row]) -> str:
    """The figures of both sides as text."""
    lines = [title, f"{'':24}{'Jittor':>14}{'PyTorch':>14}"]
    sides = [rows["jittor"], rows["pytorch"]]
    for label, find in (("one run", lambda row: row["seconds"]), ("within operations", lambda row: row["operations_s"]),
                        ("outside them", lambda row: row["seconds"] - row["operations_s"])):
        lines.append(f"{label:24}" + "".join(f"{1e3 * find(row):11.2f} ms" for row in sides))
    lines.append(f"{'operations':24}" + "".join(f"{row['operations']:14.0f}" for row in sides))
    flops, size = rows["pytorch"]["flops"], rows["pytorch"]["bytes"]
    rate, speed = (max(row[key] for row in sides) for key in ("flops_per_s", "bytes_per_s"))
    arithmetic, memory = flops / rate, size / speed
    lines.append(f"floor: {1e3 * max(arithmetic, memory):.2f} ms ({flops / 1e9:.2f} GFLOP at {rate / 1e9:.0f} GFLOP/s: "
                 f"{1e3 * arithmetic:.2f} ms; {size / 1e6:.1f} MB of parameters at {speed / 1e9:.1f} GB/s: "
                 f"{1e3 * memory:.2f} ms)")
    for label, row in zip(("Jittor", "PyTorch"), sides):
        lines.append(f"{label}: largest operations")
        for key, count, seconds in row["table"]:
            each = 1e6 * seconds / max(count, 1e-9)
            lines.append(f"  {key[:50]:50} {count:8.1f} × {each:9.1f} us = {1e3 * seconds:8.2f} ms")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line; measure one side, or start a process for each and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="WORKLOAD", nargs="+", help="of run.py --list and run.py --kernels --list")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="OpenMP threads of both sides (%(default)s)")
    parser.add_argument("--side", choices=("jittor", "pytorch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        import measure  # noqa: F401 - sets the search path and keeps libraries off the network

        with contextlib.redirect_stdout(sys.stderr):
            row = look(options.names[0], options.side == "pytorch")
        print(json.dumps(row))
        return
    import run

    titles = {name: title for table in run.titles_of(run.all_workloads()).values() for name, title in table.items()}
    if unknown := set(options.names) - set(titles):
        sys.exit(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(titles)}")
    for name in options.names:
        rows = {}
        for side, python in run.SIDES.items():
            command = [str(python), str(HERE / "floor.py"), "--side", side, name]
            environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                sys.exit(f"{name} on {side} failed ({done.returncode}):\n{done.stderr.strip()[-2000:]}")
            rows[side] = json.loads(done.stdout.splitlines()[-1])
        print(report(f"{name}: {titles[name]}, {options.threads} threads", rows), flush=True)


if __name__ == "__main__":
    main()
