"""Score generated pictures against a style pack: ``python eval/score.py --generated DIR --pack PACK``.

Measures Hist and says of the five other parts of the challenge's total which weights they need. ``--total`` computes
the total from parts measured elsewhere. Needs neither torch nor jittor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

if __package__ in (None, ""):
    # Run as a file: the repository's root has to be importable, and this folder must not be (its metrics.py or total.py
    # would shadow modules of those names).
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from eval.hist import PROTOCOLS
from eval.metrics import METRICS, choose_metrics
from eval.report import Matching, as_text, match_files, score, total_report
from eval.total import parse_parts
from jdiff_style.errors import UserError
from jdiff_style.packs import load_pack


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="score.py",
        description="Score generated pictures (<style>/<prompt>.png) against the reference pictures of a style pack.",
        epilog="Computed here: Hist. The other metrics need network weights and are reported as not computed.",
    )
    main = parser.add_argument_group("main")
    main.add_argument(
        "--generated", type=Path, metavar="FOLDER", help="folder holding <style>/<prompt>.png (or .jpg, .webp)"
    )
    main.add_argument("--pack", type=Path, metavar="FOLDER", help="style pack with the reference pictures and prompt words")
    main.add_argument(
        "--total",
        nargs="+",
        metavar="PART=NUMBER",
        help="print the total of given parts (dino hist lpips fid clip_iqa clip_r) instead of scoring pictures",
    )
    main.add_argument("--dry-run", action="store_true", help="check the folders, print what would be scored, and stop")
    how = parser.add_argument_group("measuring")
    how.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="challenge",
        help="challenge: the checker with its quirks, comparable with its leaderboard; corrected: blue counts, "
        "hue does not wrap, missing pictures count as failures (default: challenge)",
    )
    how.add_argument(
        "--metrics", default="all", metavar="NAMES", help=f"comma list out of {','.join(METRICS)} (default: all)"
    )
    how.add_argument(
        "--strict",
        action="store_true",
        help="refuse a pack with an unreadable reference, and exit 1 on a partial score",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json", type=Path, metavar="FILE", help="write the whole report there; - prints it instead of the text"
    )
    output.add_argument("--per-style", action="store_true", help="print one line per style")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its words without the program's name; those of the process if None.

    Returns:
        0 when the score was made; 1 for bad input, when no picture could be scored, or for a partial score with
        ``--strict``; 130 after Ctrl-C.
    """
    arguments = build_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _total(arguments) if arguments.total else _score(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130


def _total(arguments: argparse.Namespace) -> int:
    if arguments.generated or arguments.pack:
        raise UserError("--total: takes given parts only; leave out --generated and --pack")
    report = {"total": total_report(dict(parse_parts(arguments.total)))}
    if report["total"]["value"] is None:
        raise UserError(f"--total: {report['total']['not_computed']}; give all six parts")
    if not _write_json(report, arguments.json):
        print(f"total {report['total']['value']:.4f}")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    for name in ("generated", "pack"):
        if getattr(arguments, name) is None:
            raise UserError(f"--{name} is missing; give --generated FOLDER and --pack FOLDER, or --total with six parts")
    metrics = choose_metrics(arguments.metrics)
    pack = load_pack(arguments.pack, strict=arguments.strict)
    matching = match_files(arguments.generated, pack)
    for path, reason in pack.skipped:
        print(f"warning: reference left out: {path}: {reason}", file=sys.stderr)
    if arguments.dry_run:
        print(_plan(matching, metrics, arguments.protocol))
        return 0
    report = score(matching, metrics, arguments.protocol, _progress(len(matching.styles)))
    report["pack"] = str(arguments.pack)
    report["references_left_out"] = [str(path) for path, _ in pack.skipped]
    if not _write_json(report, arguments.json):
        print(as_text(report, arguments.per_style))
    nothing = report["counts"]["scored"] == 0
    return 1 if nothing or (arguments.strict and report["partial"]) else 0


def _plan(matching: Matching, metrics: list[str], protocol: str) -> str:
    found = sum(len(files.found) for files in matching.styles)
    computed = [name for name in metrics if METRICS[name].not_computed is None]
    left = [f"{name} ({METRICS[name].not_computed})" for name in metrics if METRICS[name].not_computed]
    return (
        f"would score {found} of {matching.expected} pictures in {len(matching.styles)} styles, protocol {protocol}\n"
        f"computed: {', '.join(computed) or 'nothing'}\nnot computed: {', '.join(left) or 'nothing'}"
    )


def _progress(styles: int):
    """A callback drawing one progress line on a terminal, or None where nobody watches."""
    if not sys.stderr.isatty():
        return None
    done = 0

    def advance(style: str) -> None:
        nonlocal done
        done += 1
        end = "\r\033[K" if done == styles else ""
        print(f"\rscoring {done}/{styles} styles ({style})\033[K", end=end, file=sys.stderr, flush=True)

    return advance


def _write_json(report: dict, path: Path | None) -> bool:
    """Write or print the report; True when it went to standard output, where the text is then left out."""
    if path is None:
        return False
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
        return True
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # A file name that is no UTF-8 becomes an escape that JSON can read.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"--json: {path} cannot be written ({error.strerror}); choose another file") from error
    return False


if __name__ == "__main__":
    sys.exit(main())
