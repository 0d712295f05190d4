"""The `jdiff` command: train, export, make-tiny-base, doctor, generate, score, leaderboard.

Only the chosen subcommand's libraries are imported, so `jdiff --help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

import jdiff_style
from jdiff_style.errors import Interrupted, UserError

FORWARDED = {
    "doctor": ("jdiff_style.doctor", "check this machine: versions, compiler, device, a ten-second self-test"),
    "generate": ("jdiff_style.parallel", "draw pictures for every style and prompt of a pack"),
    "score": ("eval.score", "score generated pictures against a pack"),
    "leaderboard": ("eval.leaderboard", "keep scored runs side by side"),
}


def build_parser(stage: str = "lora") -> argparse.ArgumentParser:
    """The argument parser with one subcommand per verb; the fields of the stage's recipe become options of `train`."""
    parser = argparse.ArgumentParser(prog="jdiff", description="Packed multi-style LoRA: train, generate, score.")
    parser.add_argument("--version", action="version", version=f"jdiff {jdiff_style.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_train(verbs, stage)
    export = verbs.add_parser(
        "export",
        help="write the model of a vae, clip or base run to a folder, from its newest checkpoint",
        description="Write the model of a run to a new folder (float16, with SHA256SUMS), from its newest checkpoint.",
    )
    export.add_argument("run", type=Path, metavar="RUN", help="run folder of `jdiff train` with stage vae, clip or base")
    export.add_argument("folder", type=Path, metavar="DIR", help="folder to create")
    tiny = verbs.add_parser(
        "make-tiny-base",
        help="write a small random-weight Stable Diffusion for trials",
        description="Write a small random-weight Stable Diffusion in diffusers layout.",
    )
    tiny.add_argument("folder", type=Path, metavar="DIR", help="folder to create")
    tiny.add_argument(
        "--prediction-type",
        choices=["epsilon", "v_prediction"],
        default="epsilon",
        help="what its UNet predicts: epsilon as SD 1.5, v_prediction as SD 2.1 (default: %(default)s)",
    )
    tiny.add_argument(
        "--seed", type=int, default=None, metavar="INT", help="seed of the weights (default: a fixed one)"
    )
    for verb, (_, text) in FORWARDED.items():
        # Their own parsers read what follows, --help included.
        verbs.add_parser(verb, help=text, add_help=False)
    return parser


def _add_train(verbs: Any, stage: str) -> None:
    from jdiff_style import schema
    from jdiff_style.recipe import kind_of

    kind = kind_of(stage)
    train = verbs.add_parser(
        "train",
        help="train what a recipe describes: a packed LoRA over all styles of a pack, or a base model from scratch",
        description=f"Train what a recipe describes. Shown are the fields of stage {stage}; for another stage's give "
        "--stage lora (a packed LoRA, the default), vae, clip, base or decoder (a base model from scratch) before --help. "
        "The last line on standard output is the run folder.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    main = train.add_argument_group("main")
    source = main.add_mutually_exclusive_group()
    source.add_argument(
        "--recipe", type=Path, metavar="FILE", help="YAML file with the fields below", default=argparse.SUPPRESS
    )
    source.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the run in this folder", default=argparse.SUPPRESS
    )
    main.add_argument("--dry-run", action="store_true", help="print the resolved recipe and stop")
    train.set_defaults(kind=kind)
    groups = {"main": main}
    for name, field in schema.fields_of(kind).items():
        meta = field.metadata
        if meta["group"] not in groups:
            groups[meta["group"]] = train.add_argument_group(meta["group"])
        group = groups[meta["group"]]
        span = schema.value_range(kind, name)
        default = schema.shown(field.default)
        text = (meta["doc"] + (f" [{span}]" if span else "") + f" (default: {default})").replace("%", "%%")
        option = "--" + name.replace("_", "-")
        if schema.value_type(kind, name)[0] is bool:
            group.add_argument(option, dest=name, action=argparse.BooleanOptionalAction, help=text)
        else:
            # The recipe checks values, so that a file and the command line give the same message.
            group.add_argument(option, dest=name, metavar=meta["unit"] or None, help=text)


def _stage_of(arguments: list[str]) -> str:
    """The stage that a command line for `train` is about: from its recipe, its run folder or `--stage`."""
    from jdiff_style.recipe import kind_of, read_recipe

    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--recipe", "--resume", "--stage"):
        peek.add_argument(option, nargs="?")
    known = peek.parse_known_args(arguments)[0]
    stage = known.stage
    if known.recipe and known.resume:
        return "lora"  # wrong usage, which the full parser reports
    if stage is None and known.resume and (Path(known.resume) / "recipe.yaml").is_file():
        stage = read_recipe(Path(known.resume) / "recipe.yaml").get("stage")
    elif stage is None and known.recipe:
        stage = read_recipe(Path(known.recipe)).get("stage")
    kind_of(stage or "lora")
    return stage or "lora"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one `jdiff` command and return its exit code: 0, 1 for what the user can mend, 2 for wrong usage, 130 for
    Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _set_up_logging()
    try:
        if arguments and arguments[0] in FORWARDED:
            return _forward(arguments[0], arguments[1:])
        stage = _stage_of(arguments[1:]) if arguments[:1] == ["train"] else "lora"
        options = build_parser(stage).parse_args(arguments)
        return {"train": _train, "export": _export, "make-tiny-base": _make_tiny_base}[options.verb](options)
    except UserError as error:
        print(f"jdiff: {'' if isinstance(error, Interrupted) else 'error: '}{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "jdiff: stopped. What was saved before stays valid; `jdiff train --resume RUN` goes on with a training run",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141


class _StandardError(logging.Handler):
    """Writes plain messages to whatever `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)


def _set_up_logging() -> None:
    for name in ("jdiff_style", "eval"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not logger.handlers:
            logger.addHandler(_StandardError())
    for noisy in ("diffusers", "transformers", "accelerate", "PIL", "jittor"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _forward(verb: str, arguments: list[str]) -> int:
    module_name, _ = FORWARDED[verb]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise UserError(
            f"{verb}: {module_name} is not part of this installation; run from a complete checkout"
        ) from None
    return int(module.main(arguments) or 0)


def _train(options: argparse.Namespace) -> int:
    from jdiff_style import launched, schema
    from jdiff_style.recipe import make_recipe, read_recipe, to_yaml

    known = schema.fields_of(options.kind)
    overrides = {name: value for name, value in vars(options).items() if name in known}
    overrides = {
        name: None if isinstance(value, str) and value.lower() == "none" and known[name].default is None else value
        for name, value in overrides.items()
    }
    if "resume" in options:
        stored = read_recipe(options.resume / "recipe.yaml") if (options.resume / "recipe.yaml").is_file() else {}
        recipe = make_recipe({**stored, **overrides}, "command line")
    else:
        stored = read_recipe(options.recipe) if "recipe" in options else {}
        recipe = make_recipe(stored, str(getattr(options, "recipe", "recipe")))
        recipe = make_recipe({**stored, **overrides}, "command line")
    if getattr(options, "dry_run", False):
        print(to_yaml(recipe), end="")
        return 0
    others = contextlib.ExitStack()
    if (place := launched.place()) is not None:
        if recipe.stage != "lora":
            raise UserError(f"{place.launcher}: only a LoRA's training is shared; start stage {recipe.stage} without it")
        launched.claim_gpu(place, recipe.device)
        from jdiff_style.train_worker import follow_rank_0, leading

        _quiet_libraries()
        if place.rank:
            return follow_rank_0(place)
        overrides["processes"] = place.size
        recipe = make_recipe({**stored, **overrides}, "command line")
        others.enter_context(leading(place))
    from jdiff_style.launch import resume_run, start_run
    from jdiff_style.runs import show_path

    _quiet_libraries()
    with others:
        run = resume_run(options.resume, overrides) if "resume" in options else start_run(recipe)
    print(show_path(run))
    return 0


def _export(options: argparse.Namespace) -> int:
    from jdiff_style.pretrain_launch import export_run

    _quiet_libraries()
    print(export_run(options.run.expanduser(), options.folder.expanduser()))
    return 0


def _make_tiny_base(options: argparse.Namespace) -> int:
    from jdiff_style.tiny_base import SEED, make_tiny_base

    _quiet_libraries()
    folder = make_tiny_base(
        options.folder.expanduser(), options.prediction_type, SEED if options.seed is None else options.seed
    )
    print(folder)
    return 0


def _quiet_libraries() -> None:
    """Keep the libraries' own bars and notices out of the output; warnings that matter come from our own code."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
