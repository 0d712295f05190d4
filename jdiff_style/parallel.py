"""The command ``scripts/infer_parallel.py``: a picture for every style and prompt word of a pack.

Writes ``<out>/<style>/<prompt word>.png``, the challenge's layout. What is there already is skipped, so a run that was
stopped, killed or ran out of disk goes on where it was; ``<out>/generation.json`` remembers how the pictures were made,
so that pictures of different settings never mix unnoticed.

This process checks, deals out work and reports; it never imports torch. The workers are in :mod:`jdiff_style.workers`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jdiff_style import runs
from jdiff_style.errors import UserError
from jdiff_style.generate import DEVICES, DTYPES, SCHEDULERS, SamplingOptions, check_base
from jdiff_style.packs import Pack, load_pack
from jdiff_style.pictures import contact_sheet, is_whole_picture, remove_leftovers, safe_name, save_picture
from jdiff_style.progress import Progress
from jdiff_style.prompts import ExpansionIndex, PromptOptions, build_prompts
from jdiff_style.provenance import make_record, refuse_mixture, write_record
from jdiff_style.recipe import read_recipe
from jdiff_style.workers import Job, Outcome, WorkerSetup, run_jobs

LORA_FILE = "pytorch_lora_weights.safetensors"
GRID_FILE = "grid.png"
GRID_COLUMNS = 12


@dataclass(frozen=True)
class Plan:
    """A checked command: everything that is to be done, nothing done yet.

    Attributes:
        out: the output folder.
        jobs: every wanted picture.
        there: those whose file is whole and is kept.
        todo: those to draw.
        setup: what the workers load.
        record: what generation.json will say.
        notes: remarks for the user, one sentence each.
    """

    out: Path
    jobs: list[Job]
    there: list[Job]
    todo: list[Job]
    setup: WorkerSetup
    record: dict[str, Any]
    notes: list[str]


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
    main.add_argument("--run", type=Path, metavar="FOLDER", help="run folder from training: gives base, LoRA, size and template")
    main.add_argument("--base", type=Path, metavar="FOLDER", help="base model in diffusers layout, if not that of --run")
    main.add_argument("--lora", type=Path, metavar="FILE", help="LoRA in diffusers format, or its folder, if not that of --run")
    main.add_argument("--pack", type=Path, metavar="FOLDER", help="style pack with the prompt words, if not that of --run")
    main.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="where the pictures go")
    main.add_argument("--styles", metavar="NAMES", help="only these styles, a comma list such as 00,07")
    main.add_argument("--limit", type=int, metavar="WORDS", help="only the first so many prompt words of each style")
    main.add_argument("--dry-run", action="store_true", help="check everything, print what would be drawn, and stop")
    prompt = parser.add_argument_group("prompts")
    prompt.add_argument("--template", metavar="TEXT", help="e.g. 'an image of {object} in {trigger}'; also {style} {hypernyms} "
                        "{tags}; without one: trigger, style tags, object, hypernyms")
    prompt.add_argument("--repeat", type=int, default=1, metavar="TIMES", help="write the object word so many times")
    prompt.add_argument("--hypernyms", type=int, default=3, metavar="WORDS", help="append up to so many hypernyms of the object "
                        "out of the pack's llm_prompt.json; 0 for none")
    prompt.add_argument("--different", action="store_true", help="its 'different' words become the negative prompt")
    prompt.add_argument("--negative", default="", metavar="TEXT", help="negative prompt of every picture")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--steps", type=int, default=50, metavar="STEPS", help="noise scheduler steps, 1 to 1000")
    sampling.add_argument("--guidance", type=float, default=7.5, metavar="SCALE", help="guidance scale; 1 turns it off")
    sampling.add_argument("--scheduler", default="saved", metavar="NAME", help=f"saved (the base's own), {', '.join(SCHEDULERS)}")
    sampling.add_argument("--seed", type=int, default=0, metavar="INT", help="every picture's noise follows from it")
    sampling.add_argument("--height", type=int, metavar="PIXELS", help="a multiple of 8; without it, the run's or the base's size")
    sampling.add_argument("--width", type=int, metavar="PIXELS", help="likewise")
    sampling.add_argument("--lora-scale", type=float, default=1.0, metavar="FACTOR", help="how much of the LoRA; 1 as trained")
    speed = parser.add_argument_group("performance")
    speed.add_argument("--workers", type=int, default=1, metavar="PROCESSES", help="each holds a whole model in memory")
    speed.add_argument("--batch", type=int, default=4, metavar="PICTURES", help="drawn together by one worker")
    speed.add_argument("--threads", type=int, metavar="THREADS", help="OpenMP threads of a worker; without it OMP_NUM_THREADS, "
                       "or else cores / workers")
    speed.add_argument("--device", choices=DEVICES, default="auto", help="auto: CUDA where usable")
    speed.add_argument("--dtype", choices=DTYPES, default="float32", help="of weights and computation; float16 for CUDA only")
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


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Check the whole command and find out what is to be drawn; writes nothing.

    Raises:
        UserError: anything the user has to correct.
    """
    for name, least in (("workers", 1), ("batch", 1), ("threads", 1), ("limit", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"--{name}: {value} is below {least}; use {least} or more")
    arguments = _with_run(arguments)
    notes: list[str] = []
    if arguments.dtype == "float16" and arguments.device == "cpu":
        raise UserError("--dtype: float16 needs a CUDA device; use float32 or bfloat16 on the CPU")
    sampling = SamplingOptions(
        steps=arguments.steps, guidance=arguments.guidance, scheduler=arguments.scheduler, seed=arguments.seed,
        height=arguments.height, width=arguments.width, lora_scale=arguments.lora_scale,
    )
    prompting = PromptOptions(
        template=arguments.template, repeat=arguments.repeat, hypernyms=arguments.hypernyms, different=arguments.different,
        negative=arguments.negative,
    )
    if (prompting.negative or prompting.different) and sampling.guidance <= 1:
        raise UserError(f"--guidance: {sampling.guidance} is 1 or less, so a negative prompt would do nothing; raise it")
    check_base(arguments.base)
    lora = _lora_file(arguments.lora) if arguments.lora is not None else None
    if lora is None:
        notes.append("no --run or --lora: these are pictures of the base model alone")
    pack = load_pack(arguments.pack)
    notes += [f"reference left out: {path}: {reason}" for path, reason in pack.skipped]
    jobs = plan_jobs(pack, arguments.out, prompting, arguments.styles, arguments.limit)
    if prompting.hypernyms or prompting.different:
        index = ExpansionIndex(pack.expansions)
        lacking = {job.prompt.word for job in jobs if job.prompt.word not in index}
        if pack.expansions and lacking:
            notes.append(f"{len(lacking)} of {len({job.prompt.word for job in jobs})} words have no entry in llm_prompt.json")
    existing = [job for job in jobs if is_whole_picture(job.path)]
    record = make_record(
        base=arguments.base, lora=lora, pack=arguments.pack, dtype=arguments.dtype, sampling=sampling, prompting=prompting,
        prompts=[job.prompt for job in jobs],
    )
    there = [] if arguments.overwrite else existing
    kept = {id(job) for job in there}
    if there:
        refuse_mixture(arguments.out, record, [job.prompt for job in there])
    setup = WorkerSetup(arguments.base, lora, sampling, arguments.device, arguments.dtype)
    return Plan(arguments.out, jobs, there, [job for job in jobs if id(job) not in kept], setup, record, notes)


def plan_jobs(pack: Pack, out: Path, options: PromptOptions, styles: str | None = None, limit: int | None = None) -> list[Job]:
    """One job per style and distinct prompt word, in the pack's order.

    Args:
        pack: styles and prompt words.
        out: the output folder.
        options: how prompts are written.
        styles: comma list of style names; None for all.
        limit: at most so many words of each style.

    Raises:
        UserError: an unknown style, a style or word that cannot name a file inside ``out``, or nothing to draw.
    """
    names = [style.id for style in pack.styles]
    wanted = names if styles is None else [name.strip() for name in styles.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise UserError(f"--styles: {name!r} is not in the pack; it has {shown}")
    jobs: list[Job] = []
    counts: dict[str, int] = {}
    for prompt in build_prompts(pack, options):
        if prompt.style not in wanted:
            continue
        folder = out / safe_name(prompt.style, "", f"style {prompt.style}")
        path = folder / safe_name(prompt.word, ".png", f"style {prompt.style}, prompt {prompt.key}")
        counts[prompt.style] = counts.get(prompt.style, 0) + 1
        if limit is None or counts[prompt.style] <= limit:
            jobs.append(Job(prompt, path))
    if not jobs:
        raise UserError(f"--pack: {pack.path} has no prompt words for {styles or 'any style'}; add a prompt.json to each style")
    return jobs


def _with_run(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments with what ``--run`` says filled in where nothing else was given."""
    filled = argparse.Namespace(**vars(arguments))
    if arguments.run is not None:
        recipe_file = arguments.run / runs.RECIPE_FILE
        if not recipe_file.is_file():
            raise UserError(f"--run: {arguments.run} has no {runs.RECIPE_FILE}; give a run folder made by training")
        recipe = read_recipe(recipe_file)
        for name in ("base", "pack"):
            if getattr(filled, name) is None and recipe.get(name):
                setattr(filled, name, Path(recipe[name]))
        if filled.lora is None:
            if not (arguments.run / LORA_FILE).is_file():
                raise UserError(
                    f"--run: {arguments.run} has no {LORA_FILE}; finish it with `jdiff train --resume {arguments.run}`, "
                    "or give a checkpoint of it with --lora"
                )
            filled.lora = arguments.run
        if filled.height is None and filled.width is None:
            filled.height = filled.width = recipe.get("resolution")
        if filled.template is None:
            filled.template = recipe.get("caption_template")
    for name, what in (("base", "the base model's folder"), ("pack", "the style pack")):
        if getattr(filled, name) is None:
            raise UserError(f"--{name} is missing; give {what}, or --run with a run folder")
    return filled


def _lora_file(path: Path) -> Path:
    file = path / LORA_FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"--lora: {file} is not there; give {LORA_FILE} or the folder that holds it")
    return file


def describe(plan: Plan) -> str:
    """The plan for people, as ``--dry-run`` prints it."""
    lines = [f"{name}: {value}" for name, value in {**plan.record["paths"], **dataclasses.asdict(plan.setup.sampling)}.items()]
    first = {job.prompt.style: job for job in reversed(plan.jobs)}
    lines += [f"{job.path}: {job.prompt.positive!r}" + (f", negative {job.prompt.negative!r}" if job.prompt.negative else "")
              for job in reversed(first.values())]
    lines += [f"note: {note}" for note in plan.notes]
    lines.append(f"would draw {len(plan.todo)} of {len(plan.jobs)} pictures; {len(plan.there)} are there")
    return "\n".join(lines)


def _run(plan: Plan, arguments: argparse.Namespace) -> int:
    _prepare(plan)
    if plan.todo:
        progress = Progress("drawing", len(plan.todo))
        batches = [plan.todo[start : start + arguments.batch] for start in range(0, len(plan.todo), arguments.batch)]
        shown = -1.0

        def show(done: float) -> None:
            nonlocal shown
            # At 0 again and again: the clock of the ETA starts when the model is loaded.
            if done > shown or done == 0:
                shown = done
                progress.update(int(done) if done == int(done) else round(done, 1))

        show(0)
        try:
            outcome = run_jobs(batches, plan.setup, arguments.workers, worker_threads(arguments), show)
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
    """OpenMP threads of a worker: as asked, or None to leave OMP_NUM_THREADS as it is set, or its share of the cores."""
    if arguments.threads is not None:
        return arguments.threads
    if os.environ.get("OMP_NUM_THREADS"):
        return None
    return max(1, len(os.sched_getaffinity(0)) // arguments.workers)


def report(plan: Plan, outcome: Outcome) -> int:
    """Say what came of the plan and return the exit code."""
    if outcome.cut:
        names = [f"{prompt.style}/{prompt.word}" for prompt in outcome.cut]
        print(f"note: {len(names)} prompts are longer than the text encoder reads and were cut: {_some(names)}", file=sys.stderr)
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
    print(f"{len(plan.there) + len(outcome.saved)} of {len(plan.jobs)} pictures in {plan.out} ({len(plan.there)} were there)")
    return 1 if outcome.problems or left else 0


def _write_grid(plan: Plan) -> None:
    rows: dict[str, list[tuple[str, Path]]] = {}
    for job in plan.jobs:
        row = rows.setdefault(job.prompt.style, [])
        if len(row) < GRID_COLUMNS:
            row.append((job.prompt.word, job.path))
    try:
        save_picture(contact_sheet(list(rows.items())), plan.out / GRID_FILE)
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
