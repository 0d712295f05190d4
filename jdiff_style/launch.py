"""Starting a new training run and going on with an earlier one."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any, Optional

from jdiff_style import checkpoint, data_parallel, grid, pretrain_launch, resume, runs
from jdiff_style.base import resolve_base
from jdiff_style.errors import Interrupted, UserError
from jdiff_style.lora_files import LORA_FILE, write_strengths
from jdiff_style.model_folder import check_model_folder
from jdiff_style.packs import Pack, load_pack
from jdiff_style.recipe import Recipe, to_yaml
from jdiff_style.train import Trainer, pick_device

log = logging.getLogger(__name__)

# What may change between the parts of one run. Everything else decides the weights and must stay.
RESUMABLE = {
    "steps",
    "processes",
    "checkpoint_every",
    "keep_checkpoints",
    "grid_styles",
    "grid_words",
    "grid_steps",
    "grid_guidance",
}


def start_run(recipe: Any) -> Path:
    """Train a new run and return its folder. The run folder is made only after pack and base model are known to be
    good. `recipe` is of any stage.

    Raises UserError for anything the user can mend, Interrupted after Ctrl-C.
    """
    if recipe.stage != "lora":
        return pretrain_launch.start_pretraining(recipe)
    pack = read_pack(recipe)
    out = Path(recipe.out).expanduser()
    pick_device(recipe.device)
    data_parallel.check(recipe.processes, recipe.batch_size, recipe.device)
    base = _base_folder(recipe, out)
    fixed = dataclasses.replace(recipe, pack=str(pack.path.resolve()), base=str(base.resolve()))
    inputs = {"pack": pack.fingerprint(), "base": runs.base_fingerprint(base)}
    trainer = Trainer(fixed, pack, base)
    run = runs.create_run(
        out,
        f"pack{len(pack.styles)}-r{trainer.rank}-{runs.short_name(base)}",
        {runs.RECIPE_FILE: to_yaml(fixed), runs.VERSIONS_FILE: json.dumps(runs.versions(inputs), indent=2) + "\n"},
    )
    log.info("run folder: %s", runs.show_path(run))
    with runs.locked(run):
        _work(trainer, run, 0)
    return run


def resume_run(run: Path, overrides: Optional[dict[str, Any]] = None) -> Path:
    """Go on with a run from its newest good checkpoint (from step 0 if it has none) and return its folder.

    `overrides` may change the fields in `RESUMABLE`, for example raise `steps`. Raises UserError if the folder is not a
    run, another field is to change, or pack or base model are not the same any more.
    """
    recipe, before = resume.stored_recipe(run.expanduser(), overrides or {})
    run = run.expanduser()
    if recipe.stage != "lora":
        return pretrain_launch.resume_pretraining(run, recipe, before)
    resume.refuse_changes(recipe, before, RESUMABLE)
    data_parallel.check(recipe.processes, recipe.batch_size, recipe.device)
    pack = read_pack(recipe)
    base = Path(recipe.base)
    check_model_folder(base, "base")
    resume.refuse_other_inputs(run, recipe, {"pack": pack.fingerprint(), "base": runs.base_fingerprint(base)})
    with runs.locked(run):
        found = checkpoint.newest_good(run)
        start = found[0] if found else 0
        resume.refuse_fewer_steps(run, recipe, start)
        # Nothing is written before this line, so a refused command leaves the run as it was.
        if recipe != before:
            runs.write_text(run / runs.RECIPE_FILE, to_yaml(recipe))
        grid_missing = recipe.grid_styles > 0 and not (run / runs.GRID_FILE).is_file()
        if start == recipe.steps and (run / LORA_FILE).is_file() and not grid_missing:
            log.info("%s is finished: %d of %d steps", runs.show_path(run), start, recipe.steps)
            return run
        trainer = Trainer(recipe, pack, base)
        if found:
            trainer.restore(found[1])
        log.info("going on after step %d of %d", start, recipe.steps)
        _work(trainer, run, start)
    return run


def load_trainer(run: Path, start: int) -> Trainer:
    """The run's trainer as it was after step `start`, for a process that helps with it; UserError if that is not stored."""
    recipe, _ = resume.stored_recipe(run, {})
    trainer = Trainer(recipe, read_pack(recipe), Path(recipe.base))
    if start:
        step, folder = checkpoint.newest_good(run) or (0, run)
        if step != start:
            raise UserError(f"{run}: the newest good checkpoint is that of step {step}, not {start}")
        trainer.restore(folder)
    return trainer


def read_pack(recipe: Recipe) -> Pack:
    """The recipe's pack; skipped pictures are named in the log with a count."""
    if recipe.pack is None:
        raise UserError("pack: none given; name a folder with --pack, for example data/packs/sample")
    pack = load_pack(recipe.pack, recipe.strict)
    for file, reason in pack.skipped:
        log.warning("skipped %s: %s", file, reason)
    if pack.skipped:
        log.warning(
            "%d picture file%s skipped; --strict refuses them", len(pack.skipped), "s" * (len(pack.skipped) > 1)
        )
    return pack


def _base_folder(recipe: Recipe, out: Path) -> Path:
    if recipe.base == "tiny":
        log.info("base: tiny random-weight model (its pictures are noise)")
    try:
        base = resolve_base(recipe.base, out)
    except OSError as error:
        raise UserError(f"out: cannot write in {out}: {error.strerror}; choose another folder with --out") from None
    check_model_folder(base, "base")
    return base


def _work(trainer: Trainer, run: Path, start: int) -> None:
    recipe = trainer.recipe
    try:
        with checkpoint.disk_trouble(run, "how much noise drafts get"):
            write_strengths(run, trainer.strengths)
        processes = data_parallel.started(run, start, recipe.processes, recipe.device)
        with checkpoint.disk_trouble(run, "the log"), processes as group:
            trainer.train(run, start, group)
        with checkpoint.disk_trouble(run, "the result"):
            trainer.write_result(run)
            if recipe.grid_styles > 0:
                pipeline, strengths = trainer.base.pipeline(), trainer.strengths
                grid.draw_grid(pipeline, trainer.pack, recipe, run / runs.GRID_FILE, trainer.device, strengths)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped. {runs.how_to_resume(run)}") from None
