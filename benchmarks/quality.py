"""Measure what the embedded models and the default packed LoRA have to hold, one command a figure.

    python benchmarks/quality.py                        everything; hours on two cores the first time, minutes later
    python benchmarks/quality.py --only vae             PSNR of the autoencoder on held-out objects
    python benchmarks/quality.py --only clip            the small CLIP names true pictures
    python benchmarks/quality.py --only base            the base draws 200 words of its training and those held out
    python benchmarks/quality.py --only lora            the default recipe with three seeds: style, objects, score, truth
    python benchmarks/quality.py --only speed           the tiny recipe against the clock
    python benchmarks/quality.py --write-card           also put the tables into the models' cards

It runs in either environment. Seeds are fixed. Runs, pictures and features are kept below `--out` under names that say what
they were made from: a stopped measurement goes on where it was, and a changed model, recipe or pack is measured anew. Each
figure is printed with its goal and whether it was reached; `--json` gets all, per style and seed. The exit code is 0 if
every goal was reached.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any, Sequence

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path[0] = str(ROOT)

from benchmarks.quality_measures import Figure  # noqa: E402
from jdiff_style import runs  # noqa: E402
from jdiff_style.errors import UserError  # noqa: E402

PARTS = ("vae", "clip", "base", "lora", "speed")
DATA = ROOT / "data"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Measure the embedded models and the default packed LoRA against their goals.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    main = parser.add_argument_group("main")
    main.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                      help=f"some of {', '.join(PARTS)}")  # fmt: skip
    main.add_argument("--base", type=Path, default=DATA / "base" / "emoji-sd", metavar="FOLDER", help="the base model")
    main.add_argument("--clip", type=Path, default=DATA / "base" / "emoji-clip", metavar="FOLDER", help="the small CLIP")
    main.add_argument("--data", type=Path, default=DATA / "build" / "emoji", metavar="FOLDER", help="the true pictures")
    main.add_argument("--pack", type=Path, metavar="FOLDER", help="style pack with targets, if not the recipe's")
    main.add_argument("--recipe", type=Path, default=DATA / "recipes" / "emoji.yaml", metavar="FILE",
                      help="the default recipe")  # fmt: skip
    main.add_argument("--tiny-recipe", type=Path, default=DATA / "recipes" / "emoji-tiny.yaml", metavar="FILE",
                      help="that of the test suite")  # fmt: skip
    main.add_argument("--dry-run", action="store_true", help="print what would be measured and stop")
    how = parser.add_argument_group("measuring")
    how.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="INT", help="of training runs and pictures")
    how.add_argument("--words", type=int, default=200, metavar="WORDS", help="training words that base and CLIP are asked")
    how.add_argument("--limit", type=int, default=0, metavar="WORDS", help="of each style only so many words; 0 for all")
    how.add_argument("--style", default="noto", metavar="WORD", help="the base's own style that it draws in")
    how.add_argument("--steps", type=int, default=20, metavar="STEPS", help="noise scheduler steps of the base's pictures")
    how.add_argument("--guidance", type=float, default=3.0, metavar="SCALE", help="guidance scale of the base's pictures")
    how.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where pictures are drawn")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, default=ROOT / "outputs" / "quality", metavar="FOLDER", help="what is kept")
    output.add_argument("--json", type=Path, metavar="FILE", help="all figures; without it, quality.json in --out")
    output.add_argument("--write-card", action="store_true", help="put the figures into README.md of --base and --clip")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 if all goals were reached, 1 if not or for bad input, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        check(arguments)
        if arguments.dry_run:
            print("\n".join(f"{name}: {value}" for name, value in vars(arguments).items() if name != "dry_run"))
            return 0
        return measure(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be measured, before any work is done."""
    for name, least in (("words", 1), ("limit", 0), ("steps", 1)):
        if getattr(arguments, name) < least:
            raise UserError(f"--{name}: {getattr(arguments, name)} is below {least}; give {least} or more")
    if len(set(arguments.seeds)) < len(arguments.seeds):
        raise UserError(f"--seeds: {' '.join(map(str, arguments.seeds))} names one twice; give different seeds")
    spared = {"base": {"clip"}, "clip": {"vae", "speed"}, "data": {"speed"}}
    for name, parts in spared.items():
        folder = getattr(arguments, name)
        if set(arguments.only) - parts and not folder.is_dir():
            way_out = {"data": "build it with scripts/make_emoji_data.py"}.get(name, "train it or name another folder")
            raise UserError(f"--{name}: {folder} is not a folder; {way_out}")
    for name, part in (("recipe", "lora"), ("tiny_recipe", "speed")):
        if part in arguments.only and not getattr(arguments, name).is_file():
            raise UserError(f"--{name.replace('_', '-')}: {getattr(arguments, name)} is missing; name a recipe file")


def measure(arguments: argparse.Namespace) -> int:
    """Measure the parts one after the other; the report is written after each."""
    from benchmarks.quality_lora import measure_lora, measure_speed
    from benchmarks.quality_networks import Networks
    from benchmarks.quality_parts import Settings, measure_base, measure_clip, measure_vae
    from benchmarks.quality_pictures import digest, model_digest
    from jdiff_style.model_card import put_figures

    names = ("base", "clip", "data", "pack", "recipe", "tiny_recipe", "out", "device", "words", "limit", "style", "steps",
             "guidance")  # fmt: skip
    settings = Settings(**{name: getattr(arguments, name) for name in names}, seeds=tuple(arguments.seeds))
    parts = {"vae": measure_vae, "clip": measure_clip, "base": measure_base, "lora": measure_lora, "speed": measure_speed}
    file = arguments.json or arguments.out / "quality.json"
    folders = {name: getattr(arguments, name) for name in ("base", "clip")}
    models = digest({name: model_digest(folder) for name, folder in folders.items() if folder.is_dir()})
    report = read_report(file, models)
    networks = Networks(arguments.out / "cache", arguments.clip)
    passed = True
    for name in PARTS:
        if name not in arguments.only:
            continue
        figures = parts[name](settings, networks)
        for key, figure in figures.items():
            print("\n".join([line(f"{name}.{key}", figure), *style_lines(figure)]), flush=True)
            passed = passed and figure.passed is not False
        report["parts"][name] = {
            "figures": {key: figure.as_json() for key, figure in figures.items()},
            "settings": {key: getattr(settings, key) for key in ("seeds", "words", "limit", "style", "steps", "guidance")},
            "versions": runs.versions({}),
        }
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            runs.write_text(file, json.dumps(report, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"--json: {file} cannot be written ({error.strerror}); choose another file") from None
    if arguments.write_card:
        for folder, own in ((arguments.clip, {"clip"}), (arguments.base, set(PARTS) - {"clip"})):
            found = {name: part for name, part in report["parts"].items() if name in own}
            try:
                if found:
                    put_figures(folder, card_table({"parts": found}))
            except (OSError, ValueError) as error:
                raise UserError(f"--write-card: {error}; export the model with `jdiff export` first") from None
    return 0 if passed else 1


def read_report(file: Path, models: str) -> dict[str, Any]:
    """The figures in `file`, if they are of the same models; otherwise an empty report."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        if report["models"] == models and isinstance(report["parts"], dict):
            return report
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"models": models, "parts": {}}


def line(name: str, figure: Figure) -> str:
    """One figure for a person: its number, its goal, passed or missed."""
    word = {None: "      ", True: "passed", False: "MISSED"}[figure.passed]
    return f"{word}  {name}: {figure.text}: {value_text(figure.as_json())}{goal_text(figure.as_json(), ' (goal: {})')}"


def style_lines(figure: Figure) -> list[str]:
    """What the figure says of each style, a line each."""
    found = []
    for style, row in figure.details.get("per_style", {}).items():
        parts = row.items() if isinstance(row, dict) else [("", {"mean": row, "interval": None})]
        shown = {name: value_text({**value, "value": value["mean"]}) for name, value in parts if name != "tags"}
        found.append(f"          {style}: {', '.join(f'{name} {text}'.strip() for name, text in shown.items())}")
    return found


def value_text(row: dict[str, Any]) -> str:
    """`0.72 [0.70, 0.74]`, `27.1 dB`, or why there is no number."""
    if row["value"] is None:
        return f"not computed: {row.get('why', 'unknown')}"
    unit = f" {row['unit']}" if row.get("unit") else ""
    span = f" [{row['interval'][0]:.3g}, {row['interval'][1]:.3g}]" if row.get("interval") else ""
    return f"{row['value']:.4g}{unit}{span}"


def goal_text(row: dict[str, Any], form: str = "{}") -> str:
    """`at least 26 dB`, or nothing where there is no goal."""
    if "goal" not in row:
        return ""
    return form.format(f"{row['direction']} {row['goal']:.3g}" + (f" {row['unit']}" if row.get("unit") else ""))


def card_table(report: dict[str, Any]) -> str:
    """The figures of all measured parts as Markdown."""
    details = report["parts"].get("lora", {}).get("figures", {}).get("style", {}).get("details", {})
    seeds = ", ".join(map(str, details.get("seeds", ())))
    with_seeds = f", LoRAs with seed{'s' * (',' in seeds)} {seeds}" if seeds else ""
    lines = [f"Measured by `python benchmarks/quality.py`{with_seeds}; intervals are 95 % over seeds.", "",
             "| figure | value | goal | |", "|---|---|---|---|"]  # fmt: skip
    for part in report["parts"].values():
        for row in part["figures"].values():
            word = {None: "", True: "reached", False: "missed"}[row.get("passed")]
            lines.append(f"| {row['text']} | {value_text(row)} | {goal_text(row)} | {word} |")
    if styles := details.get("per_style", {}):
        names = [name for name in next(iter(styles.values())) if name != "tags"]
        lines += ["", f"| style | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for style, row in styles.items():
            cells = [value_text({**row[name], "value": row[name]["mean"]}) for name in names]
            lines.append(f"| {style}: {row['tags']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
