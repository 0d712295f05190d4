"""The command line of scripts/make_emoji_data.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jdiff_style.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "data" / "build" / "emoji"
MANIFEST = ROOT / "data" / "emoji-manifest.json.gz"
PACKS = ROOT / "data" / "packs"
WORDS = ROOT / "data" / "recipes" / "emoji-words.txt"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Build the emoji pictures of the base model and of the packs: fetch the pinned sets, draw every "
        "object in five base styles and eight held-out ones, 128 px RGB on white. Stopped at any moment, it goes on "
        "with the style it was at; when all is there it does nothing.",
        epilog="Install what it needs: python3.11 -m venv .venv-emoji && .venv-emoji/bin/pip install -r "
        "scripts/emoji_requirements.txt; then run .venv-emoji/bin/python scripts/make_emoji_data.py",
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="build folder (data/build/emoji)")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="downloaded packages (packages/ in the build folder)")
    parser.add_argument(
        "--paintings", type=int, default=0, metavar="COUNT", help="also paint each object of --words in COUNT styles of the "
        "painting network that are in no pack, for the base to learn from"
    )  # fmt: skip
    parser.add_argument("--words", type=Path, default=WORDS, metavar="FILE", help="what is painted (emoji-words.txt)")
    parser.add_argument("--base-only", action="store_true", help="leave out the held-out styles")
    parser.add_argument("--check", action="store_true", help="compare the build with the committed manifest; draw nothing")
    parser.add_argument(
        "--release", action="store_true", help="then write the packs and the manifest that are committed from the build"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be drawn, and stop")
    options = parser.parse_args(arguments)
    if not 0 <= options.paintings <= 24:
        parser.error(f"--paintings: {options.paintings} is not between 0 and 24, the styles that there are")
    if options.base_only and (options.release or options.check):
        parser.error("--base-only leaves out pictures that --release and --check need; drop one of them")
    options.cache = options.cache or options.out / "packages"
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        return check(options) if options.check else make(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        return 130


def make(options: argparse.Namespace) -> int:
    from . import build, manifest, paintings, style_packs

    jobs = build.pending(options.out, options.base_only)
    if options.dry_run:
        for name, styles in jobs.items():
            print(f"would draw {build.FILES[name][0]} in {options.out}: {', '.join(style.key for style in styles)}")
    else:
        build.build(options.out, options.cache, jobs)
    painted = False
    if options.paintings and options.dry_run:
        print(f"would paint the objects of {options.words} in {options.paintings} styles each, if they are not there yet")
    elif options.paintings:
        painted = paintings.paint(options.out, options.cache, options.words, options.paintings)
    if not jobs and not painted:
        print(f"{options.out} is up to date")
    if options.release and not options.dry_run:
        manifest.write(manifest.describe(options.out), MANIFEST)
        style_packs.write_packs(options.out, PACKS)
        print(f"written: {MANIFEST}, {', '.join(str(PACKS / name) for name in style_packs.PACKS)}")
    return 0


def check(options: argparse.Namespace) -> int:
    from . import manifest

    notes, faults = manifest.compare(manifest.describe(options.out), manifest.read(MANIFEST))
    print("\n".join(notes))
    for fault in faults[:20]:
        print(f"  {fault}")
    if faults:
        raise UserError(f"{options.out} does not agree with {MANIFEST.name} in {len(faults)} places")
    print("the build agrees with the manifest")
    return 0
