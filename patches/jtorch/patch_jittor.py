"""What we change in Jittor 1.3.11.0, and why. Nothing in its installed files is touched; what CUDA needs changed in its
sources is in :mod:`jtorch.cuda_source` and goes into a copy.

``undo_process_changes`` is entered around ``import jittor``; ``apply`` runs right after it. ``python -m jtorch`` and
patches/README.md show the list ``PATCHES``.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import ssl
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from . import cuda_source
from .toolchain import StartupError

#: Releases this was tested with.
VERSIONS = "==1.3.11.0"

PATCHES = [
    ("signal handlers", "Jittor ends the process at Ctrl-C and when any child dies of a signal; Python's are put back"),
    ("TLS checks", "Jittor switches certificate checks off for all of urllib; they stay on"),
    ("recursion limit", "Jittor raises it to a million, which turns an endless recursion into a crash"),
    ("python3-config", "Jittor may find another Python's; it gets one of the running interpreter"),
    ("kernel compiler", "a precompiled header and no assembler pass: a kernel takes 0.2 s instead of 0.8 s, same code"),
    ("float flags", "-Ofast makes NaN equal itself and flushes subnormals in the whole process; the rest is kept"),
    ("int64", "Jittor turns int64 arrays into int32 unless told not to"),
    ("gradients", "Jittor's own tape is off: torch's autograd is ours and it would only hold memory"),
    ("fork", "a forked child uses one thread: OpenMP's and Jittor's threads do not survive and would be waited for"),
    ("CUDA, fast math", "kernels are compiled without it, as PyTorch's are: exact division and roots, subnormal numbers"),
    *((f"CUDA, {patch.name}", f"{patch.why} (in a copy of the sources)") for patch in cuda_source.PATCHES),
]

_SIGNALS = [signal.SIGINT, signal.SIGCHLD, signal.SIGQUIT, signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGBUS]

#: Headers that nearly every generated kernel includes; parsing them is four fifths of its compile time.
_HEADER = """#define JIT 1
#define JIT_cpu 1
#include <cmath>
#include <assert.h>
#include <algorithm>
#include <limits>
#include "misc/cpu_math.h"
#include "var.h"
#include "ops/op_register.h"
#include "fused_op.h"
#include "executor.h"
#include "ops/unary_op.h"
#include "ops/binary_op.h"
#include "ops/ternary_op.h"
#include "ops/broadcast_to_op.h"
#include "ops/reduce_op.h"
#include "ops/reindex_op.h"
#include "ops/reindex_reduce_op.h"
#include "ops/array_op.h"
#include "ops/index_op.h"
#include "ops/code_op.h"
"""

# Jittor runs `PYTHON .../asm_tuner.py --cc_path="g++" "kernel.cc" flags`. The tuner compiles to assembly with debug
# information, edits lines between marks of an optional pass and assembles. Without marks the result equals a plain
# compile, which is what this does. The tuner itself, when it is needed, must find the same cache as this process.
_COMPILER_SCRIPT = """#!/bin/sh
tool=$1
if [ "${{2#--cc_path=}}" = "$2" ] || grep -q '@begin' "$3"; then
    HOME='{home}' cache_name='{cache_name}' cc_path='{compiler}' exec env -u JITTOR_HOME '{python}' "$@"
fi
compiler=${{2#--cc_path=}}
shift 2
exec "$compiler" {include} "$@"
"""

_CONFIG_SCRIPT = """#!/bin/sh
case "$1" in
    --includes) echo '-I"{include}"' ;;
    --extension-suffix) echo '{suffix}' ;;
    *) echo "only --includes and --extension-suffix are answered" >&2; exit 1 ;;
esac
"""


@contextlib.contextmanager
def undo_process_changes() -> Iterator[None]:
    """Put back what importing Jittor changes in the whole process: signal handlers (also those set in C, such as
    faulthandler's), the recursion limit and the certificate checks of urllib."""
    libc = ctypes.CDLL(None)
    saved = []
    for number in _SIGNALS:
        action = ctypes.create_string_buffer(512)  # larger than struct sigaction anywhere
        libc.sigaction(int(number), None, action)
        saved.append((int(number), action))
    limit = sys.getrecursionlimit()
    https = ssl._create_default_https_context
    try:
        yield
    finally:
        for number, action in saved:
            libc.sigaction(number, action, None)
        sys.setrecursionlimit(limit)
        ssl._create_default_https_context = https


def write_config_script(folder: Path) -> Path:
    """A ``python3-config`` for the running interpreter (Jittor would take the system's, of whatever patch release)."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    text = _CONFIG_SCRIPT.format(include=sysconfig.get_paths()["include"], suffix=suffix)
    return _write_script(folder / f"python{sysconfig.get_config_var('py_version_short')}-config", text)


# Jittor compiles kernels with -Ofast. Under it x != x is false for NaN, and linking such a kernel switches the whole
# process to flushing subnormal numbers to zero (GCC's crtfastmath.o). These are its parts without those two effects;
# the macro keeps the vector versions of exp, tanh and friends (without it exp is six times slower).
_FLOAT_FLAGS = (
    " -O3 -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math -freciprocal-math "
    "-fno-rounding-math -fcx-limited-range -D__FAST_MATH__ "
)


def _honest_floats(jt: ModuleType) -> None:
    if _FLOAT_FLAGS not in jt.flags.cc_flags:
        jt.flags.cc_flags = jt.flags.cc_flags.replace(" -Ofast ", _FLOAT_FLAGS)
    if jt.has_cuda:
        jt.flags.nvcc_flags = jt.flags.nvcc_flags.replace(" --use_fast_math ", " ")


def _precompiled_header(jt: ModuleType) -> Path | None:
    """The common headers of kernels, compiled once with exactly the flags of a kernel: the path to include, or None
    when the compiler cannot do it and kernels have to parse the headers each time.

    GCC silently ignores a precompiled header made with other flags, so the flags are part of the name.
    """
    if jt.flags.cc_type != "g++":
        return None
    words = jt.flags.cc_flags.replace('"', "").split()
    flags = [word for word in words if not word.startswith(("-l", "-L", "-Wl,", "-shared"))]
    key = hashlib.sha256("\n".join([_HEADER, jt.flags.cc_path, *flags]).encode()).hexdigest()[:8]
    header = Path(jt.flags.cache_path) / "jtorch" / f"kernel-{key}.h"
    compiled = header.with_suffix(".h.gch")
    if compiled.is_file():
        return header
    header.parent.mkdir(parents=True, exist_ok=True)
    header.write_text(_HEADER, encoding="utf-8")
    fresh = compiled.with_name(f".{compiled.name}-{os.getpid()}")
    command = [jt.flags.cc_path, "-x", "c++-header", str(header), "-o", str(fresh), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fresh.unlink(missing_ok=True)
        return None
    os.replace(fresh, compiled)
    return header


def apply(jt: ModuleType, home: Path, cache_name: str) -> None:
    """Set up the imported Jittor: flags, kernel compiler, behaviour after a fork.

    Args:
        jt: the jittor module.
        home: folder whose ``.cache/jittor`` is in use.
        cache_name: Jittor's name for this cache.
    """
    if jt.__version__ != VERSIONS.removeprefix("=="):
        raise StartupError(f"Jittor {jt.__version__} is installed, tested is 1.3.11.0: pip install jittor==1.3.11.0")
    _honest_floats(jt)
    jt.flags.auto_convert_64_to_32 = 0
    jt.flags.no_grad = 1
    header = _precompiled_header(jt)
    text = _COMPILER_SCRIPT.format(
        home=home,
        cache_name=cache_name,
        compiler=jt.flags.cc_path,
        python=sys.executable,
        include=f"-include '{header}'" if header else "",
    )
    key = hashlib.sha256(text.encode()).hexdigest()[:8]  # two versions of this file may share one cache
    jt.flags.python_path = str(_write_script(Path(jt.flags.cache_path) / "jtorch" / f"compile-kernel-{key}", text))
    threads = min(16, 2 * (os.cpu_count() or 1))
    jt.flags.use_parallel_op_compiler = threads
    if kernels := os.environ.get("JTORCH_KERNELS"):
        Path(kernels, "jit").mkdir(parents=True, exist_ok=True)  # Jittor makes it only in its own cache
        jt.flags.cache_path = str(Path(kernels).absolute())
    os.register_at_fork(after_in_child=lambda: _in_forked_child(jt))


def _in_forked_child(jt: ModuleType) -> None:
    jt.flags.use_parallel_op_compiler = 0
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libgomp.so.1").omp_set_num_threads(1)


def _write_script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        fresh = path.with_name(f".{path.name}-{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(fresh.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        os.replace(fresh, path)  # a running compile keeps the file it opened
    return path
