"""Applies ``jtorch.patch_<library>`` right after a library is imported, and never before.

Each patch module has

* ``VERSIONS``: tested releases as a version specifier, e.g. ``"==0.27.2"`` or ``">=0.4.2,<0.9"``; outside it the
  patches still apply, with a warning that names both;
* ``PATCHES``: a list of ``(what, why)``, one sentence each;
* ``apply(module)``: changes the freshly imported module.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from importlib import metadata
from types import ModuleType

#: Module whose import triggers the patch -> (name of the patch module, distribution that is asked for its version).
#: ``safetensors.torch`` rather than ``safetensors``: only the former touches torch.
TRIGGERS = {
    "diffusers": ("patch_diffusers", "diffusers"),
    "diffusers.models.activations": ("patch_diffusers", "diffusers"),
    "transformers": ("patch_transformers", "transformers"),
    "peft": ("patch_peft", "peft"),
    "accelerate": ("patch_accelerate", "accelerate"),
    "safetensors": ("patch_safetensors", "safetensors"),
    "safetensors.torch": ("patch_safetensors", "safetensors"),
}


class _Loader(importlib.abc.Loader):
    """Runs the library's own loader, then the patch."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Put the library's own loader back first: some libraries replace themselves in sys.modules with a lazy module
        # that copies __spec__, and inspect and pkgutil ask the loader for sources.
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        patch_now(module.__name__)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname not in TRIGGERS or load_patch(fullname) is None:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


_finder = _Finder()


def install() -> None:
    """Start patching libraries as they are imported; those already imported are patched now. Calling it again does
    nothing."""
    if _finder in sys.meta_path:
        return
    sys.meta_path.insert(0, _finder)
    for name in TRIGGERS:
        if name in sys.modules:
            patch_now(name)


def load_patch(name: str) -> ModuleType | None:
    """The patch module for library module ``name``, or None when that library needs no patch."""
    full = f"{__package__}.{TRIGGERS[name][0]}"
    if importlib.util.find_spec(full) is None:
        return None
    return importlib.import_module(full)


def patch_now(name: str) -> None:
    """Apply the patch for ``name`` to the module now in ``sys.modules``, and warn when its version is untested."""
    patch = load_patch(name)
    if patch is None:
        return
    distribution = TRIGGERS[name][1]
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        version = "unknown"
    if not in_range(version, patch.VERSIONS):
        warnings.warn(
            f"{distribution} {version} is outside the tested range {patch.VERSIONS} of jtorch.{TRIGGERS[name][0]}; "
            "its patches are applied all the same",
            RuntimeWarning,
            stacklevel=2,
        )
    patch.apply(sys.modules[name])


def in_range(version: str, specifier: str) -> bool:
    """Whether ``version`` satisfies ``specifier``: comparisons ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=`` of dotted
    numbers, joined by commas. A version that does not begin with a number is outside every range.

    (``packaging`` can do more, but importing it here would make it a dependency of ``import torch``.)
    """
    try:
        have = _numbers(version)
        return all(_compare(have, part.strip()) for part in specifier.split(",") if part.strip())
    except ValueError:
        return False


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break  # "0rc1": the release number counts
    if not numbers:
        raise ValueError(version)
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()  # 1.0 == 1.0.0
    return tuple(numbers)


def _compare(have: tuple[int, ...], part: str) -> bool:
    for sign in ("==", "!=", "<=", ">=", "<", ">"):
        if part.startswith(sign):
            want = _numbers(part[len(sign) :].strip())
            return {
                "==": have == want,
                "!=": have != want,
                "<=": have <= want,
                ">=": have >= want,
                "<": have < want,
                ">": have > want,
            }[sign]
    raise AssertionError(f"{part!r} is no version comparison")
