"""The report for people in a terminal: counts, one row per metric, the total, and what was wrong."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.matching import some
from eval.metrics import METRICS

WIDTH = 120


def as_text(report: dict[str, Any], all_styles: bool = False) -> str:
    """The report as lines of text.

    Args:
        report: from :func:`eval.scoring.score`.
        all_styles: add one row per style.
    """
    counts = report["counts"]
    lines = [
        f"protocol {report['protocol']}: {counts['scored']} of {counts['expected']} pictures, {counts['styles']} styles"
        + (" (partial score)" if report["partial"] else "")
    ]
    lines += _networks(report)
    if report["not_comparable"]:
        lines.append(report["not_comparable"][0].upper() + report["not_comparable"][1:])
    table = Table(box=None, pad_edge=False)
    level = f"{report['bootstrap']['level']:.0%} interval"
    for title in ("", "value", "better", level):
        table.add_column(title, justify="right" if title == "value" else "left", overflow="fold")
    refused = []
    for name, metric in METRICS.items():
        entry = report["metrics"][name]
        if entry["value"] is None:
            if entry["not_computed"] != "not asked for":
                refused.append(f"  {metric.title} not computed: {entry['not_computed']}")
            continue
        table.add_row(metric.title, number(entry["value"]), metric.direction, limits(entry.get("interval")))
        if all_styles:
            for style, value in entry.get("per_style", {}).items():
                table.add_row(Text(f"  {style}"), "no picture" if value is None else number(value))
    total = report["total"]
    if total["value"] is not None:
        table.add_row("total", number(total["value"]), "more", limits(total.get("interval")), style="bold")
    elif total.get("missing"):
        refused.append(f"  total not computed: {total['not_computed']}")
    lines += [render(table)] if table.row_count else []
    lines += refused
    return "\n".join([*lines, *_troubles(report)])


def _networks(report: dict[str, Any]) -> list[str]:
    used = report["backbones"]["networks"]
    lines = [f"backbones {report['backbones']['kind']}"] if used else []
    return lines + [f"  {role}: {entry['model']} (SHA-256 {entry['sha256'][:12]}…)" for role, entry in used.items()]


def _troubles(report: dict[str, Any]) -> list[str]:
    treated = "counted as failures" if report["protocol"] == "corrected" else "not counted"
    lines = []
    if report["missing"]:
        lines.append(f"missing, {treated}: {some(report['missing'])}")
    if report["unreadable"]:
        unreadable = [f"{entry['path']} ({entry['reason']})" for entry in report["unreadable"]]
        lines.append(f"unreadable, {treated}: {some(unreadable)}")
    if report["styles_without_pictures"]:
        lines.append(f"styles without a readable picture, {treated}: {some(report['styles_without_pictures'])}")
    if report["references_left_out"]:
        left_out = [f"{entry['path']} ({entry['reason']})" for entry in report["references_left_out"]]
        lines.append(f"references left out: {some(left_out)}")
    if report["styles_without_words"]:
        lines.append(f"styles without prompt words, not scored: {some(report['styles_without_words'])}")
    if report["unexpected"]:
        lines.append(f"not asked for, ignored: {some(report['unexpected'])}")
    by_note: dict[str, list[str]] = {}
    for entry in report["notes"]:
        by_note.setdefault(entry["note"], []).append(entry["path"])
    lines += [f"note: {note}: {some(paths, 4)}" for note, paths in by_note.items()]
    if len(report["sizes"]) > 1:
        lines.append("note: mixed sizes: " + some([f"{size} ({count})" for size, count in report["sizes"].items()]))
    copies = [entry for entry in report["metrics"]["copies"].get("nearest", ()) if entry["flagged"]]
    if copies:
        shown = [f"{entry['style']}/{entry['word']} ({entry['similarity']:.3f} to {entry['reference']})" for entry in copies]
        lines.append(f"may be copies of training pictures: {some(shown, 4)}")
    return lines


def compared(report: dict[str, Any], all_styles: bool = False) -> str:
    """The lines of a comparison, see :func:`eval.bootstrap.paired`; a difference is B − A, with its interval."""
    lines = [f"protocol {report['a']['protocol']}", *_networks(report["a"])]
    for letter in ("a", "b"):
        run = report[letter]
        partial = " (partial score)" if run["partial"] else ""
        counts = f"{run['counts']['scored']} of {run['counts']['expected']} pictures{partial}"
        lines.append(f"{letter.upper()}: {run['generated']}: {counts}")
    for reason in sorted({run["not_comparable"] for run in (report["a"], report["b"]) if run["not_comparable"]}):
        lines.append(reason[0].upper() + reason[1:])
    lines.append(f"{report['pairs']} pictures in both")
    table = Table(box=None, pad_edge=False)
    for title in ("", "A", "B", "B - A", "interval", ""):
        table.add_column(title, justify="right" if title in ("A", "B", "B - A") else "left", overflow="fold")
    for name, entry in report["differences"].items():
        title = METRICS[name].title if name in METRICS else name
        better = METRICS[name].direction if name in METRICS else "more"
        _compared_row(table, title, entry, better)
        for style, own in entry.get("per_style", {}).items() if all_styles else ():
            _compared_row(table, f"  {style}", own, better)
    lines += [render(table)] if table.row_count else []
    left_out = sorted({f"{METRICS[name].title}: {reason}" for name, reason in report["not_compared"].items()})
    lines += [f"  not compared: {line}" for line in left_out]
    for letter in ("a", "b"):
        lines += [f"{letter.upper()}: {line}" for line in _troubles(report[letter])]
    return "\n".join(lines)


def _compared_row(table: Table, title: str, entry: dict[str, Any], better: str) -> None:
    verdict = "within chance"
    if entry["certain"]:
        verdict = "B is better" if (entry["value"] > 0) == (better == "more") else "A is better"
    if entry["value"] is None:
        table.add_row(Text(title), *(["no value"] * 3), "", "too few pictures in both")
        return
    if entry["interval"] is None:
        verdict = ""
    table.add_row(
        Text(title), number(entry["a"]), number(entry["b"]), f"{entry['value']:+.4f}", limits(entry["interval"]), verdict
    )


def number(value: float) -> str:
    """Four decimals, as the leaderboard writes."""
    return f"{value:.4f}"


def limits(interval: Sequence[float] | None) -> str:
    """``0.1234 to 0.2345``, or nothing."""
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""


def render(table: Table) -> str:
    """A rich table as text: as wide as the terminal, else 120 columns; in colour only on a terminal."""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((WIDTH, 24)).columns if terminal else WIDTH
    out = StringIO()
    Console(file=out, width=width, force_terminal=terminal, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))
