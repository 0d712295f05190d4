"""What a run must keep so that it can be continued, whatever it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jdiff_style import runs, schema
from jdiff_style.errors import UserError
from jdiff_style.recipe import make_recipe, read_recipe


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
