"""Matching generated pictures with a style pack, scoring them, and writing the result down.

Generated pictures lie as ``<folder>/<style>/<prompt word>.<ending>``. The report says which expected pictures are
missing or unreadable and which files nobody asked for; with any missing, the score is marked partial.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.hist import StyleHist, style_mean
from eval.images import ENDINGS, UnreadableImage, read_bgr
from eval.metrics import METRICS
from eval.total import missing_parts, total_score
from jdiff_style.errors import UserError

if TYPE_CHECKING:
    from jdiff_style.packs import Pack, Style


@dataclass
class StyleFiles:
    """What was found for one style: generated pictures by prompt word, words without one, and files not asked for."""

    style: Style
    found: dict[str, Path] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[Path] = field(default_factory=list)


@dataclass
class Matching:
    """The whole comparison before any picture is read.

    Attributes:
        folder: the generated pictures.
        styles: one entry per scored style, in the pack's order.
        other_folders: folders in ``folder`` that belong to no style of the pack.
    """

    folder: Path
    styles: list[StyleFiles]
    other_folders: list[Path] = field(default_factory=list)

    @property
    def expected(self) -> int:
        """How many pictures the pack asks for."""
        return sum(len(files.found) + len(files.missing) for files in self.styles)


def match_files(folder: Path, pack: Pack) -> Matching:
    """Find the generated picture of every style and prompt word of ``pack``.

    A word's picture is the file of exactly that name without its ending (.png, .jpg, .jpeg or .webp, in any case); of
    several, the first in that order counts and the others are reported as unexpected.

    Raises:
        UserError: ``folder`` is no folder, holds no folder of a style, or the pack has no prompt words.
    """
    if not folder.is_dir():
        raise UserError(f"--generated: {folder} is not a folder; give the one that holds <style>/<prompt>.png")
    if not any(style.prompts for style in pack.styles):
        raise UserError(f"--pack: {pack.path} has no prompt words; scoring needs a prompt.json in each style's folder")
    names = {style.id for style in pack.styles}
    if not any((folder / name).is_dir() for name in names):
        raise UserError(
            f"--generated: {folder} holds none of the pack's {len(names)} styles ({_some(sorted(names))}); "
            "give the folder that holds <style>/<prompt>.png"
        )
    matching = Matching(folder, [_match_style(folder / style.id, style) for style in pack.styles if style.prompts])
    matching.other_folders = sorted(
        child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".") and child.name not in names
    )
    return matching


def _match_style(folder: Path, style: Style) -> StyleFiles:
    present = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    by_stem: dict[str, list[Path]] = {}
    result = StyleFiles(style)
    for path in sorted(path for path in present if not path.name.startswith(".")):
        if path.suffix.lower() in ENDINGS:
            # macOS decomposes accents in file names; JSON files usually hold them composed.
            by_stem.setdefault(unicodedata.normalize("NFC", path.stem), []).append(path)
        else:
            result.unexpected.append(path)
    for word in dict.fromkeys(style.prompts.values()):
        candidates = sorted(
            by_stem.pop(unicodedata.normalize("NFC", word), []), key=lambda path: ENDINGS.index(path.suffix.lower())
        )
        if candidates:
            result.found[word] = candidates[0]
            result.unexpected += candidates[1:]
        else:
            result.missing.append(word)
    result.unexpected += [path for paths in by_stem.values() for path in paths]
    return result


def score(
    matching: Matching,
    metrics: Sequence[str],
    protocol: str = "challenge",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Score what :func:`match_files` found.

    Args:
        matching: the pictures.
        metrics: names out of :data:`eval.metrics.METRICS`; those not asked for are reported as not computed too.
        protocol: ``challenge`` leaves missing pictures out of every mean, ``corrected`` counts them as failures.
        progress: called with each style's id when it is done.

    Returns:
        The report, ready for JSON: ``protocol``, ``counts``, ``partial``, ``missing``, ``unreadable``, ``unexpected``,
        ``metrics.<name>`` with ``value`` and ``per_style``, or ``value`` null and ``not_computed`` with the reason;
        ``total`` likewise, with ``missing`` listing the parts it lacks.
    """
    missing = [f"{files.style.id}/{word}" for files in matching.styles for word in files.missing]
    unreadable: list[dict[str, str]] = []
    per_style: dict[str, float | None] = {}
    for files in matching.styles:
        values = _hist_values(files, protocol, unreadable)
        per_style[files.style.id] = style_mean(values, len(files.found) + len(files.missing) - len(values), protocol)
        if progress:
            progress(files.style.id)
    bad = len(missing) + len(unreadable)
    report: dict[str, Any] = {
        "protocol": protocol,
        "generated": str(matching.folder),
        "counts": {
            "styles": len(matching.styles),
            "expected": matching.expected,
            "scored": matching.expected - bad,
            "missing": len(missing),
            "unreadable": len(unreadable),
            "unexpected": sum(len(files.unexpected) for files in matching.styles) + len(matching.other_folders),
        },
        "partial": bad > 0,
        "missing": missing,
        "unreadable": unreadable,
        "unexpected": [str(path) for files in matching.styles for path in files.unexpected]
        + [str(path) for path in matching.other_folders],
        "metrics": {},
    }
    for name, metric in METRICS.items():
        if name not in metrics:
            report["metrics"][name] = {"value": None, "not_computed": "not asked for"}
        elif metric.not_computed:
            report["metrics"][name] = {"value": None, "not_computed": metric.not_computed}
        else:
            report["metrics"][name] = _mean_over_styles(per_style)
    report["total"] = total_report({name: entry["value"] for name, entry in report["metrics"].items()})
    return report


def _hist_values(files: StyleFiles, protocol: str, unreadable: list[dict[str, str]]) -> list[float]:
    try:
        hist = StyleHist((read_bgr(image.path) for image in files.style.images), protocol)
    except UnreadableImage as error:
        raise UserError(f"--pack: style {files.style.id}: {error}; repair or remove that reference") from error
    values = []
    for path in files.found.values():
        try:
            values.append(hist.score(read_bgr(path)))
        except UnreadableImage as error:
            unreadable.append({"path": str(path), "reason": str(error).removeprefix(f"{path}: ")})
    return values


def _mean_over_styles(per_style: dict[str, float | None]) -> dict[str, Any]:
    known = [value for value in per_style.values() if value is not None]
    if not known:
        return {"value": None, "not_computed": "no generated picture could be read"}
    return {"value": sum(known) / len(known), "per_style": per_style}


def total_report(parts: dict[str, float | None]) -> dict[str, Any]:
    """The total of ``parts`` as the report holds it: ``value``, or null with ``not_computed`` and ``missing``.

    Raises:
        UserError: a part is outside its range.
    """
    lacking = missing_parts(parts)
    if lacking:
        return {"value": None, "not_computed": f"missing {', '.join(lacking)}", "missing": lacking}
    return {"value": total_score(**{name: value for name, value in parts.items() if value is not None})}


def as_text(report: dict[str, Any], all_styles: bool = False) -> str:
    """The report for people: counts, one line per metric, the total, and what was wrong.

    Args:
        report: from :func:`score`.
        all_styles: add one line per style.
    """
    counts = report["counts"]
    lines = [
        f"protocol {report['protocol']}: {counts['scored']} of {counts['expected']} pictures, {counts['styles']} styles"
        + (" (partial score)" if report["partial"] else "")
    ]
    for name, metric in METRICS.items():
        entry = report["metrics"][name]
        shown = "not computed: " + entry["not_computed"] if entry["value"] is None else f"{entry['value']:.4f}"
        lines.append(f"  {metric.title:<9} {shown}")
        if all_styles and entry["value"] is not None:
            lines += [
                f"    {style:<12} {'no picture' if value is None else f'{value:.4f}'}"
                for style, value in entry["per_style"].items()
            ]
    total = report["total"]
    shown = "not computed: " + total["not_computed"] if total["value"] is None else f"{total['value']:.4f}"
    lines.append(f"  {'total':<9} {shown}")
    treated = "counted as failures" if report["protocol"] == "corrected" else "not counted"
    if report["missing"]:
        lines.append(f"missing, {treated}: {_some(report['missing'])}")
    if report["unreadable"]:
        unreadable = [f"{entry['path']} ({entry['reason']})" for entry in report["unreadable"]]
        lines.append(f"unreadable, {treated}: {_some(unreadable)}")
    if report["unexpected"]:
        lines.append(f"not asked for, ignored: {_some(report['unexpected'])}")
    return "\n".join(lines)


def _some(names: Sequence[str], limit: int = 8) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
