"""What ``scripts/infer_parallel.py`` will do: its options checked and turned into a list of pictures."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jdiff_style import runs
from jdiff_style.errors import UserError
from jdiff_style.generate import SamplingOptions
from jdiff_style.lora_files import LORA_FILE, lora_file, read_strengths
from jdiff_style.model_folder import check_model_folder
from jdiff_style.packs import Pack, load_pack
from jdiff_style.pictures import is_whole_picture, safe_name
from jdiff_style.prompts import ExpansionIndex, PromptOptions, build_prompts
from jdiff_style.provenance import make_record, refuse_mixture
from jdiff_style.recipe import read_recipe
from jdiff_style.workers import Job, WorkerSetup


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
        steps=arguments.steps,
        guidance=arguments.guidance,
        scheduler=arguments.scheduler,
        seed=arguments.seed,
        height=arguments.height,
        width=arguments.width,
        lora_scale=arguments.lora_scale,
        draft_strength=arguments.draft_strength,
        draft_strengths=arguments.draft_strengths,
        draft_guidance=arguments.draft_guidance,
    )
    prompting = PromptOptions(
        template=arguments.template,
        repeat=arguments.repeat,
        hypernyms=arguments.hypernyms,
        different=arguments.different,
        negative=arguments.negative,
        draft=arguments.draft or "",
        drafts=arguments.drafts,
    )
    if (prompting.negative or prompting.different) and sampling.guidance <= 1:
        raise UserError(f"--guidance: {sampling.guidance} is 1 or less, so a negative prompt would do nothing; raise it")
    if prompting.draft and int(sampling.steps * sampling.draft_strength) < 1:
        raise UserError(f"--draft-strength: {sampling.draft_strength} leaves none of {sampling.steps} steps; raise either")
    check_model_folder(arguments.base, "--base")
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
            notes.append(
                f"{len(lacking)} of {len({job.prompt.word for job in jobs})} words have no entry in llm_prompt.json"
            )
    existing = [job for job in jobs if is_whole_picture(job.path)]
    record = make_record(
        base=arguments.base,
        lora=lora,
        pack=arguments.pack,
        dtype=arguments.dtype,
        sampling=sampling,
        prompting=prompting,
        prompts=[job.prompt for job in jobs],
    )
    there = [] if arguments.overwrite else existing
    kept = {id(job) for job in there}
    if there:
        refuse_mixture(arguments.out, record, [job.prompt for job in there])
    setup = WorkerSetup(arguments.base, lora, sampling, arguments.device, arguments.dtype, bool(prompting.draft))
    return Plan(arguments.out, jobs, there, [job for job in jobs if id(job) not in kept], setup, record, notes)


def plan_jobs(
    pack: Pack, out: Path, options: PromptOptions, styles: str | None = None, limit: int | None = None
) -> list[Job]:
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
        raise UserError(
            f"--pack: {pack.path} has no prompt words for {styles or 'any style'}; add a prompt.json to each style"
        )
    return jobs


def _with_run(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments with what ``--run`` says filled in where nothing else was given."""
    filled = argparse.Namespace(**vars(arguments), drafts={}, draft_strengths={})
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
                    f"--run: {arguments.run} has no {LORA_FILE}; finish it with "
                    f"`jdiff train --resume {arguments.run}`, or give a checkpoint of it with --lora"
                )
            filled.lora = arguments.run
        if filled.height is None and filled.width is None:
            filled.height = filled.width = recipe.get("resolution")
        if filled.draft is None:
            filled.drafts = recipe.get("draft_templates") or {}
        for name, own in (
            ("template", "caption_template"),
            ("guidance", "grid_guidance"),
            ("draft", "draft_template"),
            ("draft_strength", "draft_strength"),
            ("draft_guidance", "draft_guidance"),
        ):
            if getattr(filled, name) is None:
                setattr(filled, name, recipe.get(own))
        if filled.draft and arguments.draft_strength is None:
            filled.draft_strengths = read_strengths(arguments.run)
    if filled.guidance is None:
        filled.guidance = SamplingOptions.guidance
    if filled.draft_strength is None:
        filled.draft_strength = SamplingOptions.draft_strength
    for name, what in (("base", "the base model's folder"), ("pack", "the style pack")):
        if getattr(filled, name) is None:
            raise UserError(f"--{name} is missing; give {what}, or --run with a run folder")
    return filled


def _lora_file(path: Path) -> Path:
    file = lora_file(path)
    if not file.is_file():
        raise UserError(f"--lora: {file} is not there; give {LORA_FILE} or the folder that holds it")
    return file


def describe(plan: Plan) -> str:
    """The plan for people, as ``--dry-run`` prints it."""
    lines = [
        f"{name}: {value}" for name, value in {**plan.record["paths"], **dataclasses.asdict(plan.setup.sampling)}.items()
    ]
    first = {job.prompt.style: job for job in reversed(plan.jobs)}
    lines += [
        f"{job.path}: {job.prompt.positive!r}" + (f", negative {job.prompt.negative!r}" if job.prompt.negative else "")
        + (f", from {job.prompt.draft!r}" if job.prompt.draft else "")
        for job in reversed(first.values())
    ]
    lines += [f"note: {note}" for note in plan.notes]
    lines.append(f"would draw {len(plan.todo)} of {len(plan.jobs)} pictures; {len(plan.there)} are there")
    return "\n".join(lines)
