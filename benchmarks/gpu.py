"""What benchmarks/gpu.sh runs: the same work on one NVIDIA card under Jittor and under PyTorch, checked and timed.

    python benchmarks/gpu.py run OUT [--device cuda] [--seconds 200] [CASE...]     in each environment
    python benchmarks/gpu.py compare OURS REFERENCE [--json FILE]                  parity, then the table

``run`` writes ``CASE.npz`` (what was computed) and ``times.json`` as it goes, so that a run that is cut off leaves what it
has. Times are medians of wall-clock seconds with everything waited for. Sizes are those of Stable Diffusion 2.1 where the
name says so. A ratio above 1 means that Jittor is faster; none is printed where the numbers differ by more than allowed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

#: Largest error as a part of the largest value, by the type that was computed in. Both sides round half precision at other
#: places; a UNet's forward in float16 differs from itself in float32 by about as much.
TOLERANCE = {"float32": 2e-3, "float16": 2e-2, "bfloat16": 8e-2}
Arrays = dict[str, np.ndarray]


def cases(device: str) -> dict[str, Callable[[], tuple[Callable[[], object], Callable[[], Arrays]]]]:
    """Name -> a function that prepares the case: (step, to be timed; what it computed, read back)."""
    import torch
    import workloads

    functional = torch.nn.functional

    def given(seed, *shape, dtype):
        return workloads.normal(seed, *shape).to(device, getattr(torch, dtype))

    def back(**tensors):
        return {name: t.detach().float().cpu().numpy() for name, t in tensors.items()}

    def function(f, dtype, *shapes, train=True):
        def prepare():
            inputs = [given(i, *shape, dtype=dtype).requires_grad_(train) for i, shape in enumerate(shapes)]
            grad = given(99, *f(*inputs).shape, dtype=dtype)
            state = {}

            def step():
                for x in inputs:
                    x.grad = None
                state["out"] = f(*inputs)
                if train:
                    state["out"].backward(grad)
                return [state["out"], *(x.grad for x in inputs)]

            return step, lambda: back(out=state["out"], **{f"grad{i}": x.grad for i, x in enumerate(inputs) if train})

        return prepare

    def unet(size, dtype):
        def prepare():
            model = workloads.unet(size).to(device, getattr(torch, dtype))
            latents, times, text = (t.to(device) for t in workloads.unet_inputs())
            state = {}

            def step():
                with torch.inference_mode():
                    state["out"] = model(latents.to(model.dtype), times, text.to(model.dtype)).sample
                return [state["out"]]

            return step, lambda: back(**state)

        return prepare

    def lora(size, dtype):
        def prepare():
            from peft import LoraConfig

            model = workloads.unet(size).to(device, getattr(torch, dtype)).requires_grad_(False)
            model.add_adapter(LoraConfig(r=16, lora_alpha=16, init_lora_weights="gaussian",
                                         target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
            trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
            with torch.no_grad():
                for i, p in enumerate(trained.values()):
                    p.data = given(1000 + i, *p.shape, dtype="float32") * 0.02
            optimizer = torch.optim.AdamW(list(trained.values()), lr=1e-6)
            latents, times, text = (t.to(device) for t in workloads.unet_inputs())
            target, state = given(6, *latents.shape, dtype="float32"), {}

            def step():
                with torch.autocast(device, dtype=getattr(torch, dtype), enabled=dtype != "float32"):
                    predicted = model(latents, times, text).sample
                state["loss"] = functional.mse_loss(predicted.float(), target)
                state["loss"].backward()
                state["first"] = next(iter(trained.values())).grad
                optimizer.step()
                optimizer.zero_grad()
                return [state["loss"], *trained.values()]

            return step, lambda: back(**state)

        return prepare

    def picture(size, dtype):
        def prepare():
            model, decoder = (m.to(device, getattr(torch, dtype)) for m in (workloads.unet(size), workloads.vae()))
            draw, state = workloads.drawing(model, decoder), {}

            def step():
                state["latents"], state["picture"] = draw()
                return list(state.values())

            return step, lambda: back(**state)

        return prepare

    def adamw():
        """Clipping and AdamW over 4 million float32 values in 100 tensors, LoRA-shaped."""
        weights = [torch.nn.Parameter(given(i, *((64, 640) if i % 2 else (640, 64)), dtype="float32")) for i in range(100)]
        grads = [given(100 + i, *p.shape, dtype="float32") for i, p in enumerate(weights)]
        optimizer, state = torch.optim.AdamW(weights, lr=1e-3), {}

        def step():
            for p, g in zip(weights, grads):
                p.grad = g.clone()
            state["norm"] = torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            return [state["norm"], *weights]

        return step, lambda: back(norm=state["norm"], first=weights[0], last=weights[-1])

    found = {"adamw float32": adamw}
    for dtype in ("float32", "float16", "bfloat16"):
        found |= {
            f"attention-self {dtype}": function(functional.scaled_dot_product_attention, dtype, *[(2, 10, 1024, 64)] * 3),
            f"attention-text {dtype}": function(functional.scaled_dot_product_attention, dtype, (2, 10, 1024, 64),
                                                *[(2, 10, 77, 64)] * 2),
            f"layer-norm {dtype}": function(lambda x: functional.layer_norm(x, (640,)), dtype, (2, 1024, 640)),
            f"group-norm {dtype}": function(lambda x: functional.group_norm(x, 32), dtype, (2, 320, 64, 64)),
            f"silu-of-group-norm {dtype}": function(lambda x: functional.silu(functional.group_norm(x, 32)), dtype,
                                                    (2, 320, 64, 64)),
            f"softmax {dtype}": function(lambda x: x.softmax(-1), dtype, (16, 1024, 77)),
            f"gelu {dtype}": function(functional.gelu, dtype, (2, 4096, 1280)),
            f"linear {dtype}": function(functional.linear, dtype, (2, 1024, 640), (2560, 640)),
            f"convolution {dtype}": function(lambda x, w: functional.conv2d(x, w, padding=1), dtype, (2, 320, 64, 64),
                                             (320, 320, 3, 3)),
        }
    for size in ("mini", "full"):
        for dtype in ("float16", "float32"):
            found |= {f"unet-{size} {dtype}": unet(size, dtype), f"lora-{size} {dtype}": lora(size, dtype)}
            found[f"picture-{size} {dtype}"] = picture(size, dtype)
    return found


def run(out: Path, device: str, seconds: float, names: list[str]) -> int:
    """Run the cases until they or the seconds are used up; returns how many failed."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch sees no card here; for Jittor set JTORCH_CUDA=1, and `jdiff doctor` says why")
    table = cases(device)
    if unknown := set(names) - set(table):
        raise SystemExit(f"gpu.py: no such case: {', '.join(sorted(unknown))}; there are {', '.join(table)}")
    out.mkdir(parents=True, exist_ok=True)
    about = {"torch": torch.__version__, "cuda": torch.version.cuda,
             "card": torch.cuda.get_device_name(0) if device == "cuda" else "CPU"}
    report = {"about": about, "times": {}, "first": {}, "failed": {}}

    def wait(tensors):
        if device == "cuda":
            torch.cuda.synchronize()
        for t in tensors:
            t.detach().reshape(-1)[:1].float().cpu().numpy()

    until = time.monotonic() + seconds
    for name in names or table:
        if time.monotonic() > until:
            print(f"out of time before {name}", flush=True)
            break
        try:
            step, result = table[name]()
            began = time.perf_counter()
            wait(step())
            report["first"][name] = time.perf_counter() - began
            np.savez(out / f"{name}.npz", **result())
            wait(step())
            times = []
            while len(times) < 3 or (sum(times) < 1.5 and len(times) < 50):
                began = time.perf_counter()
                wait(step())
                times.append(time.perf_counter() - began)
            report["times"][name] = statistics.median(times)
            print(f"{name}: {report['times'][name] * 1000:.2f} ms, first {report['first'][name]:.1f} s", flush=True)
        except Exception as error:
            report["failed"][name] = f"{type(error).__name__}: {error}"
            print(f"{name}: {report['failed'][name][:300]}", flush=True)
        (out / "times.json").write_text(json.dumps(report, indent=1) + "\n")
    return len(report["failed"])


def error(ours: Path, reference: Path) -> float:
    """The largest difference as a part of the largest value; infinite where shapes differ or a value is not finite."""
    worst = 0.0
    with np.load(ours) as a, np.load(reference) as b:
        if sorted(a.files) != sorted(b.files):
            return float("inf")
        for name in b.files:
            x, y = a[name].astype(np.float64), b[name].astype(np.float64)
            if x.shape != y.shape or not np.isfinite(x).all():
                return float("inf")
            worst = max(worst, float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-30)))
    return worst


def compare(ours: Path, reference: Path) -> tuple[list[dict], int]:
    """(a row for each case of either side, how many are wrong or missing on our side)."""
    a, b = (json.loads((folder / "times.json").read_text()) for folder in (ours, reference))
    rows, wrong = [], 0
    for name in [*b["times"], *(n for n in a["failed"] if n not in b["times"])]:
        row = {"case": name, "jittor": a["times"].get(name), "pytorch": b["times"].get(name)}
        if row["jittor"] is None or row["pytorch"] is None:
            row["note"] = a["failed"].get(name, b["failed"].get(name, "not run"))[:100]
            wrong += row["jittor"] is None
        else:
            row["error"] = error(ours / f"{name}.npz", reference / f"{name}.npz")
            good = row["error"] <= TOLERANCE[name.split()[-1]]
            wrong += not good
            row["note"] = "" if good else "DIFFERENT NUMBERS"
            if good:
                row["ratio"] = row["pytorch"] / row["jittor"]
        rows.append(row)
    return rows, wrong


def table(rows: list[dict]) -> str:
    """The rows in Markdown."""
    lines = ["| case | Jittor ms | PyTorch ms | PyTorch / Jittor | error | |", "|---|---|---|---|---|---|"]

    def figure(value, form, scale=1.0):
        return "–" if value is None else format(value * scale, form)

    for r in rows:
        lines.append(f"| {r['case']} | {figure(r['jittor'], '.2f', 1e3)} | {figure(r['pytorch'], '.2f', 1e3)} | "
                     f"{figure(r.get('ratio'), '.2f')} | {figure(r.get('error'), '.1e')} | {r['note']} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line; returns 0 when nothing failed and nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="run the cases in this environment")
    one.add_argument("out", metavar="OUT", type=Path)
    one.add_argument("names", metavar="CASE", nargs="*", help="default: all")
    one.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where (%(default)s)")
    one.add_argument("--seconds", type=float, default=200.0, help="begin no case after this many (%(default)s)")
    two = commands.add_parser("compare", help="compare two folders that run wrote")
    two.add_argument("ours", metavar="OURS", type=Path)
    two.add_argument("reference", metavar="REFERENCE", type=Path)
    two.add_argument("--json", metavar="FILE", type=Path, help="write the rows there, with cards and versions")
    options = parser.parse_args(argv)
    if options.command == "run":
        return 1 if run(options.out, options.device, options.seconds, options.names) else 0
    rows, wrong = compare(options.ours, options.reference)
    print(table(rows))
    if options.json:
        about = {side: json.loads((folder / "times.json").read_text())["about"]
                 for side, folder in (("jittor", options.ours), ("pytorch", options.reference))}
        options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    print(f"{wrong} of {len(rows)} cases are wrong or missing" if wrong else f"all {len(rows)} cases agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
