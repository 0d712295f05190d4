"""Starting a new training run and going on with an earlier one."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any, Optional

from jdiff_style import checkpoint, grid, lora, runs, schema
from jdiff_style.base import check_base, resolve_base
from jdiff_style.errors import Interrupted, UserError
from jdiff_style.packs import Pack, load_pack
from jdiff_style.recipe import Recipe, make_recipe, read_recipe, to_yaml
from jdiff_style.train import Trainer, pick_device

log = logging.getLogger(__name__)

# What may change between the parts of one run. Everything else decides the weights and must stay.
RESUMABLE = {
    "steps",
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
        from jdiff_style.pretrain_launch import start_pretraining

        return start_pretraining(recipe)
    pack = read_pack(recipe)
    out = Path(recipe.out).expanduser()
    pick_device(recipe.device)
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
    recipe, before = stored_recipe(run.expanduser(), overrides or {})
    run = run.expanduser()
    if recipe.stage != "lora":
        from jdiff_style.pretrain_launch import resume_pretraining

        return resume_pretraining(run, recipe, before)
    refuse_changes(recipe, before, RESUMABLE)
    pack = read_pack(recipe)
    base = Path(recipe.base)
    check_base(base)
    refuse_other_inputs(run, recipe, {"pack": pack.fingerprint(), "base": runs.base_fingerprint(base)})
    with runs.locked(run):
        found = checkpoint.newest_good(run)
        start = found[0] if found else 0
        refuse_fewer_steps(run, recipe, start)
        # Nothing is written before this line, so a refused command leaves the run as it was.
        if recipe != before:
            runs.write_text(run / runs.RECIPE_FILE, to_yaml(recipe))
        grid_missing = recipe.grid_styles > 0 and not (run / runs.GRID_FILE).is_file()
        if start == recipe.steps and (run / lora.LORA_FILE).is_file() and not grid_missing:
            log.info("%s is finished: %d of %d steps", runs.show_path(run), start, recipe.steps)
            return run
        trainer = Trainer(recipe, pack, base)
        if found:
            trainer.restore(found[1])
        log.info("going on after step %d of %d", start, recipe.steps)
        _work(trainer, run, start)
    return run


def stored_recipe(run: Path, overrides: dict[str, Any]) -> tuple[Any, Any]:
    """(the run's recipe with `overrides`, the recipe as it is stored); UserError if the folder is not a run."""
    file = run / runs.RECIPE_FILE
    if not file.is_file():
        raise UserError(
            f"--resume must point to a run folder with {runs.RECIPE_FILE}, such as outputs/00003-…; got {run}"
        )
    stored = read_recipe(file)
    return make_recipe({**stored, **overrides}, str(file)), make_recipe(stored, str(file))


def refuse_changes(recipe: Any, before: Any, resumable: set[str]) -> None:
    """UserError if the recipes differ in a field outside `resumable`."""
    for name in schema.fields_of(type(before)):
        if name not in resumable and getattr(recipe, name) != getattr(before, name):
            raise UserError(
                f"--resume: {name} cannot change from {getattr(before, name)!r} to {getattr(recipe, name)!r}; "
                f"only {', '.join(sorted(resumable))} can. Start a new run for another {name}"
            )


def refuse_fewer_steps(run: Path, recipe: Any, done: int) -> None:
    """UserError if the recipe ends before the `done` steps of the run's newest checkpoint."""
    if done > recipe.steps:
        raise UserError(f"steps: {recipe.steps} is below the {done} that {run} has done already; give {done} or more")


def refuse_other_inputs(run: Path, recipe: Any, now: dict[str, str], doing: str = "--resume") -> None:
    """UserError if what the run was made from (field name -> fingerprint) is not the same any more."""
    try:
        inputs = json.loads((run / runs.VERSIONS_FILE).read_text(encoding="utf-8"))["inputs"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{run / runs.VERSIONS_FILE} is missing or damaged, so the run cannot be continued safely"
        ) from None
    for name, fingerprint in now.items():
        if inputs.get(name) != fingerprint:
            raise UserError(
                f"{doing}: {name} {getattr(recipe, name)} has changed since the run began; "
                "restore it or start a new run"
            )


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
    check_base(base)
    return base


def _work(trainer: Trainer, run: Path, start: int) -> None:
    recipe = trainer.recipe
    try:
        with checkpoint.disk_trouble(run, "the log"):
            trainer.train(run, start)
        with checkpoint.disk_trouble(run, "the result"):
            trainer.write_result(run)
            if recipe.grid_styles > 0:
                grid.draw_grid(trainer.base.pipeline(), trainer.pack, recipe, run / runs.GRID_FILE, trainer.device)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped. {runs.how_to_resume(run)}") from None
