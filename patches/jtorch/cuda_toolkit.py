"""Finding a CUDA toolkit and giving Jittor one folder of it.

Jittor wants everything beside nvcc: ``bin/nvcc``, ``include`` and ``lib64`` with unversioned library names and cuDNN
among them. NVIDIA's wheels for CUDA 13 hold all of it, nvcc too, but spread over two folders and with versioned names
only; their CUDA 12 wheels have ptxas and no nvcc, so CUDA 11 and 12 need an installed toolkit, to which the wheels may
add cuDNN. Either way :func:`assemble` links the pieces together in the cache. Nothing is downloaded.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .toolchain import StartupError

#: Oldest toolkit this works with; Jittor's kernels for float16 need it.
OLDEST = (11, 2)
#: Per library, the numbers of its file name that fit CUDA 11, 12 and 13. cuDNN has numbers of its own; CUDA 11 has no
#: nvJitLink, which the later cuFFT and cuSPARSE load.
_LIBRARIES = {
    "cudart": {11: ("11.0",), 12: ("12",), 13: ("13",)},
    "cublas": {11: ("11",), 12: ("12",), 13: ("13",)},
    "cublasLt": {11: ("11",), 12: ("12",), 13: ("13",)},
    "curand": {11: ("10",), 12: ("10",), 13: ("10",)},
    "cufft": {11: ("10",), 12: ("11",), 13: ("12",)},
    "cusparse": {11: ("11",), 12: ("12",), 13: ("12",)},
    "nvJitLink": {12: ("12",), 13: ("13",)},
    "cudnn": {11: ("8", "9"), 12: ("8", "9"), 13: ("9",)},
}
_HEADERS = ("cuda_runtime.h", "crt/host_config.h", "cublas.h", "curand.h", "cufft.h", "cusparse.h", "cudnn.h")
_CUB = ("cub/cub.cuh", "cccl/cub/cub.cuh")
#: System folders hold everything of the machine; from these only what is named like cuDNN or the runtime is linked.
_SYSTEM_INCLUDE = (Path("/usr/include"), Path(f"/usr/include/{platform.machine()}-linux-gnu"))
_SYSTEM_LIB = (Path(f"/usr/lib/{platform.machine()}-linux-gnu"), Path("/usr/lib64"))


@dataclass(frozen=True)
class Toolkit:
    """A CUDA compiler with the headers and libraries that go with it.

    Attributes:
        nvcc: the compiler itself, not a script that calls it.
        version: of the compiler, (13, 0).
        origin: where it is from, for people.
        include, lib: folders to look in, in this order.
        cudnn: its version, "9.19.0", or None.
        missing: names of headers and libraries that are in none of the folders.
    """

    nvcc: Path
    version: tuple[int, int]
    origin: str
    include: tuple[Path, ...]
    lib: tuple[Path, ...]
    cudnn: str | None
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return f"CUDA {self.version[0]}.{self.version[1]} {self.origin}"


def find_toolkits() -> list[Toolkit]:
    """All compilers of this machine, the preferred one first: the one ``nvcc_path`` names and no other where that is
    set; else the environment's wheels, ``$CUDA_HOME``, PATH, and the usual places."""
    found: dict[Path, Toolkit] = {}
    for candidate in _candidates():
        real = _real(str(candidate))
        if real is not None and real[0] not in found:
            found[real[0]] = _describe(*real)
    return list(found.values())


def _candidates() -> Iterator[Path]:
    asked = os.environ.get("nvcc_path")  # noqa: SIM112 - Jittor's name
    if asked:
        found = shutil.which(asked)
        if found:
            yield Path(found)
        return
    for folder in _site_folders():
        yield from sorted(folder.glob("nvidia/cu*/bin/nvcc"), reverse=True)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name]) / "bin" / "nvcc"
    if found := shutil.which("nvcc"):
        yield Path(found)
    yield Path("/usr/local/cuda/bin/nvcc")
    yield from sorted(Path("/usr/local").glob("cuda-*/bin/nvcc"), key=_newest_first)
    yield Path("/opt/cuda/bin/nvcc")


def _newest_first(path: Path) -> list[int]:
    return [-int(part) for part in re.findall(r"\d+", path.parts[-3])]


def _site_folders() -> list[Path]:
    """Where wheels are installed: this environment, or the site-packages of others that JTORCH_CUDA_WHEELS names."""
    others = os.environ.get("JTORCH_CUDA_WHEELS", "").split(os.pathsep)
    return [Path(entry) for entry in dict.fromkeys([*others, *sys.path]) if entry and Path(entry, "nvidia").is_dir()]


@functools.cache
def _real(nvcc: str) -> tuple[Path, tuple[int, int]] | None:
    """(the compiler behind a link or script, its version), or None where ``nvcc`` does not run."""
    try:
        text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
        told = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull], capture_output=True,
                              text=True, check=False).stderr
    except OSError:
        return None
    match = re.search(r"release (\d+)\.(\d+)", text)
    if match is None:
        return None
    place = re.search(r"^#\$ _HERE_=(.+)$", told, re.MULTILINE)
    real = Path(place[1].strip(), "nvcc") if place else Path(nvcc)
    return real.resolve(), (int(match[1]), int(match[2]))


def _describe(nvcc: Path, version: tuple[int, int]) -> Toolkit:
    root, machine = nvcc.parents[1], f"{platform.machine()}-linux"
    wheels = _wheel_folders(version[0])
    include = [root / "include", root / "targets" / machine / "include", *(folder / "include" for folder in wheels)]
    lib = [root / "lib64", root / "lib", root / "targets" / machine / "lib", *(folder / "lib" for folder in wheels)]
    include, lib = _there(include + list(_SYSTEM_INCLUDE)), _there(lib + list(_SYSTEM_LIB))
    missing = [name for name in _HEADERS if not _holds(include, name)]
    if not any(_holds(include, name) for name in _CUB):
        missing.append("cub/cub.cuh")
    for name, by_cuda in _LIBRARIES.items():
        numbers = by_cuda.get(version[0], ())
        if numbers and not any(_holds(lib, f"lib{name}.so.{number}") for number in numbers):
            missing.append(f"lib{name}.so.{numbers[-1]}")
    origin = "from NVIDIA's wheels" if root in wheels else f"in {root}"
    return Toolkit(nvcc, version, origin, tuple(include), tuple(lib), _cudnn_version(include), tuple(missing))


def _there(folders: list[Path]) -> list[Path]:
    """Those that exist, each once whatever it is called (lib64 is often a link to lib)."""
    found: dict[Path, Path] = {}
    for folder in folders:
        if folder.is_dir():
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _wheel_folders(major: int) -> list[Path]:
    """``nvidia/cu13``, which the wheels of CUDA 13 share, and ``nvidia/<part>`` of wheels made for CUDA ``major``."""
    found = []
    for site in _site_folders():
        for folder in sorted((site / "nvidia").iterdir()):
            if folder.name == f"cu{major}":
                found.insert(0, folder.resolve())
            elif any(metadata.distributions(name=f"nvidia-{folder.name.replace('_', '-')}-cu{major}", path=[str(site)])):
                found.append(folder.resolve())
    return found


def _holds(folders: list[Path] | tuple[Path, ...], name: str) -> bool:
    return any((folder / name).is_file() for folder in folders)


def _cudnn_version(include: list[Path]) -> str | None:
    for folder in include:
        for name in ("cudnn_version.h", "cudnn.h"):
            try:
                text = (folder / name).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            numbers = re.findall(r"^#define CUDNN_(?:MAJOR|MINOR|PATCHLEVEL) (\d+)", text, re.MULTILINE)
            if numbers:
                return ".".join(numbers)
    return None


def lacks(toolkit: Toolkit) -> str | None:
    """What ``toolkit`` is missing, as a clause; None when it is complete."""
    if not toolkit.missing:
        return None
    more = f" and {len(toolkit.missing) - 3} more" if len(toolkit.missing) > 3 else ""
    return f"missing: {', '.join(toolkit.missing[:3])}{more}"


def unfit(toolkit: Toolkit, driver: tuple[int, int], capabilities: list[tuple[int, int]]) -> str | None:
    """Why ``toolkit`` cannot be used for these cards under a driver that runs CUDA ``driver``; None when it can.

    Within a major version a driver runs programs of a newer toolkit (NVIDIA's minor version compatibility), except that
    it then cannot compile PTX, which is what cards above compute capability 9.0 get from Jittor.
    """
    number = f"CUDA {toolkit.version[0]}.{toolkit.version[1]}"
    if toolkit.version < OLDEST:
        return f"{number} is older than {OLDEST[0]}.{OLDEST[1]}"
    if toolkit.version[0] > 13:
        return f"{number} is newer than 13, the last with which this was compiled"
    if toolkit.missing:
        return lacks(toolkit)
    if toolkit.version[0] > driver[0]:
        return f"the driver runs CUDA up to {driver[0]}.{driver[1]}"
    oldest, newest = min(capabilities), max(capabilities)
    if oldest < (7, 0):
        return f"cards below compute capability 7.0 are not supported (this one has {oldest[0]}.{oldest[1]})"
    if toolkit.version[0] >= 13 and oldest < (7, 5):
        return f"{number} no longer compiles for compute capability {oldest[0]}.{oldest[1]}: CUDA 12 does"
    if newest >= (8, 9) and toolkit.version < (11, 8):
        return f"{number} does not compile for compute capability {newest[0]}.{newest[1]}: 11.8 is the first that does"
    if newest > (9, 0) and toolkit.version > driver:
        return (f"a card of compute capability {newest[0]}.{newest[1]} needs a driver as new as the toolkit, and this one "
                f"runs CUDA up to {driver[0]}.{driver[1]}")
    return None


def architectures(capabilities: list[tuple[int, int]]) -> str:
    """Jittor's ``cuda_archs``: "80 90". Cards above 9.0 run the PTX of 9.0, the newest that Jittor knows."""
    return " ".join(sorted({f"{min(c, (9, 0))[0]}{min(c, (9, 0))[1]}" for c in capabilities}))


def assemble(toolkit: Toolkit, cache: Path) -> Path:
    """A folder with ``bin/nvcc``, ``include`` and ``lib64`` in ``cache``, made of links; returns its nvcc.

    ``bin/nvcc`` is a script: Jittor follows links and would look for the rest beside the real compiler. Made once for a
    toolkit, again when a link leads nowhere; several processes may do it at a time.
    """
    parts = [toolkit.nvcc, toolkit.version, toolkit.include, toolkit.lib, toolkit.cudnn]
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
    place = cache / "jtorch" / f"cuda-{toolkit.version[0]}.{toolkit.version[1]}-{key}"
    nvcc = place / "bin" / "nvcc"
    if nvcc.is_file() and all(link.exists() for part in ("include", "lib64") for link in (place / part).iterdir()):
        return nvcc
    fresh = place.with_name(f".{place.name}-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    for part in ("bin", "include", "lib64"):
        (fresh / part).mkdir(parents=True)
    script = fresh / "bin" / "nvcc"
    script.write_text(f"#!/bin/sh\nexec '{toolkit.nvcc}' \"$@\"\n", encoding="utf-8")
    script.chmod(0o755)
    for folder in toolkit.include:
        for entry in folder.glob("cudnn*.h" if folder in _SYSTEM_INCLUDE else "*"):
            _link(fresh / "include" / entry.name, entry)
    for folder in toolkit.lib:
        for name in ("libcudnn*.so*", "libcudart*.so*") if folder in _SYSTEM_LIB else ("lib*.so*", "lib*.a"):
            for entry in sorted(folder.glob(name), reverse=True):
                _link(fresh / "lib64" / entry.name, entry)
                plain = entry.name.partition(".so")[0] + ".so"
                if ".so" in entry.name and not _holds([folder], plain):
                    _link(fresh / "lib64" / plain, entry)
    shutil.rmtree(place, ignore_errors=True)
    try:
        os.rename(fresh, place)
    except OSError:  # another process was faster
        shutil.rmtree(fresh, ignore_errors=True)
    return nvcc


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target)


def probe(nvcc: Path, compiler: str, architectures: str, folder: Path) -> None:
    """Compile a kernel of one line with ``compiler`` as host compiler; raises StartupError with the first error.

    Every nvcc refuses host compilers newer than those it knows."""
    source = folder / f".probe-{os.getpid()}.cu"
    output = source.with_suffix(".o")
    first = architectures.split()[0]
    try:
        source.write_text("#include <cuda_runtime.h>\n__global__ void k(float* x) { x[threadIdx.x] *= 2; }\n")
        command = [str(nvcc), "-c", f"-arch=sm_{first}", f"-ccbin={compiler}", str(source), "-o", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        source.unlink(missing_ok=True)
        output.unlink(missing_ok=True)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
        reason = (lines or ["no message"])[0][:200]
        raise StartupError(f"{nvcc} with {compiler} cannot compile a kernel ({reason}): set cc_path to a g++ that this CUDA "
                           "knows, for example cc_path=g++-11, or use the CPU with JTORCH_CUDA=0")
