"""scripts/setup.sh: what it installs and in which order, what it does when run again, interrupted or twice at once, and
what it says when the machine lacks something.

Python and pip are small stand-ins that write down what they were asked, so nothing is downloaded.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "constraints.txt", "requirements.txt", "requirements-dev.txt", "requirements-reference.txt", "pyproject.toml",
    "patches/pyproject.toml", "scripts/setup.sh", "tests/reference/requirements-scorers.txt",
)  # fmt: skip
TOOLS = (
    "bash", "sh", "cat", "cp", "cut", "awk", "df", "dirname", "grep", "head", "mkdir", "mv", "rm", "sed", "sha256sum",
    "sleep",
)  # fmt: skip

PYTHON = """#!/bin/sh
case "$*" in
    *_base_executable*) [ -n "$FAKE_OLD" ] || echo "$0" ;;
    *"import ensurepip, venv") [ -z "$FAKE_NO_VENV" ] ;;
    *sysconfig*) echo "$FAKE_INCLUDE" ;;
    "-m venv "*)
        echo "venv" >>"$FAKE_LOG"
        mkdir -p "$3/bin" "$3/lib/python3.11/site-packages"
        cp "$FAKE_INSIDE" "$3/bin/python" ;;
    -) exec "$REAL_PYTHON" - ;;
    *) echo "stand-in for Python got: $*" >&2; exit 9 ;;
esac
"""
INSIDE = """#!/bin/sh
case "$*" in
    "-c "*"import sys, pip"*) exit 0 ;;
    "-c "*version*torch*) echo "$FAKE_TORCH" ;;
    "-c "*warm_up*) echo "warm" >>"$FAKE_LOG" ;;
    "-m pip "*)
        echo "$*" | sed 's/^-m pip --disable-pip-version-check --no-input //' >>"$FAKE_LOG"
        sleep "${FAKE_SECONDS:-0}"
        [ -z "$FAKE_ERROR" ] || { echo "ERROR: $FAKE_ERROR"; exit 1; } ;;
    *) echo "stand-in for the environment's Python got: $*" >&2; exit 9 ;;
esac
"""


class Checkout:
    """A copy of the files that setup.sh reads, with stand-ins for everything it runs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        for name in COPIED:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.script(self.bin / "python3.11", PYTHON)
        self.script(self.bin / "g++", "#!/bin/sh\n")
        self.log = folder / "calls"
        self.log.touch()
        home = folder / "home"
        home.mkdir()
        include = folder / "include"
        include.mkdir()
        (include / "Python.h").touch()
        self.environment = {
            "PATH": str(self.bin),
            "HOME": str(home),
            "FAKE_LOG": str(self.log),
            "FAKE_INCLUDE": str(include),
            "FAKE_INSIDE": str(self.script(folder / "inside", INSIDE)),
            "FAKE_TORCH": "2.2.2+jittor",
            "REAL_PYTHON": sys.executable,
        }

    @staticmethod
    def script(path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path

    def command(self, *arguments: str) -> list[str]:
        return [str(self.bin / "bash"), str(self.root / "scripts/setup.sh"), *arguments]

    def run(self, *arguments: str, cwd: str = "/", **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments),
            cwd=cwd,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return lines


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_our_torch_is_installed_before_anything_that_asks_for_torch(checkout):
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    calls = checkout.calls()
    assert calls[0] == "venv"
    assert calls[-1] == "warm"
    ours = next(index for index, call in enumerate(calls) if "-e ./patches" in call)
    libraries = next(index for index, call in enumerate(calls) if "-r requirements-dev.txt" in call)
    assert ours < libraries
    assert "-c constraints.txt" in calls[ours]
    listed = (checkout.root / ".venv/requirements.txt").read_text()
    assert "--constraint constraints.txt" in listed
    assert "torch==2.2.2+jittor" in (checkout.root / ".venv/constraints.txt").read_text()
    names = [re.split(r"[\s=<>~!;\[]", line)[0] for line in listed.splitlines()]
    assert "torchsde" in names  # one of those that ask for torch
    assert not {"torch", "./patches"} & set(names)


def test_a_second_run_installs_nothing_and_says_nothing(checkout):
    checkout.run()
    checkout.calls()
    began = time.monotonic()
    again = checkout.run(cwd=str(checkout.root))
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert checkout.calls() == ["warm"]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "constraints.txt", "patches/pyproject.toml", "pyproject.toml"]
)
def test_a_changed_requirement_is_installed(checkout, name):
    checkout.run()
    checkout.calls()
    with open(checkout.root / name, "a") as file:
        file.write("\n# changed\n")
    checkout.run()
    calls = checkout.calls()
    assert "venv" not in calls
    assert any("requirements-dev.txt" in call for call in calls)


def test_the_reference_environment_never_gets_our_torch(checkout):
    done = checkout.run("--reference", FAKE_TORCH="2.13.0+cpu")
    assert done.returncode == 0, done.stderr
    calls = checkout.calls()
    assert not any("patches" in call for call in calls)
    assert "warm" not in calls
    assert "install --no-build-isolation --no-deps -e ." in calls
    scorers = [call for call in calls if "requirements-scorers.txt" in call]
    assert len(scorers) == 1 and "--no-deps --target" in scorers[0]
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize(("kind", "torch"), [((), "2.13.0"), (("--reference",), "2.2.2+jittor")])
def test_the_wrong_torch_is_an_error(checkout, kind, torch):
    done = checkout.run(*kind, FAKE_TORCH=torch)
    assert done.returncode == 1
    assert f"has torch {torch}" in done.stderr
    assert not list(checkout.root.glob(".venv*/.setup-stamp"))


def test_a_failed_install_is_one_sentence_and_is_tried_again(checkout):
    done = checkout.run(FAKE_ERROR="No matching distribution found for setuptools")
    assert done.returncode == 1
    assert "No matching distribution found" in done.stderr
    assert ".setup-main.log" in done.stderr
    assert "Traceback" not in done.stderr
    checkout.calls()
    assert checkout.run().returncode == 0
    assert any("-e ./patches" in call for call in checkout.calls())


def test_a_full_disk_is_named(checkout):
    done = checkout.run(FAKE_ERROR="Could not install packages: [Errno 28] No space left on device")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("setup.sh: the disk of ")


def test_a_package_whose_install_was_killed_is_installed_again(checkout):
    checkout.run()
    packages = checkout.root / ".venv/lib/python3.11/site-packages"
    records = {"whole": "whole/x.py,,\nwhole-1.dist-info/INSTALLER,sha256=x,4\n", "half": "half/x.py,,\n", "bare": None}
    for name, record in records.items():
        (packages / f"{name}-1.dist-info").mkdir()
        if record is not None:
            (packages / f"{name}-1.dist-info/RECORD").write_text(record)
    (packages / "~ip").mkdir()
    (checkout.root / ".venv/.setup-stamp").unlink()  # as a killed run leaves it
    assert checkout.run().returncode == 0
    assert sorted(path.name for path in packages.iterdir()) == ["whole-1.dist-info"]


def test_a_broken_environment_is_made_anew(checkout):
    checkout.run()
    checkout.calls()
    (checkout.root / ".venv/bin/python").unlink()
    assert checkout.run().returncode == 0
    assert checkout.calls()[0] == "venv"


def test_two_at_once_install_once(checkout):
    environment = checkout.environment | {"FAKE_SECONDS": "0.3"}
    both = [subprocess.Popen(checkout.command(), env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    calls = checkout.calls()
    assert calls.count("venv") == 1
    assert sum("-e ./patches" in call for call in calls) == 1
    assert calls.count("warm") == 2


def test_without_a_compiler(checkout):
    (checkout.bin / "g++").unlink()
    assert_refused(checkout, checkout.run(), "install g++")


def test_without_python_headers(checkout):
    (Path(checkout.environment["FAKE_INCLUDE"]) / "Python.h").unlink()
    assert_refused(checkout, checkout.run(), "python3.11-dev")


def test_without_the_right_python(checkout):
    assert_refused(checkout, checkout.run(FAKE_OLD="1"), "Python 3.11 is needed")


def test_without_the_venv_module(checkout):
    assert_refused(checkout, checkout.run(FAKE_NO_VENV="1"), "python3.11-venv")


def test_with_an_unwritable_home(checkout):
    assert_refused(checkout, checkout.run(HOME="/proc/nowhere"), "JITTOR_HOME")


def test_with_too_little_space(checkout):
    (checkout.bin / "df").unlink()
    checkout.script(checkout.bin / "df", "#!/bin/sh\necho 'File 1M Used Avail'\necho 'disk 9 2 7 1% /'\n")
    assert_refused(checkout, checkout.run(), "7 MB are free")


def test_with_an_unknown_argument(checkout):
    assert_refused(checkout, checkout.run("--refrence"), "--refrence")


def assert_refused(checkout, done, part):
    """One sentence that contains ``part``, exit code 1, and nothing made."""
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert part in done.stderr
    assert checkout.calls() == []
    assert not (checkout.root / ".venv").exists()


def test_the_real_interpreter_has_its_headers():
    """The check for Python.h looks where Jittor will look."""
    assert os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h"))
