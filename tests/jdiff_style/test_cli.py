"""The `jdiff` command: help, exit codes, dry run, and the script that sets itself up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_help_needs_no_heavy_library():
    code = (
        "import sys, jdiff_style.cli as c\n"
        "try: c.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr


def test_help_shows_every_field_with_unit_range_and_default(jdiff):
    from jdiff_style.recipe import FIELDS

    _, out, _ = jdiff("train", "--help")
    for name in FIELDS:
        assert "--" + name.replace("_", "-") in out
    assert "[1 to 4096]" in out and "(default: 32)" in out and "RANK" in out


@pytest.mark.parametrize(
    "words", [[], ["nonsense"], ["train", "--nonsense"], ["train", "--recipe", "a", "--resume", "b"]]
)
def test_wrong_usage_exits_with_2(jdiff, words):
    code, out, err = jdiff(*words)
    assert code == 2 and out == "" and "usage: jdiff" in err


def test_dry_run_prints_the_resolved_recipe_and_writes_nothing(jdiff, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = ROOT / "data" / "recipes" / "sample.yaml"
    code, out, _ = jdiff(
        "train", "--recipe", recipe, "--steps", "7", "--no-flip", "--caption-template", "none", "--dry-run"
    )
    values = yaml.safe_load(out)
    assert code == 0 and values["steps"] == 7 and values["flip"] is False and values["caption_template"] is None
    assert Path(values["pack"]) == ROOT / "data" / "packs" / "sample" and values["rank_per_style"] == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, message",
    [
        (["--rank-per-style", "0"], "rank_per_style: 0 is not positive"),
        (["--learning-rate", "fast"], "learning_rate: 'fast' is not a number"),
        (["--recipe", "none.yaml"], "cannot read none.yaml"),
        ([], "pack: none given"),
    ],
)
def test_user_errors_exit_with_1_and_one_sentence(jdiff, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = jdiff("train", *words)
    assert code == 1 and out == "" and message in err and len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_make_tiny_base(jdiff, tmp_path):
    code, out, _ = jdiff("make-tiny-base", tmp_path / "tiny", "--prediction-type", "v_prediction")
    assert code == 0 and out.strip() == str(tmp_path / "tiny") and (tmp_path / "tiny" / "model_index.json").is_file()
    code, _, err = jdiff("make-tiny-base", tmp_path / "tiny")
    assert code == 1 and "exists already" in err


def test_other_verbs_get_their_own_arguments(jdiff, monkeypatch):
    import types

    seen = []
    fake = types.SimpleNamespace(main=lambda argv: seen.append(argv) or 3)
    monkeypatch.setitem(sys.modules, "jdiff_style.doctor", fake)
    assert jdiff("doctor", "--help", "-x")[0] == 3 and seen == [["--help", "-x"]]


def test_offline_is_set_before_the_libraries_load():
    code = "import jdiff_style, huggingface_hub.constants as c; print(c.HF_HUB_OFFLINE)"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.strip() == "True", done.stderr


def test_a_new_home_raises_no_alarm_about_an_old_cache(tmp_path):
    """transformers, imported after diffusers, warns of a folder that has only diffusers' file in it."""
    code = "import jdiff_style, diffusers.utils.hub_utils, transformers.utils.hub"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))} | {"HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0 and "from_pretrained" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "hub").iterdir()) == ["version.txt", "version_diffusers_cache.txt"]


@pytest.fixture
def checkout(tmp_path):
    """A checkout as the script sees one, without the embedded base model."""
    root = tmp_path / "check out"
    shutil.copytree(ROOT / "data" / "recipes", root / "data" / "recipes")
    (root / "data" / "packs").symlink_to(ROOT / "data" / "packs")
    (root / "jdiff_style").symlink_to(ROOT / "jdiff_style")
    (root / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "train_pack.sh", root / "scripts")
    return root


def run_script(root, *words, cwd):
    environment = {**os.environ, "JDIFF_PYTHON": sys.executable}
    line = ["bash", str(root / "scripts" / "train_pack.sh"), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment)


def test_train_pack_script_resolves_paths_from_any_folder(checkout, tmp_path):
    done = run_script(checkout, "--dry-run", "--pack", "here", cwd=tmp_path)
    values = yaml.safe_load(done.stdout)
    assert done.returncode == 0, done.stderr
    assert values["pack"] == "here" and values["out"] == str(checkout / "outputs")


def test_train_pack_script_takes_the_embedded_base_where_there_is_one(checkout, tmp_path):
    found = []
    for embedded in (False, True):
        if embedded:
            (checkout / "data" / "base" / "emoji-sd").mkdir(parents=True)
            (checkout / "data" / "base" / "emoji-sd" / "model_index.json").write_text("{}")
        done = run_script(checkout, "--dry-run", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        values = yaml.safe_load(done.stdout)
        found.append((Path(values["pack"]).name, Path(values["base"]).name, values["resolution"]))
    assert found == [("sample", "tiny", 64), ("emoji-8", "emoji-sd", 128)]


def test_train_pack_script_trains(checkout, tmp_path):
    words = ("--out", tmp_path / "o u t", "--steps", 2, "--resolution", 32, "--grid-steps", 1)
    done = run_script(checkout, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / done.stdout.splitlines()[-1]
    assert run.name == "00000-pack3-r12-tiny-base" and (run / "grid.png").is_file()
    done = run_script(checkout, "--resume", run, "--steps", 3, cwd=tmp_path)
    assert done.returncode == 0 and len((run / "log.jsonl").read_text().splitlines()) == 3, done.stderr
