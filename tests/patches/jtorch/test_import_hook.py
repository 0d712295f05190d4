"""The import hook: a library's patch runs once, right after its import, with a warning for untested versions."""

import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jtorch import import_hook
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A package ``hooked_lib`` with a patch module that writes down what it is applied to."""
    package = tmp_path / "hooked_lib"
    package.mkdir()
    (package / "__init__.py").write_text("value = 1\n")
    (package / "part.py").write_text("value = 2\n")
    patch = types.ModuleType("jtorch.patch_hooked")
    patch.VERSIONS = ">=1"
    patch.PATCHES = [("value", "a reason")]
    patch.seen = []
    patch.apply = lambda module: patch.seen.append((module.__name__, module.value))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(import_hook, "load_patch", lambda name: patch)
    for name in ("hooked_lib", "hooked_lib.part"):
        monkeypatch.setitem(import_hook.TRIGGERS, name, ("patch_hooked", "pytest"))
    import_hook.install()
    yield patch
    for name in ("hooked_lib", "hooked_lib.part"):
        sys.modules.pop(name, None)


def test_the_patch_sees_the_finished_module_once(library):
    import hooked_lib
    import hooked_lib as again
    import hooked_lib.part

    assert again is hooked_lib
    assert library.seen == [("hooked_lib", 1), ("hooked_lib.part", 2)]


def test_the_module_keeps_its_own_loader(library):
    import inspect

    import hooked_lib

    assert type(hooked_lib.__loader__).__name__ == "SourceFileLoader"
    assert hooked_lib.__spec__.loader is hooked_lib.__loader__
    assert inspect.getsource(hooked_lib) == "value = 1\n"


def test_an_untested_version_warns_and_names_both(library):
    library.VERSIONS = "<0.1"
    with pytest.warns(RuntimeWarning, match=r"pytest \d.* is outside the tested range <0\.1 of jtorch\.patch_hooked"):
        import hooked_lib  # noqa: F401
    assert library.seen == [("hooked_lib", 1)]


def test_a_tested_version_does_not_warn(library):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import hooked_lib  # noqa: F401


def test_a_failing_library_fails_as_itself_and_is_not_patched(library, tmp_path):
    (tmp_path / "hooked_lib/__init__.py").write_text("raise ValueError('broken library')\n")
    with pytest.raises(ValueError, match="broken library"):
        import hooked_lib  # noqa: F401
    assert library.seen == []


def test_installing_twice_is_installing_once():
    import_hook.install()
    import_hook.install()
    assert sum(type(finder).__module__ == "jtorch.import_hook" for finder in sys.meta_path) == 1


releases = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
comparisons = st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), releases).map("".join)


@given(version=releases, specifier=st.lists(comparisons, min_size=1, max_size=3).map(",".join))
def test_ranges_mean_what_packaging_says(version, specifier):
    assert import_hook.in_range(version, specifier) == (Version(version) in SpecifierSet(specifier))


def test_an_unknown_version_is_outside_every_range():
    assert not import_hook.in_range("unknown", ">=0")


def test_every_patch_is_listed_in_the_readme():
    """patches/README.md holds the output of ``python -m jtorch --markdown``; --write brings it up to date."""
    done = subprocess.run(
        [sys.executable, "-m", "jtorch", "--markdown"], capture_output=True, text=True, check=True, cwd=ROOT / "patches"
    )
    assert done.stdout.count("\n| ") > 5
    assert done.stdout.strip() in (ROOT / "patches/README.md").read_text()
