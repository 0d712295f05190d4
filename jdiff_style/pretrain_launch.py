"""Starting a run that trains from scratch, going on with one, and writing its model to a folder."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from jdiff_style import checkpoint, resume, runs
from jdiff_style.errors import Interrupted, UserError
from jdiff_style.pretrain import BY_SESSION, Pretrainer, make_stage, note_session, result_steps
from jdiff_style.pretrain_recipe import PretrainRecipe
from jdiff_style.pretrain_stage import RESULT
from jdiff_style.recipe import to_yaml

log = logging.getLogger(__name__)

FOLDERS = ("data", "vae", "clip", "base", "measure")
# What may change between the parts of one run. Folders may move: their content is checked.
RESUMABLE = {
    *FOLDERS,
    *BY_SESSION,
    "checkpoint_every",
    "keep_checkpoints",
    "validate_every",
    "validate_images",
    "sample_words",
    "sample_steps",
    "sample_guidance",
}


def start_pretraining(recipe: PretrainRecipe) -> Path:
    """Train a new run and return its folder, which is made only after all inputs are known to be good.

    Raises UserError for anything the user can mend, Interrupted after Ctrl-C.
    """
    given: dict[str, Any] = {name: getattr(recipe, name, None) for name in FOLDERS}
    places: dict[str, Any] = {name: str(Path(place).expanduser().resolve()) for name, place in given.items() if place}
    fixed = dataclasses.replace(recipe, **places)
    trainer = Pretrainer(make_stage(fixed))
    for name, part in trainer.stage.parts.items():
        log.info("%s: %.2f million weights", name, sum(p.numel() for p in part.parameters()) / 1e6)
    inputs = trainer.stage.inputs()
    run = runs.create_run(
        Path(recipe.out).expanduser(),
        f"{recipe.stage}-{runs.short_name(Path(fixed.data or ''))}",
        {runs.RECIPE_FILE: to_yaml(fixed), runs.VERSIONS_FILE: json.dumps(runs.versions(inputs), indent=2) + "\n"},
    )
    log.info("run folder: %s", runs.show_path(run))
    with runs.locked(run):
        _work(trainer, run, 0)
    return run


def resume_pretraining(run: Path, recipe: PretrainRecipe, before: PretrainRecipe) -> Path:
    """Go on with a run from its newest good checkpoint (from step 0 if it has none) and return its folder.

    Raises UserError if a field outside `RESUMABLE` or an input has changed.
    """
    resume.refuse_changes(recipe, before, RESUMABLE)
    with runs.locked(run):
        found = checkpoint.newest_good(run)
        start = found[0] if found else 0
        resume.refuse_fewer_steps(run, recipe, start)
        stage = make_stage(recipe)
        resume.refuse_other_inputs(run, recipe, stage.inputs())
        # Nothing is written before this line, so a refused command leaves the run as it was.
        if recipe != before:
            runs.write_text(run / runs.RECIPE_FILE, to_yaml(recipe))
        if start == recipe.steps and result_steps(run) == start:
            log.info("%s is finished: %d of %d steps", runs.show_path(run), start, recipe.steps)
            return run
        _put_aside(run)
        trainer = Pretrainer(stage)
        if found:
            trainer.restore(found[1])
        log.info("going on after step %d of %d", start, recipe.steps)
        _work(trainer, run, start)
    return run


def export_run(run: Path, folder: Path) -> Path:
    """Write the model of a run, as of its newest good checkpoint, to the new folder `folder` and return it.

    Raises UserError if the folder exists, `run` is no such run, has no checkpoint yet, is at work in another process, or
    if what it was made from has changed.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already; name a new folder or remove it first")
    recipe, _ = resume.stored_recipe(run, {})
    if recipe.stage == "lora":
        raise UserError(f"{run} trained a LoRA, whose file is in the run folder; runs that train from scratch are exported")
    with runs.locked(run):  # a run at work removes old checkpoints, perhaps the one being read
        found = checkpoint.newest_good(run)
        if found is None:
            raise UserError(f"{run} has no checkpoint yet. {runs.how_to_resume(run)}")
        stage = make_stage(recipe)
        resume.refuse_other_inputs(run, recipe, stage.inputs(), "export")
        trainer = Pretrainer(stage)
        trainer.restore(found[1])
        with checkpoint.disk_trouble(run, f"the model to {folder}"):
            trainer.write_result(run, folder, found[0])
    return folder


def _put_aside(run: Path) -> None:
    """Rename the result of fewer steps, so that nobody takes it for that of the run which now goes on."""
    if (run / RESULT).is_dir():
        aside = run / f"{RESULT}-before"
        shutil.rmtree(aside, ignore_errors=True)
        (run / RESULT).rename(aside)
        log.info("the result of %s steps is now in %s", result_steps(run, aside.name), runs.show_path(aside))


def _work(trainer: Pretrainer, run: Path, start: int) -> None:
    try:
        with checkpoint.disk_trouble(run, "the log"):
            note_session(run, trainer.recipe, trainer.stage.device, start)
            trainer.stage.prepare(run)
            trainer.train(run, start)
        with checkpoint.disk_trouble(run, "the result"):
            trainer.write_result(run, run / RESULT, trainer.recipe.steps)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped. {runs.how_to_resume(run)}") from None
