"""Runs kept side by side in one SQLite file: ``jdiff leaderboard add REPORT.json`` and ``jdiff leaderboard show``."""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.metrics import METRICS
from eval.total import PARTS
from jdiff_style.errors import UserError

DEFAULT = Path("outputs") / "leaderboard.sqlite"
VERSION = 1
# One row per run, and one per metric that it has; the report's hash keeps a run from being added twice.
_TABLES = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, added TEXT NOT NULL, report TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE, protocol TEXT NOT NULL, backbones TEXT NOT NULL, not_comparable TEXT,
    scored INTEGER NOT NULL, expected INTEGER NOT NULL
);
CREATE TABLE scores (
    run INTEGER NOT NULL REFERENCES runs(id), metric TEXT NOT NULL, value REAL NOT NULL, low REAL, high REAL,
    PRIMARY KEY (run, metric)
);
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="jdiff leaderboard", description="Keep scored runs side by side.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="add|show")
    add = verbs.add_parser("add", help="add the report of a run", description="Add a report that score --json wrote.")
    add.add_argument("report", type=Path, metavar="REPORT", help="JSON report of a scored folder")
    add.add_argument("--name", metavar="TEXT", help="what to call the run (default: name of the generated folder)")
    show = verbs.add_parser("show", help="print the runs, best first")
    show.add_argument("--sort", default="total", metavar="METRIC", help="metric to sort by (default: total)")
    show.add_argument("--protocol", choices=("challenge", "corrected"), help="only runs of this protocol")
    for verb in (add, show):
        verb.add_argument("--file", type=Path, default=DEFAULT, metavar="FILE", help=f"database (default: {DEFAULT})")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 1 for bad input."""
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.verb == "add":
            name = add(arguments.report, arguments.file, arguments.name)
            print(f"added {name}")
        else:
            print(as_text(show(arguments.file, arguments.sort, arguments.protocol)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def add(report_file: Path, database: Path, name: str | None = None) -> str:
    """Add a report.

    Args:
        report_file: JSON as ``score --json`` writes it.
        database: made where it is not there.
        name: of the run; the name of the generated folder if None.

    Returns:
        The run's name.

    Raises:
        UserError: no such report, a report or a name that is there already, or a damaged database.
    """
    try:
        data = report_file.read_bytes()
        report = json.loads(data)
        counts, metrics, total = report["counts"], report["metrics"], report["total"]
        name = name or Path(report["generated"]).resolve().name
        run = (
            name, datetime.now(UTC).isoformat(timespec="seconds"), str(report_file.resolve()),
            hashlib.sha256(data).hexdigest(), report["protocol"], report["backbones"]["kind"], report["not_comparable"],
            counts["scored"], counts["expected"],
        )  # fmt: skip
        scores = [
            (key, entry["value"], *(entry.get("interval") or (None, None)))
            for key, entry in [*metrics.items(), ("total", total)]
            if entry["value"] is not None
        ]
    except OSError as error:
        raise UserError(f"leaderboard: {report_file}: {error.strerror}; give a file that score --json wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"leaderboard: {report_file} is no report; give a file that score --json wrote") from None
    if not scores:
        raise UserError(f"leaderboard: {report_file} holds no number; score the folder again")
    with _opened(database, create=True) as connection:
        clash = connection.execute("SELECT name, sha256 FROM runs WHERE name = ? OR sha256 = ?", (name, run[3])).fetchone()
        if clash:
            what = "this report is there already" if clash[1] == run[3] else "another run has this name"
            raise UserError(f"leaderboard: {what} ({clash[0]}); give the run another --name or score it again")
        cursor = connection.execute(
            "INSERT INTO runs (name, added, report, sha256, protocol, backbones, not_comparable, scored, expected) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", run
        )  # fmt: skip
        connection.executemany("INSERT INTO scores VALUES (?, ?, ?, ?, ?)", [(cursor.lastrowid, *row) for row in scores])
    return name


def show(database: Path, sort: str = "total", protocol: str | None = None) -> list[dict[str, Any]]:
    """The runs, best first by ``sort``, those without that number last.

    Raises:
        UserError: no database, or an unknown metric.
    """
    if sort != "total" and sort not in METRICS:
        raise UserError(f"--sort: {sort!r} is unknown; choose total, {', '.join(METRICS)}")
    with _opened(database) as connection:
        runs = [dict(row) for row in connection.execute("SELECT * FROM runs ORDER BY id")]
        for run in runs:
            rows = connection.execute("SELECT metric, value FROM scores WHERE run = ?", (run["id"],))
            run["scores"] = {row["metric"]: row["value"] for row in rows}
    sign = -1 if sort == "total" or METRICS[sort].direction == "more" else 1
    chosen = [run for run in runs if protocol in (None, run["protocol"])]
    return sorted(chosen, key=lambda run: (sort not in run["scores"], sign * run["scores"].get(sort, 0.0)))


def as_text(runs: Sequence[dict[str, Any]]) -> str:
    """A table of runs; what is not comparable with the challenge's leaderboard is marked with * and explained."""
    from rich.table import Table
    from rich.text import Text

    from eval.console import render

    if not runs:
        return "no runs yet; jdiff leaderboard add REPORT.json adds one"
    names = [name for name in (*PARTS, *METRICS) if any(name in run["scores"] for run in runs)]
    columns = [*dict.fromkeys(names), "total"]
    table = Table(box=None, pad_edge=False)
    for title in ("run", "protocol", "pictures", *columns):
        table.add_column(title, justify="left" if title in ("run", "protocol") else "right", overflow="fold")
    for run in runs:
        values = [f"{run['scores'][name]:.4f}" if name in run["scores"] else "-" for name in columns]
        mark = "*" if run["not_comparable"] else ""
        table.add_row(Text(run["name"] + mark), run["protocol"], f"{run['scored']}/{run['expected']}", *values)
    notes = dict.fromkeys(f"* {run['name']}: {run['not_comparable']}" for run in runs if run["not_comparable"])
    return "\n".join([render(table), *notes])


@contextmanager
def _opened(path: Path, create: bool = False) -> Iterator[sqlite3.Connection]:
    """The database in one transaction: all that happens inside is kept, or nothing.

    Tables are made with ``create`` only, and only in an empty file; reading needs no permission to write.
    """
    if not create and not path.is_file():
        raise UserError(f"leaderboard: {path} is missing; jdiff leaderboard add REPORT.json makes it")
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        mode = "rwc" if create else "ro"
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", timeout=30, uri=True)
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"leaderboard: {path} cannot be opened ({error}); choose another --file") from error
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            connection.execute("BEGIN IMMEDIATE" if create else "BEGIN")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if version == 0 and not (create and empty):
                hint = "choose another --file" if not empty else "jdiff leaderboard add REPORT.json makes one"
                raise UserError(f"leaderboard: {path} is no leaderboard; {hint}")
            if version == 0:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise UserError(f"leaderboard: {path} has version {version}, this program knows {VERSION}; update it")
            yield connection
    except sqlite3.Error as error:
        raise UserError(f"leaderboard: {path} cannot be used ({error}); choose another --file") from error
    finally:
        connection.close()
