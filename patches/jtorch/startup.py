"""Starting Jittor: ``import_jittor()`` is the one place in the project where jittor is imported.

It looks at the machine first (compiler, headers, oneDNN, CUDA device), compiles Jittor's core once if needed and then
imports it quietly. Nothing is downloaded, ``~/.cache/jittor/config.json`` is never written, and the process keeps its
signal handlers, environment and certificate checks.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

from . import core_build, cuda_source, cuda_toolkit, patch_jittor, toolchain
from . import cuda as cuda_choice
from .cuda import Cuda
from .toolchain import StartupError

__all__ = ["StartupError", "build_core_here", "describe", "import_jittor", "warm_up"]

_thread_lock = threading.Lock()
_jittor: ModuleType | None = None
# Variables that change what the core is compiled to.
_BUILD_VARIABLES = ("cc_flags", "nvcc_flags", "kernel_flags", "debug", "enable_lto", "cuda_archs", "conv_opt")


def import_jittor() -> ModuleType:
    """Return the jittor module, started for use under ``torch``; the first call imports it.

    After it: int64 stays int64, Jittor's own gradients and its variable tracer are off, kernels compile with a
    precompiled header, and a forked child runs on one thread.

    Raises:
        StartupError (an ImportError): one sentence that says what is missing; it names the log when compiling failed.
    """
    global _jittor
    with _thread_lock:
        if _jittor is None:
            home, cache, cuda = _look_around()
            _ensure_core(cache, cuda)
            _jittor = _import(home, cache, cuda, quiet=True)
        return _jittor


def warm_up() -> None:
    """Make sure that the next :func:`import_jittor` is quick: compile the core if that has not been done. Jittor is not
    imported here. Raises StartupError as import_jittor does."""
    _, cache, cuda = _look_around()
    _ensure_core(cache, cuda)


def build_core_here() -> None:
    """Compile the core in this process, print Jittor's own messages, try it and leave a stamp. :mod:`jtorch.core_build`
    runs it in a child process, with the lock held."""
    home, cache, cuda = _look_around()
    jt = _import(home, cache, cuda, quiet=False)
    patch_jittor.apply(jt, home, _cache_name(cuda))
    matrix = jt.array([[1.0, 2.0], [3.0, 4.0]])
    image, weight = jt.ones((1, 1, 4, 4)), jt.ones((1, 1, 3, 3))
    product, pixels = jt.matmul(matrix, matrix).numpy().tolist(), jt.nn.conv2d(image, weight).numpy().ravel().tolist()
    if product != [[7.0, 10.0], [15.0, 22.0]] or pixels != [9.0] * 4:
        raise SystemExit(f"Error: the compiled core computes wrongly: {product}, {pixels}")
    files = [jt.compiler.core.__file__, jt.compiler.jit_utils.cc.__file__]
    core_build.write_stamp(cache, _fingerprint(cuda), files)


def describe() -> dict[str, object]:
    """What Jittor would start with on this machine, without starting it.

    Keys: ``jittor`` (version or None), ``compiler`` (path and version), ``python_headers``, ``onednn``, ``cuda`` (a
    list of label and sentence: the decision, then driver, cards and toolkits), ``cache`` (folder), ``cache_bytes``,
    ``core_compiled`` (bool), ``started`` (bool), ``problems`` (list of sentences, empty when all is there).
    """
    problems: list[str] = []

    def tell(function, *arguments):
        try:
            return function(*arguments)
        except StartupError as error:
            problems.append(str(error))
            return None

    compiler = tell(toolchain.find_compiler)
    headers = tell(toolchain.python_headers)
    onednn = tell(toolchain.find_onednn)
    home = tell(toolchain.cache_home)
    cache = None if home is None else tell(lambda: toolchain.check_cache(home, building=False))
    cuda = cuda_choice.decide()
    try:
        version = metadata.version("jittor")
    except metadata.PackageNotFoundError:
        version = None
        problems.append("Jittor is not installed: pip install jittor==1.3.11.0")
    ready = not problems and cache is not None
    return {
        "jittor": version,
        "compiler": None if compiler is None else f"{compiler} {_compiler_version(compiler)}",
        "python_headers": None if headers is None else str(headers),
        "onednn": None if onednn is None else str(onednn.lib),
        "cuda": cuda_choice.describe(),
        "cache": None if cache is None else str(cache),
        "cache_bytes": 0 if cache is None else toolchain.folder_bytes(cache),
        "core_compiled": bool(ready and cache is not None and core_build.is_built(cache, _fingerprint(cuda))),
        "started": _jittor is not None,
        "problems": problems,
    }


def cuda_version() -> str | None:
    """CUDA version, for example "12.2", of the toolkit that the started Jittor compiles with; None on the CPU."""
    return cuda_choice.decide().version if _jittor is not None and _jittor.has_cuda else None


def _look_around() -> tuple[Path, Path, Cuda]:
    """Check all that Jittor needs and link oneDNN; returns the cache's home, its folder, and what to do about CUDA."""
    if sys.platform != "linux":
        raise StartupError(f"Jittor is started on Linux only and this is {sys.platform}")
    folder = toolchain.jittor_folder()
    if any(character.isspace() for character in str(folder)):
        raise StartupError(f"Jittor cannot compile from a path with blanks ({folder}): move the environment")
    toolchain.find_compiler()
    toolchain.python_headers()
    home = toolchain.cache_home()
    cache = toolchain.check_cache(home, building=False)
    toolchain.link_onednn(cache)
    return home, cache, cuda_choice.decide()


def _ensure_core(cache: Path, cuda: Cuda) -> None:
    fingerprint = _fingerprint(cuda)
    if cuda.toolkit is not None and not core_build.is_built(cache, fingerprint):
        nvcc = cuda_toolkit.assemble(cuda.toolkit, cache)
        cuda_toolkit.probe(nvcc, toolchain.find_compiler(), cuda.architectures, cache / "jtorch")
        cuda_source.patched_copy(cache)  # says what is wrong with it here rather than in the child's log
    core_build.ensure_core(cache, fingerprint)


def _import(home: Path, cache: Path, cuda: Cuda, *, quiet: bool) -> ModuleType:
    if "jittor" in sys.modules:
        raise StartupError("jittor was imported before torch: import torch first, it starts Jittor")
    settings = {
        "HOME": str(home),  # with JITTOR_HOME gone the cache folder is the default one: no config.json is written
        "JITTOR_HOME": None,
        "cache_name": _cache_name(cuda),
        "cc_path": toolchain.find_compiler(),
        "nvcc_path": "",
        "python_config_path": str(patch_jittor.write_config_script(cache / "jtorch" / _fingerprint(cuda))),
        "FIX_TORCH_ERROR": "0",  # else Jittor imports torch, which is us
        "gdb_path": "",
        "use_mpi": "0",
        "OMPI_COMM_WORLD_SIZE": None,  # under mpirun it would use its MPI all the same; processes meet in torch.distributed
        "use_nccl": "0",
        "use_cutt": "0",
        "use_cutlass": "0",  # these two and nccl are downloaded when on
        "log_silent": "1" if quiet else "0",
        "log_v": "0",
        # Without it every import forks a pool of compilers, even with nothing to compile.
        "DISABLE_MULTIPROCESSING": "1" if quiet else "0",
    }
    sources: list[Path] = []
    if cuda.toolkit is not None:
        settings |= {"nvcc_path": str(cuda_toolkit.assemble(cuda.toolkit, cache)), "cuda_archs": cuda.architectures}
        sources = [cuda_source.patched_copy(cache)]
    with _environment(settings), _first_on_path(sources), patch_jittor.undo_process_changes():
        try:
            import jittor
        except SystemExit as error:  # it rebuilt the helper library that this process has loaded
            if not quiet:
                raise SystemExit(core_build.AGAIN) from error
            raise StartupError("Jittor has rebuilt a part of itself and stops here: run the command once more") from error
        except Exception as error:
            raise StartupError(f"Jittor does not start ({error}); delete {cache} to compile it anew") from error
    if quiet:
        patch_jittor.apply(jittor, home, _cache_name(cuda))
        _keep_freed_memory()
    return jittor


def _keep_freed_memory() -> None:
    """Let the C library keep up to 64 MB of freed memory at the end of its heap, and blocks below 32 MB inside it.

    glibc comes to these limits by itself once a block of 32 MB was freed. Until then it gives memory back after nearly
    every step and the system has to clear the pages again: reading 500 arrays of 80 KB took twice as long for that.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library: nothing is lost but the time
        library = ctypes.CDLL(None)
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        library.mallopt(trim_threshold, 64 << 20)
        library.mallopt(mmap_threshold, 32 << 20)


@contextlib.contextmanager
def _environment(settings: dict[str, str | None]) -> Iterator[None]:
    """Set environment variables (None: unset) and put the whole environment back afterwards."""
    saved = dict(os.environ)
    for name, value in settings.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    try:
        yield
    finally:
        for name in set(os.environ) - set(saved):
            del os.environ[name]
        os.environ.update(saved)


@contextlib.contextmanager
def _first_on_path(folders: list[Path]) -> Iterator[None]:
    """Import from ``folders`` before anything else."""
    entries = [str(folder) for folder in folders]
    sys.path[:0] = entries
    try:
        yield
    finally:
        for entry in entries:
            sys.path.remove(entry)


def _cache_name(cuda: Cuda) -> str:
    # Jittor would take the name of the git branch that the environment's folder happens to be on, and compile all anew
    # after a checkout. With CUDA it comes from other sources, so its helper library is another one too.
    return f"jtorch-{toolchain.cpu_key()}" + (f"-cuda-{cuda_source.key()}" if cuda.usable else "")


def _fingerprint(cuda: Cuda) -> str:
    """Twelve hex digits over everything that decides what the compiled core is."""
    compiler = os.path.realpath(toolchain.find_compiler())
    status = os.stat(compiler)
    parts = [
        metadata.version("jittor"),
        str(toolchain.jittor_folder()),
        sys.version,
        sys.base_prefix,
        f"{compiler} {status.st_size} {status.st_mtime_ns}",
        platform.platform() + platform.node(),
        _cache_name(cuda),
        "" if cuda.toolkit is None else f"{cuda.toolkit.nvcc} {cuda.toolkit} {cuda.toolkit.cudnn} {cuda.architectures}",
        *(f"{name}={os.environ.get(name, '')}" for name in _BUILD_VARIABLES),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _compiler_version(compiler: str) -> str:
    done = subprocess.run([compiler, "-dumpfullversion"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "(does not run)"
