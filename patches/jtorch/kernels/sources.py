"""Kernel sources as files that the compiler includes.

Jittor knows a ``jt.code`` kernel by its whole text, which it copies, hashes and compares each time the kernel runs: up to
15,000 characters. A line that includes a file, which is named by what is in it, stands for the same text.
"""

import functools
import hashlib
import os
from pathlib import Path

from ..startup import import_jittor

jt = import_jittor()
_FOLDER = Path(__file__).parent


@functools.cache
def include(text, name):
    """A line of C++ that stands for ``text``; ``name`` begins the name of the file, which lies beside Jittor's cache."""
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = Path(jt.flags.cache_path) / "jtorch" / f"{name}-{key}.inc"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}-{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)  # a compiler at work sees the old file or the whole new one
    return f"# include <{path}>\n"  # with a blank: Jittor puts its own definitions behind the last "#include"


def read(name):
    """The text of a file in this folder."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def source(name):
    """A line of C++ that stands for a file in this folder."""
    return include(read(name), name.partition(".")[0])
