"""The report as CSV: one line per expected picture, with its state and its scores."""

from __future__ import annotations

import csv
import io
from typing import Any

from eval.metrics import METRICS


def as_csv(report: dict[str, Any]) -> str:
    """Columns: style, word, state (scored, missing, unreadable), reason, width, height, path, sha256, protocol, backbones,
    networks (``role=SHA-256`` in its first 12 digits, separated by spaces), comparable (yes or no), then one per metric that
    has a number per picture. RFC 4180, UTF-8, ``\\n`` line ends.
    """
    names = [name for name in METRICS if any(name in row["scores"] for row in report["pictures"])]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fixed = ["style", "word", "state", "reason", "width", "height", "path", "sha256"]
    writer.writerow([*fixed, "protocol", "backbones", "networks", "comparable", *names])
    used = " ".join(f"{role}={entry['sha256'][:12]}" for role, entry in report["backbones"]["networks"].items())
    comparable = "no" if report["not_comparable"] else "yes"
    for row in report["pictures"]:
        writer.writerow(
            [row.get(column, "") for column in fixed]
            + [report["protocol"], report["backbones"]["kind"], used, comparable]
            + [row["scores"].get(name, "") for name in names]
        )
    return out.getvalue()
