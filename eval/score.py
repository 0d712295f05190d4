"""Score generated pictures against a style pack: ``python eval/score.py --generated DIR --pack PACK``.

``--compare A B`` scores two folders and says which differences are more than chance. ``--total`` computes the total from
parts measured elsewhere. torch is imported only when a network has to compute something.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):
    # Run as a file: the repository's root has to be importable, and this folder must not be (its metrics or total.py
    # would shadow modules of those names).
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from eval.hist import PROTOCOLS
from eval.metrics import METRICS, choose_metrics
from eval.total import parse_parts
from jdiff_style.errors import UserError

if TYPE_CHECKING:
    from eval.backbones import Backbones
    from eval.matching import Matching
    from eval.report import Options
    from eval.scoring import Run
    from jdiff_style.packs import Pack

LPIPS_NETS = ("squeeze", "alex", "vgg")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="score.py",
        description="Score generated pictures (<style>/<prompt>.png) against the reference pictures of a style pack.",
        epilog="Hist needs no network. For the others see --backbones; eval/README.md documents metrics and report.",
    )
    main = parser.add_argument_group("main")
    main.add_argument(
        "--generated", type=Path, metavar="FOLDER", help="folder holding <style>/<prompt>.png (or .jpg, .webp)"
    )
    main.add_argument("--pack", type=Path, metavar="FOLDER", help="style pack with the reference pictures and prompt words")
    main.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"), help="score two folders and give B - A over what both have"
    )
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
        "--metrics",
        default="challenge",
        metavar="NAMES",
        help=f"comma list out of {','.join(METRICS)}; challenge: the six of the total; all (default: challenge)",
    )
    how.add_argument("--clip-r-prompts", type=Path, metavar="FILE", help="CLIP-R's words, one a line "
                     "(default: clip_r_prompts.txt in the pack, else the pack's prompt words)")  # fmt: skip
    how.add_argument("--copy-threshold", type=float, default=0.95, metavar="COSINE", help="DINO similarity to a training "
                     "picture from which a picture counts as a copy, -1 to 1 (default: 0.95)")  # fmt: skip
    how.add_argument("--minimum", type=int, metavar="INT", help="images that FID and KID need at least, 2 or more "
                     "(default: 64 for FID, 2048 for FID 2048, 50 for KID)")  # fmt: skip
    how.add_argument("--drift", nargs=2, type=Path, metavar=("BASE", "TUNED"), help="folders of pictures drawn without "
                     "trigger, same words and seeds, by base and tuned model; for --metrics drift")  # fmt: skip
    how.add_argument("--bootstrap", type=int, default=1000, metavar="INT", help="resamples for 95 %% intervals; 0: none "
                     "(default: 1000)")  # fmt: skip
    how.add_argument(
        "--strict",
        action="store_true",
        help="refuse a pack with an unreadable reference, and exit 1 on a partial score",
    )
    networks = parser.add_argument_group("networks")
    networks.add_argument(
        "--backbones",
        nargs="+",
        default=["official"],
        metavar="CHOICE",
        help="official: what the checker used, weights looked up and never fetched; lite: small ones that come along, "
        "not comparable with the leaderboard; dino=FOLDER, clip=FOLDER, clip_iqa=FOLDER: your own (default: official)",
    )
    networks.add_argument("--weights", nargs="+", type=Path, default=[], metavar="FOLDER", help="where official weights lie")
    networks.add_argument("--lpips-net", choices=LPIPS_NETS, default="squeeze", help="network of LPIPS (default: squeeze)")
    networks.add_argument("--clip-iqa-model", type=Path, metavar="FOLDER", help="transformers CLIP to compute CLIP-IQA with")
    speed = parser.add_argument_group("performance")
    speed.add_argument("--batch", type=int, default=16, metavar="INT", help="pictures per network call (default: 16)")
    speed.add_argument("--workers", type=int, metavar="INT", help="decoding processes (default: 0 below 64 pictures, else 4 "
                       "or the number of cores)")  # fmt: skip
    speed.add_argument("--cache", type=Path, metavar="FOLDER", help="where features are kept (default: $JDIFF_CACHE, else "
                       "~/.cache/jdiff-style)")  # fmt: skip
    speed.add_argument("--no-cache", action="store_true", help="keep no features and use none")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json", type=Path, metavar="FILE", help="write the whole report there; - prints it instead of the text"
    )
    output.add_argument("--csv", type=Path, metavar="FILE", help="write one line per picture there")
    output.add_argument("--html", type=Path, metavar="FILE", help="write a page with all pictures and scores there")
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
        if arguments.total:
            return _total(arguments)
        _check(arguments)
        return _compare(arguments) if arguments.compare else _score(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; features computed so far are kept, the same command goes on", file=sys.stderr)
        return 130


def _total(arguments: argparse.Namespace) -> int:
    from eval.report import total_report

    if arguments.generated or arguments.pack:
        raise UserError("--total: takes given parts only; leave out --generated and --pack")
    report = {"total": total_report(dict(parse_parts(arguments.total)))}
    if report["total"]["value"] is None:
        raise UserError(f"--total: {report['total']['not_computed']}; give all six parts")
    if not _write_json(report, arguments.json):
        print(f"total {report['total']['value']:.4f}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that cannot be, before any work is done."""
    if arguments.compare and arguments.generated:
        raise UserError("--compare: takes its two folders itself; leave out --generated")
    for name in ("pack",) if arguments.compare else ("generated", "pack"):
        if getattr(arguments, name) is None:
            raise UserError(f"--{name} is missing; give --generated FOLDER and --pack FOLDER, or --total with six parts")
    if arguments.compare and (arguments.csv or arguments.html):
        raise UserError("--compare: writes text and --json only; score each folder on its own for --csv and --html")
    for name, low in (("batch", 1), ("workers", 0), ("bootstrap", 0), ("minimum", 2)):
        value = getattr(arguments, name)
        if value is not None and value < low:
            raise UserError(f"--{name}: {value} is too small; give {low} or more")
    if not -1 <= arguments.copy_threshold <= 1:
        raise UserError(f"--copy-threshold: {arguments.copy_threshold} is no cosine; give a number from -1 to 1")
    if arguments.cache and arguments.no_cache:
        raise UserError("--no-cache: contradicts --cache; give one of the two")
    for name in ("json", "csv", "html"):
        path = getattr(arguments, name)
        if path is not None and str(path) != "-" and not path.parent.is_dir():
            raise UserError(f"--{name}: {path} cannot be written (no folder {path.parent}); choose another file")


def _score(arguments: argparse.Namespace) -> int:
    from eval.matching import match_files
    from jdiff_style.packs import load_pack

    metrics = _metrics(arguments)
    pack = load_pack(arguments.pack, strict=arguments.strict)
    matching = match_files(arguments.generated, pack)
    _warn(pack)
    backbones, options = _backbones(arguments), _options(arguments, pack)
    if arguments.dry_run:
        print(_plan(matching, metrics, arguments, backbones))
        return 0
    report = _run(matching, metrics, backbones, options, arguments, pack).report
    if arguments.csv:
        from eval.table import as_csv

        _write(arguments.csv, as_csv(report), "--csv")
    if arguments.html:
        from eval.html import write_page

        write_page(report, matching, arguments.html)
    if not _write_json(report, arguments.json):
        from eval.console import as_text

        print(as_text(report, arguments.per_style))
    nothing = report["counts"]["scored"] == 0
    return 1 if nothing or (arguments.strict and report["partial"]) else 0


def _compare(arguments: argparse.Namespace) -> int:
    from eval.bootstrap import paired
    from eval.matching import match_files
    from jdiff_style.packs import load_pack

    metrics = _metrics(arguments)
    pack = load_pack(arguments.pack, strict=arguments.strict)
    _warn(pack)
    backbones, options = _backbones(arguments), _options(arguments, pack)
    matchings = [match_files(folder, pack, "--compare") for folder in arguments.compare]
    if arguments.dry_run:
        print("\n".join(_plan(matching, metrics, arguments, backbones) for matching in matchings))
        return 0
    first, second = (_run(matching, metrics, backbones, options, arguments, pack) for matching in matchings)
    report: dict[str, Any] = {"a": first.report, "b": second.report}
    report |= paired(first.metrics, second.metrics, options.rounds)
    for name in metrics:
        reasons = [run.report["metrics"][name].get("not_computed") for run in (first, second)]
        if any(reasons):
            report["not_compared"][name] = next(reason for reason in reasons if reason)
    if not _write_json(report, arguments.json):
        from eval.console import compared

        print(compared(report, arguments.per_style))
    partial = first.report["partial"] or second.report["partial"]
    return 1 if not report["pairs"] or (arguments.strict and partial) else 0


def _metrics(arguments: argparse.Namespace) -> list[str]:
    """The metrics asked for; an option that none of them would look at is refused."""
    metrics = choose_metrics(arguments.metrics)
    if arguments.drift and "drift" not in metrics:
        raise UserError(f"--drift: is for the metric drift; add it: --metrics {arguments.metrics},drift")
    return metrics


def _warn(pack: Pack) -> None:
    for path, reason in pack.skipped:
        print(f"warning: reference left out: {path}: {reason}", file=sys.stderr)


def _backbones(arguments: argparse.Namespace) -> Backbones:
    from eval.backbones import choose_backbones

    return choose_backbones(
        arguments.backbones, arguments.weights, lpips_net=arguments.lpips_net, clip_iqa_model=arguments.clip_iqa_model
    )


def _options(arguments: argparse.Namespace, pack: Pack) -> Options:
    from eval.cache import default_folder
    from eval.report import Options

    return Options(
        protocol=arguments.protocol,
        candidates=_candidates(arguments.clip_r_prompts, pack.path),
        candidates_from=arguments.clip_r_prompts,
        cache=None if arguments.no_cache else arguments.cache or default_folder(),
        workers=arguments.workers,
        batch=arguments.batch,
        rounds=arguments.bootstrap,
        copy_threshold=arguments.copy_threshold,
        minimum=arguments.minimum,
        drift=tuple(arguments.drift) if arguments.drift else None,
        strict=arguments.strict,
    )


def _candidates(path: Path | None, pack: Path) -> tuple[str, ...]:
    """CLIP-R's words: a line each; those of the pack's own list where no file is named; none where there is no list."""
    file = path or pack / "clip_r_prompts.txt"
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        if path is None:
            return ()
        raise UserError(f"--clip-r-prompts: {path} is missing; give a text file with one word a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--clip-r-prompts: {file} cannot be read ({error}); give UTF-8 text, one word a line") from None
    return tuple(line.strip() for line in lines if line.strip())


def _run(
    matching: Matching,
    metrics: list[str],
    backbones: Backbones,
    options: Options,
    arguments: argparse.Namespace,
    pack: Pack,
) -> Run:
    from eval.scoring import score

    expected = sum(len(files.found) + len(files.style.images) for files in matching.styles)
    progress = None
    if sys.stderr.isatty():
        from jdiff_style.progress import Progress

        progress = Progress("scoring", expected)
    run = score(matching, metrics, backbones, options, progress.update if progress else None)
    if progress:
        progress.close()
    run.report["pack"] = str(arguments.pack)
    skipped = [{"path": str(path), "reason": reason} for path, reason in pack.skipped]
    run.report["references_left_out"] = skipped + run.report["references_left_out"]
    return run


def _plan(matching: Matching, metrics: list[str], arguments: argparse.Namespace, backbones: Backbones) -> str:
    from eval.scoring import prepare

    found = sum(len(files.found) for files in matching.styles)
    left = prepare(metrics, backbones, arguments.drift is not None)
    computed = [name for name in metrics if name not in left]
    refused = [f"{name} ({reason})" for name, reason in left.items()]
    return (
        f"would score {found} of {matching.expected} pictures in {len(matching.styles)} styles, protocol "
        f"{arguments.protocol}\ncomputed: {', '.join(computed) or 'nothing'}\n"
        f"not computed: {', '.join(refused) or 'nothing'}"
    )


def _write_json(report: dict, path: Path | None) -> bool:
    """Write or print the report; True when it went to standard output, where the text is then left out."""
    if path is None:
        return False
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
        return True
    _write(path, text, "--json")
    return False


def _write(path: Path, text: str, option: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # A file name that is no UTF-8 becomes an escape that JSON can read.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{option}: {path} cannot be written ({error.strerror}); choose another file") from error
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
