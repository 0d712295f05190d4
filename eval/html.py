"""The report as one page that needs nothing else: totals, bars per style, every picture beside its references.

Pictures are embedded as small WebP files; the page is written as it is made, so memory does not grow with it. Without
JavaScript everything is there, worst first; with it the page sorts and filters.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
from pathlib import Path
from string import Template
from typing import Any, TextIO

from PIL import Image

from eval.images import UnreadableImage, read_bgr
from eval.matching import Matching
from eval.metrics import METRICS
from jdiff_style.errors import UserError

TEMPLATE = Path(__file__).with_name("page.html")
#: Longest side of an embedded picture and of an embedded reference, in pixels.
PICTURE, REFERENCE = 176, 72
QUALITY = 75


def write_page(report: dict[str, Any], matching: Matching, path: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        report: from :func:`eval.scoring.score`.
        matching: what it was made from, for the pictures.
        path: the file.

    Raises:
        UserError: it cannot be written.
    """
    before, after = TEMPLATE.read_text(encoding="utf-8").split("<!-- cards -->")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    values = _values(report, matching)
    try:
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(Template(before).substitute(values))
            _write_cards(file, report, matching)
            file.write(Template(after).substitute(values))
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"--html: {path} cannot be written ({error.strerror}); choose another file") from error
    finally:
        temporary.unlink(missing_ok=True)


def worst_first(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The report's pictures: missing and unreadable ones, then by :func:`badness`, worst first."""
    known = _ranges(report)
    return sorted(report["pictures"], key=lambda row: (-badness(row, known), row["style"], row["word"]))


def badness(row: dict[str, Any], ranges: dict[str, tuple[float, float]]) -> float:
    """How bad a picture is among the others: 0 best by every score, 1 worst by every score; 2 if there is none to see."""
    if row["state"] != "scored":
        return 2.0
    parts = []
    for name, (low, high) in ranges.items():
        if name in row["scores"] and high > low:
            share = (row["scores"][name] - low) / (high - low)
            parts.append(1 - share if METRICS[name].direction == "more" else share)
    return sum(parts) / len(parts) if parts else 0.0


def _ranges(report: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Metric -> smallest and largest score of a picture."""
    found = {}
    for name in METRICS:
        values = [row["scores"][name] for row in report["pictures"] if name in row["scores"]]
        if values:
            found[name] = (min(values), max(values))
    return found


def _values(report: dict[str, Any], matching: Matching) -> dict[str, str]:
    names = list(_ranges(report))
    warning = report["not_comparable"] or ""
    warning = warning[:1].upper() + warning[1:]
    counts = report["counts"]
    return {
        "title": html.escape(f"Score of {report['generated']}"),
        "warning": f'<p class="warning">{html.escape(warning)}</p>' if warning else "",
        "facts": html.escape(
            f"Protocol {report['protocol']}. {counts['scored']} of {counts['expected']} pictures in {counts['styles']} "
            f"styles, {counts['references']} references. {counts['missing']} missing, {counts['unreadable']} unreadable."
        ),
        "networks": "".join(
            f"<li>{html.escape(role)}: {html.escape(used['model'])}, SHA-256 <code>{used['sha256']}</code></li>"
            for role, used in report["backbones"]["networks"].items()
        ),
        "totals": _totals(report),
        "less": json.dumps(["bad", *(name for name in names if METRICS[name].direction == "less")]),
        "bars": _bars(report),
        "sorts": "".join(f'<option value="{name}">{html.escape(METRICS[name].title)}</option>' for name in names),
        "styles": "".join(
            f'<option value="{html.escape(files.style.id)}">{html.escape(files.style.id)}</option>'
            for files in matching.styles
        ),
        "references": "".join(_reference_rules(report, matching)),
    }


def _totals(report: dict[str, Any]) -> str:
    rows = []
    for name, entry in [*report["metrics"].items(), ("total", report["total"])]:
        title = METRICS[name].title if name in METRICS else "total"
        if entry["value"] is not None:
            interval = entry.get("interval")
            span = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
            rows.append(f'<tr id="m-{name}"><th>{html.escape(title)}</th><td>{entry["value"]:.4f}</td><td>{span}</td></tr>')
        elif entry["not_computed"] != "not asked for":
            reason = html.escape(f"not computed: {entry['not_computed']}")
            rows.append(f'<tr id="m-{name}"><th>{html.escape(title)}</th><td colspan="2">{reason}</td></tr>')
    return "".join(rows)


def _bars(report: dict[str, Any]) -> str:
    """Per metric one bar a style, longest for its largest value."""
    parts = []
    for name, entry in report["metrics"].items():
        per_style = entry.get("per_style") or {}
        largest = max((abs(value) for value in per_style.values() if value is not None), default=0.0)
        if not per_style:
            continue
        title = f"{METRICS[name].title} ({METRICS[name].direction} is better)"
        parts.append(f'<details class="bars"><summary>{html.escape(title)}</summary>')
        for style, value in per_style.items():
            width = 0.0 if value is None or not largest else 100 * max(0.0, value) / largest
            shown = "no picture" if value is None else f"{value:.4f}"
            parts.append(
                f'<div><span>{html.escape(style)}</span><b style="width:{width:.1f}%"></b><span>{shown}</span></div>'
            )
        parts.append("</details>")
    return "".join(parts)


def _references(report: dict[str, Any], matching: Matching) -> dict[str, list[Path]]:
    """Style -> the references that it was scored against."""
    left_out = {entry["path"] for entry in report["references_left_out"]}
    return {
        files.style.id: [image.path for image in files.style.images if str(image.path) not in left_out]
        for files in matching.styles
    }


def _reference_rules(report: dict[str, Any], matching: Matching) -> list[str]:
    """One CSS rule per reference, so that a picture that many cards show is in the page once."""
    rules = []
    for number, paths in enumerate(_references(report, matching).values()):
        for index, path in enumerate(paths):
            source = _embedded(path, REFERENCE)
            rules.append(f".r{number}-{index}{{background-image:url({source})}}\n")
    return rules


def _write_cards(file: TextIO, report: dict[str, Any], matching: Matching) -> None:
    references = _references(report, matching)
    numbers = {style: number for number, style in enumerate(references)}
    flagged = {
        (entry["style"], entry["word"])
        for entry in report["metrics"]["copies"].get("nearest", ())
        if entry["flagged"]
    }  # fmt: skip
    ranges = _ranges(report)
    for row in worst_first(report):
        data = "".join(f' data-m-{name}="{value!r}"' for name, value in row["scores"].items())
        state = "copy" if (row["style"], row["word"]) in flagged else row["state"]
        name = html.escape(f"{row['style']}/{row['word']}")
        picture = '<div class="none"></div>'
        if row["state"] == "scored":
            picture = f'<img alt="{name}" src="{_embedded(Path(row["path"]), PICTURE)}">'
        shown = "".join(
            f"<tr><td>{html.escape(METRICS[key].title)}</td><td>{value:.4f}</td></tr>"
            for key, value in row["scores"].items()
        )
        refs = "".join(
            f'<i class="r{numbers[row["style"]]}-{index}" title="{html.escape(path.name)}"></i>'
            for index, path in enumerate(references[row["style"]])
        )
        note = f"<p>{html.escape(state)}{': ' + html.escape(row['reason']) if 'reason' in row else ''}</p>"
        file.write(
            f'<article data-style="{html.escape(row["style"])}" data-word="{html.escape(row["word"])}" data-state="{state}" '
            f'data-bad="{badness(row, ranges)!r}"{data}>{picture}<div class="refs">{refs}</div><h3>{name}</h3>'
            f"{note if state != 'scored' else ''}<table>{shown}</table></article>\n"
        )


def _embedded(path: Path, side: int) -> str:
    """A picture as a small ``data:`` address."""
    try:
        image = Image.fromarray(read_bgr(path)[..., ::-1])
    except UnreadableImage:
        image = Image.new("RGB", (side, side), "lightgrey")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
