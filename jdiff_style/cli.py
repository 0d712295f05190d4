"""The `jdiff` command: train, make-tiny-base, doctor, generate, score.

Only the chosen subcommand's libraries are imported, so `jdiff --help` answers at once.
"""

from __future__ import annotations

import argparse
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
}


def build_parser() -> argparse.ArgumentParser:
    """The argument parser with one subcommand per verb; the fields of a recipe become options of `train`."""
    parser = argparse.ArgumentParser(prog="jdiff", description="Packed multi-style LoRA: train, generate, score.")
    parser.add_argument("--version", action="version", version=f"jdiff {jdiff_style.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_train(verbs)
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


def _add_train(verbs: Any) -> None:
    from jdiff_style.recipe import FIELDS, value_range, value_type

    train = verbs.add_parser(
        "train",
        help="train a packed LoRA over all styles of a pack",
        description="Train a packed LoRA. The last line on standard output is the run folder.",
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
    groups = {"main": main}
    for name, field in FIELDS.items():
        meta = field.metadata
        group = groups.setdefault(
            meta["group"], train.add_argument_group(meta["group"]) if meta["group"] not in groups else main
        )
        span = value_range(name)
        default = (
            "none"
            if field.default is None
            else str(field.default).lower()
            if value_type(name)[0] is bool
            else field.default
        )
        text = (meta["doc"] + (f" [{span}]" if span else "") + f" (default: {default})").replace("%", "%%")
        option = "--" + name.replace("_", "-")
        if value_type(name)[0] is bool:
            group.add_argument(option, dest=name, action=argparse.BooleanOptionalAction, help=text)
        else:
            # The recipe checks values, so that a file and the command line give the same message.
            group.add_argument(option, dest=name, metavar=meta["unit"] or None, help=text)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one `jdiff` command and return its exit code: 0, 1 for what the user can mend, 2 for wrong usage, 130 for
    Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _set_up_logging()
    try:
        if arguments and arguments[0] in FORWARDED:
            return _forward(arguments[0], arguments[1:])
        options = build_parser().parse_args(arguments)
        return _train(options) if options.verb == "train" else _make_tiny_base(options)
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
    from jdiff_style.recipe import FIELDS, make_recipe, read_recipe, to_yaml

    overrides = {name: value for name, value in vars(options).items() if name in FIELDS}
    overrides = {
        name: None if isinstance(value, str) and value.lower() == "none" and FIELDS[name].default is None else value
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
    from jdiff_style.launch import resume_run, start_run
    from jdiff_style.runs import show_path

    _quiet_libraries()
    run = resume_run(options.resume, overrides) if "resume" in options else start_run(recipe)
    print(show_path(run))
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
