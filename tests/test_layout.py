"""What the tree may contain, who may import whom, and that there is one torch."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {
    ".ci", ".gitignore", "LICENSE", "NOTICE", "README.md", "benchmarks", "constraints.txt", "data", "eval",
    "jdiff_style", "patches", "pyproject.toml", "pytest.ini", "requirements-cuda.txt", "requirements-dev.txt",
    "requirements-reference.txt", "requirements.txt", "scripts", "tests",
}  # fmt: skip
#: Folder -> top-level modules of this project that its files may import.
MAY_IMPORT = {
    "jdiff_style": {"jdiff_style", "torch"},
    "eval": {"eval", "jdiff_style", "torch"},
    "scripts": {"eval", "jdiff_style", "torch"},
    "benchmarks": {"benchmarks", "eval", "jdiff_style", "torch"},
    "patches": {"torch", "jtorch", "jittor", "jittor_utils"},
}
OURS = {"jdiff_style", "eval", "scripts", "benchmarks", "torch", "jtorch", "jittor", "jittor_utils"}


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def imported(path: Path) -> set[str]:
    """Top-level names of all absolute imports anywhere in the file, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_only_known_things_lie_at_the_top():
    assert {name.split("/")[0] for name in tracked()} <= TOP_LEVEL


def test_imports_point_one_way():
    wrong = []
    for name in tracked():
        folder = name.split("/")[0]
        if name.endswith(".py") and folder in MAY_IMPORT:
            for module in sorted((imported(ROOT / name) & OURS) - MAY_IMPORT[folder]):
                # The doctor reports on the backend; it asks jtorch, guarded, and never jittor.
                if (name, module) != ("jdiff_style/doctor.py", "jtorch"):
                    wrong.append(f"{name} imports {module}")
    assert wrong == []


def test_jittor_is_named_only_in_patches():
    """Tests of the backend may look at Jittor directly; nothing else in the tree imports it."""
    allowed = ("patches/", "tests/patches/")
    wrong = [
        name
        for name in tracked()
        if name.endswith(".py") and not name.startswith(allowed) and imported(ROOT / name) & {"jittor", "jittor_utils"}
    ]
    assert wrong == []


def test_jittor_is_imported_in_one_place():
    """Everything in the backend gets Jittor from jtorch.startup, which makes the machine ready first."""
    places = [
        name
        for name in tracked()
        if name.startswith("patches/") and name.endswith(".py") and "jittor" in imported(ROOT / name)
    ]
    assert places == ["patches/jtorch/startup.py"]


def test_requirements_are_exact():
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            word = line.split("#")[0].strip()
            if word and not word.startswith(("-", "./")):
                assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", word), f"{path.name}: {word}"


def test_no_requirement_can_bring_pytorch():
    """The constraint names a local version that no index can have, and requirements.txt uses it."""
    text = (ROOT / "requirements.txt").read_text()
    assert "--constraint constraints.txt" in text.splitlines()
    constraint = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    version = re.search(r'^version = "(.+)"$', (ROOT / "patches/pyproject.toml").read_text(), re.MULTILINE)[1]
    assert constraint == [f"torch=={version}"]
    assert "+" in version
    assert "--requirement requirements.txt" in (ROOT / "requirements-cuda.txt").read_text().splitlines()


@pytest.mark.skipif("+jittor" not in metadata.version("torch"), reason="this environment is PyTorch's own")
def test_one_torch_is_installed():
    assert metadata.version("torch") == "2.2.2+jittor"
    places = {str(item.locate_file("")) for item in metadata.distributions(name="torch")}
    assert len(places) == 1
    packages = [Path(entry, "torch") for entry in sys.path if entry]
    import torch

    found = {package.resolve() for package in packages if (package / "__init__.py").is_file()}
    assert found <= {Path(torch.__file__).resolve().parent}
    names = {item.metadata["Name"].lower() for item in metadata.distributions()}
    assert not [name for name in names if name.startswith(("nvidia-", "torch-", "triton", "torchvision", "jtorch"))]


def test_installed_versions_are_the_pinned_ones():
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        name, _, version = line.split("#")[0].strip().partition("==")
        if version and name.replace("_", "-") not in ("jittor", "onednn-cpu-gomp", "onednn-devel-cpu-gomp"):
            assert metadata.version(name) == version, name
