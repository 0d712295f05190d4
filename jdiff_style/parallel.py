"""The command ``scripts/infer_parallel.py``: a picture for every style and prompt word of a pack.

Writes ``<out>/<style>/<prompt word>.png``, the challenge's layout. What is there already is skipped, so a run that was
stopped, killed or ran out of disk goes on where it was; ``<out>/generation.json`` remembers how the pictures were made,
so that pictures of different settings never mix unnoticed.

This process checks (:mod:`jdiff_style.plan`), deals out work and reports; it never imports torch. The workers are in
:mod:`jdiff_style.workers`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jdiff_style.errors import UserError
from jdiff_style.generate import DEVICES, DTYPES, SCHEDULERS, SamplingOptions, in_batches
from jdiff_style.gpus import usable_gpus
from jdiff_style.pictures import Row, Tile, contact_sheet, remove_leftovers, save_picture
from jdiff_style.plan import Plan, describe, make_plan
from jdiff_style.progress import Progress
from jdiff_style.provenance import write_record
from jdiff_style.workers import Outcome, run_jobs

GRID_FILE = "grid.png"
GRID_COLUMNS = 12


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not those that say nothing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or action.default is False or action.default == ""
        return action.help if silent or action.default == argparse.SUPPRESS else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="infer_parallel.py",
        description="Draw a picture for every style and prompt word of a pack: <out>/<style>/<prompt word>.png. "
        "Pictures that are there are kept; run the same command again to go on.",
        formatter_class=_HelpFormatter,
    )
    main = parser.add_argument_group("main")
    main.add_argument(
        "--run", type=Path, metavar="FOLDER", help="run folder from training: gives base, LoRA, size, guidance and template"
    )
    main.add_argument("--base", type=Path, metavar="FOLDER", help="base model in diffusers layout, if not that of --run")
    main.add_argument(
        "--lora", type=Path, metavar="FILE",
        help="LoRA in diffusers format, or its folder, if not that of --run; with the decoder_lora.safetensors beside it",
    )  # fmt: skip
    main.add_argument("--pack", type=Path, metavar="FOLDER", help="style pack with the prompt words, if not that of --run")
    main.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="where the pictures go")
    main.add_argument("--styles", metavar="NAMES", help="only these styles, a comma list such as 00,07")
    main.add_argument("--limit", type=int, metavar="WORDS", help="only the first so many prompt words of each style")
    main.add_argument("--dry-run", action="store_true", help="check everything, print what would be drawn, and stop")
    prompt = parser.add_argument_group("prompts")
    prompt.add_argument(
        "--template",
        metavar="TEXT",
        help="e.g. 'an image of {object} in {trigger}'; also {style} {hypernyms} "
        "{tags}; without one: trigger, style tags, object, hypernyms",
    )
    prompt.add_argument("--repeat", type=int, default=1, metavar="TIMES", help="write the object word so many times")
    prompt.add_argument(
        "--hypernyms",
        type=int,
        default=3,
        metavar="WORDS",
        help="append up to so many hypernyms of the object out of the pack's llm_prompt.json; 0 for none",
    )
    prompt.add_argument("--different", action="store_true", help="its 'different' words become the negative prompt")
    prompt.add_argument("--negative", default="", metavar="TEXT", help="negative prompt of every picture")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--steps", type=int, default=50, metavar="STEPS", help="noise scheduler steps, 1 to 1000")
    sampling.add_argument(
        "--guidance",
        type=float,
        metavar="SCALE",
        help="guidance scale, 1 turns it off; without it, that of the run's grid, or 7.5",
    )
    sampling.add_argument(
        "--scheduler", default="saved", metavar="NAME", help=f"saved (the base's own), {', '.join(SCHEDULERS)}"
    )
    sampling.add_argument("--seed", type=int, default=0, metavar="INT", help="every picture's noise follows from it")
    sampling.add_argument(
        "--height", type=int, metavar="PIXELS", help="a multiple of 8; without it, the run's or the base's size"
    )
    sampling.add_argument("--width", type=int, metavar="PIXELS", help="likewise")
    sampling.add_argument(
        "--lora-scale", type=float, default=1.0, metavar="FACTOR", help="how much of the LoRA; 1 as trained"
    )
    sampling.add_argument(
        "--draft",
        metavar="TEXT",
        help="the base alone draws this first, for example 'a photo of {object}', and the picture is made from it; "
        "without it those of the run's recipe, '' for none. A worker then holds two models",
    )
    sampling.add_argument(
        "--draft-strength",
        type=float,
        metavar="FACTOR",
        help="noise on a draft: at 1 nothing is left of it, near 0 it stays; without it that of the run, by style, or "
        f"{SamplingOptions.draft_strength}",
    )
    sampling.add_argument(
        "--draft-guidance",
        type=float,
        metavar="SCALE",
        help="guidance scale of drafts; without it that of the run, or --guidance",
    )
    speed = parser.add_argument_group("performance")
    speed.add_argument(
        "--workers",
        type=int,
        metavar="PROCESSES",
        help="each holds a whole model in memory and sees one GPU; without it one for each GPU, or 1 on the CPU",
    )
    speed.add_argument("--batch", type=int, default=4, metavar="PICTURES", help="drawn together by one worker")
    speed.add_argument(
        "--threads",
        type=int,
        metavar="THREADS",
        help="OpenMP threads of a worker; without it OMP_NUM_THREADS, or else cores / workers",
    )
    speed.add_argument("--device", choices=DEVICES, default="auto", help="auto: CUDA where usable")
    speed.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of weights and computation; float16 for CUDA only"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--overwrite", action="store_true", help="delete and draw again what is there")
    output.add_argument("--grid", action="store_true", help=f"also write a contact sheet, <out>/{GRID_FILE}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its words without the program's name; those of the process if None.

    Returns:
        0 when every wanted picture is there, 1 for bad input or pictures that could not be drawn, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = build_parser().parse_args(argv)
    try:
        with _terminate_like_interrupt():
            plan = make_plan(arguments)
            if arguments.dry_run:
                print(describe(plan))
                return 0
            for note in plan.notes:
                print(f"note: {note}", file=sys.stderr)
            return _run(plan, arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped before any picture was drawn", file=sys.stderr)
        return 130


def _run(plan: Plan, arguments: argparse.Namespace) -> int:
    _prepare(plan)
    if plan.todo:
        progress = Progress("drawing", len(plan.todo))
        sampling = plan.setup.sampling
        batches = in_batches(plan.todo, arguments.batch, lambda job: sampling.strength(job.prompt.style))
        shown = -1.0

        def show(done: float) -> None:
            nonlocal shown
            # At 0 again and again: the clock of the ETA starts when the model is loaded.
            if done > shown or done == 0:
                shown = done
                progress.update(int(done) if done == int(done) else round(done, 1))

        show(0)
        try:
            gpus = usable_gpus(arguments.device)
            arguments.workers = arguments.workers or max(1, len(gpus))
            outcome = run_jobs(batches, plan.setup, arguments.workers, worker_threads(arguments), show, gpus)
        finally:
            progress.close()
    else:
        outcome = Outcome()
    if arguments.grid and not outcome.interrupted:
        _write_grid(plan)
    return report(plan, outcome)


def _prepare(plan: Plan) -> None:
    """Make the folders, clear leftovers of killed runs, write down the settings."""
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        for folder in sorted({job.path.parent for job in plan.jobs}):
            folder.mkdir(exist_ok=True)
            remove_leftovers(folder)
        for job in plan.todo:
            # Damaged files and, with --overwrite, old ones: from here on a file that is there is a new one.
            job.path.unlink(missing_ok=True)
        write_record(plan.out, plan.record)
    except OSError as error:
        where = error.filename or plan.out
        raise UserError(f"--out: cannot write {where} ({error.strerror}); choose another folder or free space") from error


def worker_threads(arguments: argparse.Namespace) -> int | None:
    """OpenMP threads of a worker: as asked, or None to leave OMP_NUM_THREADS as it is, or its share of the cores."""
    if arguments.threads is not None:
        return arguments.threads
    if os.environ.get("OMP_NUM_THREADS"):
        return None
    return max(1, len(os.sched_getaffinity(0)) // (arguments.workers or 1))


def report(plan: Plan, outcome: Outcome) -> int:
    """Say what came of the plan and return the exit code."""
    if outcome.cut:
        names = [f"{prompt.style}/{prompt.word}" for prompt in outcome.cut]
        print(
            f"note: {len(names)} prompts are longer than the text encoder reads and were cut: {_some(names)}",
            file=sys.stderr,
        )
    drawn = f"{len(outcome.saved)} of {len(plan.todo)} pictures drawn"
    left = len(outcome.lost) + len(outcome.not_started)
    for problem in outcome.problems:
        print(f"error: {problem}", file=sys.stderr)
    if outcome.interrupted:
        print(f"stopped: {drawn}, none is half-written; run the same command again to go on", file=sys.stderr)
        return 130
    if left:
        if outcome.lost:
            print(f"not drawn: {_some([job.name for job in outcome.lost], 32)}", file=sys.stderr)
        if outcome.not_started:
            print(f"not started: {_some([job.name for job in outcome.not_started])}", file=sys.stderr)
        print(f"{drawn}; run the same command again to draw the other {left}", file=sys.stderr)
    whole = len(plan.there) + len(outcome.saved)
    print(f"{whole} of {len(plan.jobs)} pictures in {plan.out} ({len(plan.there)} were there)")
    return 1 if outcome.problems or left else 0


def _write_grid(plan: Plan) -> None:
    tiles: dict[str, list[Tile]] = {}
    for job in plan.jobs:
        of_style = tiles.setdefault(job.prompt.style, [])
        if len(of_style) < GRID_COLUMNS:
            of_style.append(Tile(job.prompt.word, job.path))
    try:
        save_picture(contact_sheet([Row(style, [of_style]) for style, of_style in tiles.items()]), plan.out / GRID_FILE)
    except OSError as error:
        raise UserError(f"--grid: cannot write {plan.out / GRID_FILE} ({error.strerror}); the pictures are there") from error


@contextlib.contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does: workers ended, nothing half-written."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # called from another thread than the main one
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _some(names: Sequence[str], limit: int = 8) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
