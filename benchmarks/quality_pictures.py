"""What `quality.py` measures: training runs and drawn pictures, each made once and kept under a name that says from what.

A folder's name ends in a digest of everything that decides its content, so that nothing is measured that another base,
recipe or seed has made, and a stopped measurement goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Sequence

from jdiff_style import runs
from jdiff_style.checkpoint import sha256
from jdiff_style.drafts import load_drafter
from jdiff_style.errors import UserError
from jdiff_style.generate import SamplingOptions, choose_device, draw, in_batches, load_pipeline
from jdiff_style.hashes import SUMS_FILE
from jdiff_style.lora_files import LORA_FILE, decoder_file
from jdiff_style.packs import Pack
from jdiff_style.pictures import is_whole_picture, remove_leftovers, safe_name, save_picture
from jdiff_style.progress import Progress
from jdiff_style.prompts import Prompt
from jdiff_style.recipe import make_recipe, read_recipe, to_yaml

ROOT = Path(__file__).resolve().parents[1]
BATCH = 8
CARD_ENDINGS = {".md", ".png"}  # a model's card may change, its pictures do not


def digest(*parts: Any) -> str:
    """Twelve hex digits of anything that JSON can write."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def model_digest(folder: Path) -> str:
    """A digest of a model folder's files, cards left out."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix not in CARD_ENDINGS and f.name != SUMS_FILE)
    return digest([[file.relative_to(folder).as_posix(), sha256(file)] for file in files])


def draw_all(
    base: Path, lora: Path | None, prompts: Sequence[Prompt], options: SamplingOptions, out: Path, label: str, device: str
) -> dict[tuple[str, str], Path]:
    """Draw what is missing, in batches; (style, word) -> file, for every prompt.

    Raises:
        UserError: the base or the LoRA cannot be used, or the disk is full.
    """
    asked = [[prompt.style, prompt.word, prompt.positive, prompt.negative, prompt.draft] for prompt in prompts]
    weights = [sha256(file) for file in (lora, decoder_file(lora)) if file] if lora else None
    made_of = digest(model_digest(base), weights, dataclasses.asdict(options), sorted(asked))
    folder = out / f"{label}-{made_of}"
    files = {
        (prompt.style, prompt.word): folder / safe_name(prompt.style, "", "style") / safe_name(prompt.word, ".png", "word")
        for prompt in prompts
    }
    todo = [prompt for prompt in prompts if not is_whole_picture(files[prompt.style, prompt.word])]
    if not todo:
        return files
    pipeline = load_pipeline(base, lora, options, choose_device(device))
    drafter = load_drafter(base, options, choose_device(device)) if any(prompt.draft for prompt in prompts) else None
    progress = Progress(f"drawing {label}", len(prompts), len(prompts) - len(todo))
    try:
        for parent in {file.parent for file in files.values()}:
            parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(parent)
        done = len(prompts) - len(todo)
        for part in in_batches(todo, BATCH, lambda prompt: options.strength(prompt.style)):
            for prompt, picture in zip(part, draw(pipeline, part, options, drafter=drafter)):
                save_picture(picture, files[prompt.style, prompt.word])
            done += len(part)
            progress.update(done)
    except OSError as error:
        raise UserError(f"--out: cannot write {folder} ({error.strerror}); free space or choose another folder") from None
    progress.close()
    return files


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run: its folder, its recipe, and how long the command took, where it was not interrupted."""

    run: Path
    recipe: Any
    seconds: float | None

    @property
    def lora(self) -> Path:
        return self.run / LORA_FILE


def train(recipe_file: Path, changes: dict[str, Any], pack: Pack, out: Path) -> Trained:
    """The finished run of a recipe with `changes` (its fields), trained by the command unless it is there already.

    Raises:
        UserError: the command failed.
    """
    recipe = make_recipe({**read_recipe(recipe_file), **changes}, str(recipe_file))
    decisive = dataclasses.replace(recipe, out="-", base="-", pack="-", device="auto")
    made_of = digest(to_yaml(decisive, comments=False), model_digest(Path(recipe.base)), pack.fingerprint())
    folder = out / f"{recipe_file.stem}-seed{recipe.seed}-{made_of}"
    clock = folder / "seconds.json"
    found = sorted(folder.glob("[0-9]*-*"))
    began = time.monotonic()
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        words = [word for name, value in changes.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        _command(["train", "--recipe", str(recipe_file), *words, "--out", str(folder)])
        (run,) = folder.glob("[0-9]*-*")
        runs.write_text(clock, json.dumps({"seconds": time.monotonic() - began}) + "\n")
    else:
        run = found[-1]
        if not (run / LORA_FILE).is_file():
            _command(["train", "--resume", str(run)])
    seconds = json.loads(clock.read_text(encoding="utf-8"))["seconds"] if clock.is_file() else None
    return Trained(run, recipe, seconds)


def _command(words: list[str]) -> None:
    """Run `jdiff` in a process of its own with the same interpreter; its progress goes to standard error."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    line = [sys.executable, "-m", "jdiff_style.cli", *words]
    done = subprocess.run(line, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode < 0 or done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise UserError(f"`jdiff {' '.join(words)}` failed with exit code {done.returncode}; its message stands above")
