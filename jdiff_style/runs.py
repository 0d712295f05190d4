"""Run folders: `outputs/00003-pack28-r896-sd21/` with the recipe, the versions, the log and the result of one run."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any, Iterator

from jdiff_style.errors import UserError

RECIPE_FILE, VERSIONS_FILE, LOG_FILE, LOCK_FILE, GRID_FILE = (
    "recipe.yaml",
    "versions.json",
    "log.jsonl",
    ".lock",
    "grid.png",
)
PACKAGES = ["torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "numpy", "pillow", "jittor"]


def short_name(path: Path) -> str:
    """The folder's name reduced to letters, digits, dot and dash, at most 40 characters, for use in a run's name."""
    plain = unicodedata.normalize("NFKD", path.name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9.]+", "-", plain).strip("-.")[:40] or "base"


def create_run(out: Path, label: str, files: dict[str, str]) -> Path:
    """Make the next numbered folder `out/NNNNN-label` holding `files` (name -> text) and return it.

    The number is one above the highest there; two runs started at once get different numbers. The folder appears with
    its files already inside. Raises UserError if `out` cannot be written.
    """
    temporary = out / f".new-run-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        for name, text in files.items():
            write_text(temporary / name, text)
        with open(out / LOCK_FILE, "w") as lock:  # two runs started at once must not take the same number
            fcntl.flock(lock, fcntl.LOCK_EX)
            numbers = [int(m[1]) for p in out.iterdir() if (m := re.match(r"(\d{5,})-", p.name))]
            run = out / f"{max(numbers, default=-1) + 1:05d}-{label}"
            temporary.rename(run)
        return run
    except OSError as error:
        raise UserError(f"out: cannot write in {out}: {error.strerror}; choose another folder with --out") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace the file `path` in one step: after a crash it holds either the old or the new text."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_to_all(path: Path) -> None:
    """Give a file the permissions a newly made one has; newer safetensors writes files that only their owner can read.
    """
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run folder for this process; UserError if another process works on it. A killed holder frees it."""
    with open(run / LOCK_FILE, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{run}: another process is training this run; wait for it or stop it") from None
        yield


def versions(inputs: dict[str, str]) -> dict[str, Any]:
    """What produced a result: package versions, Python, machine type, git commit, command line, and `inputs` as given.
    """
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {
        "packages": found,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "git": git_commit(),
        "command": sys.argv,
        "inputs": inputs,
    }


def git_commit() -> dict[str, Any]:
    """`{"commit": sha or None, "changed": bool}` of the source tree this package runs from."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return {"commit": None, "changed": False}

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "--verify", "-q", "HEAD") or None,
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "changed": False}


def base_fingerprint(base: Path) -> str:
    """SHA-256 over the base model's configuration files and the sizes of its weight files (reading gigabytes would be
    slow). A model card and its pictures may change.
    """
    digest = hashlib.sha256()
    for file in sorted(base.rglob("*")):
        if file.is_file() and not file.name.startswith(".") and file.suffix not in (".md", ".png"):
            digest.update(f"{file.relative_to(base)} {file.stat().st_size}\n".encode())
            if file.suffix == ".json":
                digest.update(file.read_bytes())
    return digest.hexdigest()


class TrainingLog:
    """`log.jsonl`, one line per optimiser step. Opening it to go on at `step` drops what was logged after that step."""

    def __init__(self, run: Path, step: int):
        self.path = run / LOG_FILE
        kept = []
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, KeyError):  # a killed process can leave half a line at the end
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
        write_text(self.path, "".join(kept))
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()

    def add(self, **values: Any) -> None:
        """Append one line; numbers are written so that they read back exactly."""
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def show_path(path: Path) -> str:
    """The path relative to the current folder where it lies inside it, otherwise absolute."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path.resolve())


def how_to_resume(run: Path) -> str:
    """The sentence that says how to go on with an interrupted run."""
    return f"Go on with: jdiff train --resume {shlex.quote(show_path(run))}"
