"""What the benchmark found, as tables: RESULTS.json keeps the rows, RESULTS.md is written from it.

A section is one table of workloads at one number of threads. A new run replaces its own rows and keeps the others as long
as they come from the same machine and versions, so that a full table can be measured in pieces, each on a quiet machine.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Row = dict[str, Any]
SECTIONS = {"workloads": "Workloads", "kernels": "Single operations", "scoring": "Scoring against torchmetrics",
            "starts": "Start, by `start.py --write`"}
#: Rows of start.py and their titles.
STARTS = {
    "help": "`jdiff --help`",
    "torch": "`import torch`",
    "ready": "`jdiff generate --dry-run`: ready to draw",
    "picture": "`jdiff generate`, one picture of the embedded model",
    "picture-cold": "the same with an empty kernel cache",
    "picture-install": "the same with nothing compiled, Jittor's core included",
}
HEAD = """# Results

Written by `python benchmarks/run.py --write`; how it is measured stands at the head of `run.py`, what was learnt in
[NOTES.md](NOTES.md). A ratio above 1: we are faster.
"""


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def line(title: str, row: Row) -> str:
    """One row of the table."""
    if "failed" in row:
        return f"| {title} | failed: {row['failed'].splitlines()[-1]} |||||||"
    if "ratio" in row:
        ratio = f"**{row['ratio']:.2f}** ({', '.join(f'{r:.2f}' for r in row['ratio_turns'])})"
    else:
        ratio = f"outputs differ: {row['error']:.3g} times the allowed error in {row['error_in']}"
    return (f"| {title} | {duration(row['jittor_s'])} | {duration(row['pytorch_s'])}"
            f"{' (channels-last)' if row['channels_last'] else ''} | {ratio} "
            f"| {row['jittor_mb']:.0f} / {row['pytorch_mb']:.0f} | {duration(row['warm_s'])} "
            f"| {duration(row['cold_s']) if 'cold_s' in row else '–'} | {row.get('measured', '–')} |")


def table(rows: dict[str, Row], titles: dict[str, str]) -> str:
    """The rows as a Markdown table, and the geometric mean of the ratios."""
    lines = ["| workload | Jittor | PyTorch | ratio (by turn) | peak MB, Jittor / PyTorch | warm start | cold | measured |",
             "|---|---:|---:|---|---:|---:|---:|---|"]
    lines += [line(titles[name], row) for name, row in rows.items()]
    ratios = [row["ratio"] for row in rows.values() if "ratio" in row]
    if ratios:
        mean = math.exp(statistics.fmean(math.log(r) for r in ratios))
        lines.append(f"\nGeometric mean of {len(ratios)} ratios: **{mean:.2f}**")
    return "\n".join(lines)


def start_line(title: str, row: Row) -> str:
    """One row of the table of starts: seconds of a whole command on each side."""
    theirs = duration(row["pytorch_s"]) if "pytorch_s" in row else "–"
    return f"| {title} | {duration(row['jittor_s'])} | {theirs} | {row['measured']} |"


def start_table(rows: dict[str, Row], titles: dict[str, str]) -> str:
    """The rows of start.py as a Markdown table."""
    return "\n".join(["| command | Jittor | PyTorch | measured |", "|---|---:|---:|---|",
                      *(start_line(titles[name], row) for name, row in rows.items())])


def machine(threads: int, torch: str, backend: str) -> str:
    """One sentence: processor, memory, system, versions."""
    model = next((text.split(":")[1].strip() for text in Path("/proc/cpuinfo").read_text().splitlines()
                  if text.startswith("model name")), platform.processor())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return (f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, {threads} thread{'s' * (threads > 1)}; "
            f"Linux {platform.release()}; Python {platform.python_version()}; PyTorch {torch}; ours {backend}")


def stamp() -> str:
    """When and on what: date and commit."""
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            check=False).stdout.strip()
    return f"{datetime.date.today().isoformat()} {commit or '?'}"


def merge(found: dict[str, Any], kind: str, threads: int, where: str, rows: dict[str, Row]) -> dict[str, Any]:
    """``found`` (RESULTS.json's content) with the new rows in the section of this table and number of threads."""
    key = f"{kind}, {threads} thread{'s' * (threads > 1)}"
    section = found.get(key, {})
    kept = section.get("rows", {}) if section.get("machine") == where else {}
    return {**found, key: {"kind": kind, "machine": where, "rows": {**kept, **rows}}}


def render(found: dict[str, Any], titles: dict[str, dict[str, str]]) -> str:
    """RESULTS.md. ``titles``: per kind of section (but "starts") those of its workloads, in order."""
    text = HEAD
    for section in found.values():
        known = STARTS if section["kind"] == "starts" else titles[section["kind"]]
        rows = {name: section["rows"][name] for name in known if name in section["rows"]}
        make = start_table if section["kind"] == "starts" else table
        text += f"\n## {SECTIONS[section['kind']]}\n{section['machine']}\n\n{make(rows, known)}\n"
    return text


def write(found: dict[str, Any], titles: dict[str, dict[str, str]]) -> None:
    """Both files."""
    for name, text in (("RESULTS.json", json.dumps(found, indent=1) + "\n"), ("RESULTS.md", render(found, titles))):
        fresh = HERE / f".{name}.{os.getpid()}"
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, HERE / name)


def read() -> dict[str, Any]:
    """RESULTS.json; empty where there is none."""
    path = HERE / "RESULTS.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
