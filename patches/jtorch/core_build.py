"""The first start: compile Jittor's core once, under a lock, in a process of its own, with one progress line.

Jittor prints hundreds of lines and forks a pool of compilers while it builds. Here that happens in a child whose output
goes to a log file, so that the program that asked only shows
``Compiling Jittor's core, once, two to three minutes: 42/150``.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from .toolchain import StartupError, check_cache, find_compiler, probe_compiler

#: What the child runs. It gets the paths through the environment of :func:`jtorch.startup.build_core_here`.
_CHILD = "from jtorch.startup import build_core_here; build_core_here()"
_STEP = re.compile(r"Compiling (jittor_core)\((\d+)/(\d+)\)")
_OBJECTS = 150  # of the core in Jittor 1.3.11.0, shown until Jittor says its own number
_POLL_SECONDS = 0.25
#: Exit code of a child in which Jittor rebuilt the library that it had loaded: a second one goes on from there.
AGAIN = 75


def stamp_path(cache: Path, fingerprint: str) -> Path:
    """File that is there once the core for this fingerprint has been compiled and tried."""
    return cache / "jtorch" / f"core-{fingerprint}.json"


def is_built(cache: Path, fingerprint: str) -> bool:
    """Whether the core is compiled: the stamp was written for this very folder and the two libraries it names are there.

    In a cache that was moved or copied Jittor rebuilds its helper library at the next import and ends the process.
    """
    try:
        stamp = json.loads(stamp_path(cache, fingerprint).read_text(encoding="utf-8"))
        return stamp["cache"] == str(cache) and all(Path(name).is_file() for name in stamp["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_stamp(cache: Path, fingerprint: str, files: list[str]) -> None:
    """Record ``files`` as complete; atomic, so a kill leaves the old stamp or none."""
    path = stamp_path(cache, fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    stamp = {"cache": str(cache), "files": files, "built": time.strftime("%Y-%m-%dT%H:%M:%S")}
    fresh.write_text(json.dumps(stamp), encoding="utf-8")
    os.replace(fresh, path)


def ensure_core(cache: Path, fingerprint: str) -> None:
    """Compile the core if it is not there yet; waits if another process is doing it.

    The lock is inherited by the compiling child, so that it also holds while a child outlives a killed parent.
    Raises StartupError (one sentence; the log file is named when the build failed).
    """
    if is_built(cache, fingerprint):
        return
    folder = cache / "jtorch"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"core-{fingerprint}.log"
    progress = Progress(log)
    with open(folder / f"core-{fingerprint}.lock", "w", encoding="utf-8") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress.show()  # the other process writes the same log
                time.sleep(_POLL_SECONDS)
        if is_built(cache, fingerprint):
            progress.finish()
            return
        check_cache(cache.parent.parent, building=True)
        probe_compiler(find_compiler(), folder)
        _run_child(log, lock.fileno(), progress)
    if not is_built(cache, fingerprint):
        raise StartupError(f"Jittor's core was compiled but is not where it should be; the log is {log}")
    progress.finish()


def _run_child(log: Path, lock_fd: int, progress: Progress) -> None:
    environment = dict(os.environ)
    here = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, environment.get("PYTHONPATH")]))
    for _ in range(2):
        with open(log, "w", encoding="utf-8") as output:
            child = subprocess.Popen(
                [sys.executable, "-u", "-c", _CHILD],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=(lock_fd,),
                start_new_session=True,  # Ctrl-C reaches us, and we end the whole group of compilers
            )
        try:
            while child.poll() is None:
                progress.show()
                time.sleep(_POLL_SECONDS)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)  # finished objects stay, the next start goes on from there
            child.wait()
            progress.stop()
            raise
        if child.returncode != AGAIN:
            break
    if child.returncode != 0:
        progress.stop()
        raise StartupError(f"Jittor's core did not compile ({_first_error(log)}); the whole output is in {log}")


def _first_error(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    plain = [re.sub(r"\x1b\[[0-9;]*[mK]", "", line).strip() for line in lines]
    for pattern in ("No space left", "error:", "Error"):
        for line in plain:
            if pattern in line:
                return line[:200]
    return next((line[:200] for line in reversed(plain) if line), "no output")


class Progress:
    """One line on standard error, rewritten in place on a terminal, written once at start and end elsewhere."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.began = time.monotonic()
        self.shown = False
        self.terminal = sys.stderr is not None and sys.stderr.isatty()

    def show(self) -> None:
        """Draw the state that the log file tells of."""
        done, total = self._state()
        text = f"Compiling Jittor's core, once, two to three minutes: {done}/{total}"
        if self.terminal:
            self._write(f"\r{text} ({time.monotonic() - self.began:.0f} s)\x1b[K")
        elif not self.shown:
            self._write("Compiling Jittor's core, once, two to three minutes\n")
        self.shown = True

    def finish(self) -> None:
        """End the line with the time it took."""
        if self.shown:
            text = f"Compiled Jittor's core in {time.monotonic() - self.began:.0f} s"
            self._write(f"\r{text}\x1b[K\n" if self.terminal else f"{text}\n")

    def stop(self) -> None:
        """End the line without a result."""
        if self.shown and self.terminal:
            self._write("\n")

    def _state(self) -> tuple[int, int]:
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.path.getsize(self.log) - 8192))
                steps = _STEP.findall(file.read().decode("utf-8", "replace"))
        except OSError:
            steps = []
        return (int(steps[-1][1]), int(steps[-1][2])) if steps else (0, _OBJECTS)

    @staticmethod
    def _write(text: str) -> None:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
