"""What Jittor needs from the machine, looked at before Jittor itself is imported.

Every function here either finds its part or raises :class:`StartupError` with one sentence that says what to install or
free. Nothing here imports jittor, so ``jdiff doctor`` can call all of it on a machine where Jittor cannot start.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

#: Jittor looks for exactly this folder name and downloads the archive when its lib/libmkldnn.so is missing.
ONEDNN_FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"
ONEDNN_WHEELS = "onednn-cpu-gomp==2021.2.0 onednn-devel-cpu-gomp==2021.2.0"
#: The compiled core is about 45 MB, the precompiled header 70 MB, kernels come on top; below this a build is not begun.
MIN_FREE_BYTES = 600 * 2**20


class StartupError(ImportError):
    """Jittor cannot start here; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class OneDNN:
    """Folders that hold ``dnnl.hpp`` and ``libmkldnn.so``."""

    include: Path
    lib: Path


def jittor_folder() -> Path:
    """Folder of the installed ``jittor`` package, found without importing it."""
    try:
        files = metadata.distribution("jittor").locate_file("jittor")
    except metadata.PackageNotFoundError:
        raise StartupError("Jittor is not installed: pip install jittor==1.3.11.0") from None
    return Path(str(files))


def cache_home() -> Path:
    """The folder whose ``.cache/jittor`` holds everything compiled: ``$JITTOR_HOME``, else where Jittor's own
    ``~/.cache/jittor/config.json`` points, else the home folder.

    Jittor writes that config.json whenever JITTOR_HOME differs from the default, and from then on every program without
    the variable is redirected too. This function reads the file and nothing here ever writes it.
    """
    home = Path(os.environ.get("JITTOR_HOME") or _redirect(Path.home()) or Path.home()).absolute()
    further = _redirect(home)
    if further is not None and Path(further).absolute() != home:
        raise StartupError(
            f"{home / '.cache/jittor/config.json'} sends Jittor's cache on to {further}: delete that file, "
            f"or set JITTOR_HOME={further}"
        )
    return home


def _redirect(home: Path) -> str | None:
    config = home / ".cache" / "jittor" / "config.json"
    try:
        value = json.loads(config.read_text(encoding="utf-8")).get("JITTOR_HOME")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise StartupError(f"{config} cannot be read ({error}): delete that file") from None
    return str(value) if value else None


def check_cache(home: Path, *, building: bool) -> Path:
    """``home/.cache/jittor``, made if missing. Raises StartupError when it cannot be written or, with ``building``,
    when less than 600 MB are free there."""
    folder = home / ".cache" / "jittor"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartupError(
            f"Jittor keeps compiled code in {folder}, which cannot be written ({reason}): free space there, make it "
            "writable or set JITTOR_HOME to a folder that is"
        ) from None
    if any(character.isspace() for character in str(folder)):
        raise StartupError(f"Jittor cannot compile in a path with blanks ({folder}): set JITTOR_HOME to one without")
    if building:
        free = shutil.disk_usage(folder).free
        if free < MIN_FREE_BYTES:
            raise StartupError(
                f"compiling Jittor needs {MIN_FREE_BYTES >> 20} MB in {folder} and {free >> 20} MB are free: "
                "free some space or set JITTOR_HOME to a folder on a larger disk"
            )
    return folder


def find_compiler() -> str:
    """Absolute path of the C++ compiler: environment ``cc_path`` (Jittor's own variable), else ``g++`` on PATH."""
    asked = os.environ.get("cc_path")  # noqa: SIM112 - Jittor's name
    found = shutil.which(asked or "g++")
    if found is None:
        what = f"cc_path={asked} is not a program" if asked else "g++ is not on PATH"
        raise StartupError(
            f"Jittor compiles C++ while it runs and {what}: install g++ (Debian, Ubuntu: apt-get install g++)"
        )
    return os.path.abspath(found)


def python_headers() -> Path:
    """Folder with this interpreter's ``Python.h``."""
    folder = Path(sysconfig.get_paths()["include"])
    if not (folder / "Python.h").is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise StartupError(
            f"Jittor compiles against Python's headers and {folder / 'Python.h'} is missing: install them "
            f"(Debian, Ubuntu: apt-get install python{version}-dev)"
        )
    return folder


def probe_compiler(compiler: str, folder: Path) -> None:
    """Compile and link three lines with Python.h and OpenMP; raises StartupError with the compiler's first error."""
    source = folder / f".probe-{os.getpid()}.cc"
    output = source.with_suffix(".so")
    try:
        source.write_text("#include <Python.h>\n#include <omp.h>\nint n() { return omp_get_max_threads(); }\n")
        command = [compiler, "-std=c++14", "-fPIC", "-shared", "-fopenmp", f"-I{python_headers()}"]
        done = subprocess.run([*command, str(source), "-o", str(output)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise StartupError(f"{compiler} cannot be run ({error.strerror}): reinstall g++") from None
    finally:
        source.unlink(missing_ok=True)
        output.unlink(missing_ok=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["no message"]
        reason = lines[0].strip()
        raise StartupError(f"{compiler} cannot compile three lines with Python.h and OpenMP ({reason}): reinstall g++")


def find_onednn() -> OneDNN:
    """The environment's oneDNN 2.2, as its two wheels installed it.

    Raises StartupError when it is missing: Jittor would then try to download it, and without it convolution and matmul
    run tens of times slower.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        raise StartupError(f"oneDNN 2.2 is on PyPI for x86-64 only and this machine is {platform.machine()}")
    roots = [Path(sys.prefix)]
    for name in ("onednn-devel-cpu-gomp", "onednn-cpu-gomp"):
        try:
            listed = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue
        roots += [Path(str(file.locate())).resolve().parents[1] for file in listed if file.name == "dnnl.hpp"]
    for root in roots:
        found = OneDNN(include=root / "include", lib=root / "lib")
        if _is_onednn(found.include, found.lib):
            return found
    raise StartupError(f"oneDNN 2.2 is not installed in {sys.prefix}: pip install {ONEDNN_WHEELS}")


def _is_onednn(include: Path, lib: Path) -> bool:
    # include/dnnl.hpp itself is one line that includes the second.
    files = (include / "dnnl.hpp", include / "oneapi" / "dnnl" / "dnnl.hpp", lib / "libmkldnn.so")
    return all(file.is_file() for file in files)


def link_onednn(cache: Path) -> OneDNN:
    """Put oneDNN where Jittor looks for it, ``cache/mkl/dnnl_lnx_2.2.0_cpu_gomp/{include,lib}``, unless a complete one
    is there already. Safe to call from several processes; a link left by a deleted environment is replaced.

    Returns the folders Jittor will use.
    """
    place = cache / "mkl" / ONEDNN_FOLDER
    here = OneDNN(place / "include", place / "lib")
    if _is_onednn(here.include, here.lib):
        return here
    source = find_onednn()
    place.mkdir(parents=True, exist_ok=True)
    for link, target in ((here.include, source.include), (here.lib, source.lib)):
        if link.is_dir() and not link.is_symlink():
            shutil.rmtree(link)  # what an interrupted download left
        fresh = link.with_name(f".{link.name}-{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target, target_is_directory=True)
        os.replace(fresh, link)  # atomic: another process sees the old link or the new one
    return here


def cpu_key() -> str:
    """Eight hex digits for this processor's instruction set. Jittor compiles with -march=native but names its cache by
    the model name only, so a home folder shared by two generations of one family would run illegal instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    lines = {line for line in text.splitlines() if line.startswith(("flags", "Features", "model name", "model\t"))}
    return hashlib.sha256("\n".join(sorted(lines) or [platform.processor()]).encode()).hexdigest()[:8]


def folder_bytes(folder: Path) -> int:
    """Bytes of all regular files below ``folder`` (links not followed); 0 when it does not exist."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue  # removed while we were counting
    return total
