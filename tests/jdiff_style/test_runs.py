"""Run folders, their lock and their log."""

import json
import threading
from pathlib import Path

import pytest

from jdiff_style import runs
from jdiff_style.errors import UserError


def test_numbers_go_on_after_the_highest(tmp_path):
    out = tmp_path / "outputs"
    assert runs.create_run(out, "a", {}).name == "00000-a"
    (out / "00041-x").mkdir()
    run = runs.create_run(out, "b", {"recipe.yaml": "x: 1\n"})
    assert run.name == "00042-b" and (run / "recipe.yaml").read_text() == "x: 1\n"
    assert sorted(p.name for p in run.iterdir()) == ["recipe.yaml"]


def test_runs_started_at_once_get_numbers_of_their_own(tmp_path, monkeypatch):
    numbers = iter(range(100, 200))
    monkeypatch.setattr(runs.os, "getpid", lambda: next(numbers))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(runs.create_run(tmp_path, "a", {"f": "1"}))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in found) == [f"{i:05d}-a" for i in range(8)]


def test_an_out_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"out: cannot write in .*--out"):
        runs.create_run(tmp_path / "file" / "x", "a", {})


@pytest.mark.parametrize(
    "name, short", [("stable diffusion 2.1", "stable-diffusion-2.1"), ("日本", "base"), ("é/..", "base")]
)
def test_short_name(name, short):
    assert runs.short_name(Path(name)) == short


def test_only_one_process_works_on_a_run(tmp_path):
    with runs.locked(tmp_path), pytest.raises(UserError, match="another process"), runs.locked(tmp_path):
        pass
    with runs.locked(tmp_path):
        pass


def test_the_log_drops_what_came_after_the_checkpoint(tmp_path):
    log = runs.TrainingLog(tmp_path, 0)
    for step in range(1, 6):
        log.add(step=step, loss=0.1 * step)
    log.close()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 6, "lo')
    log = runs.TrainingLog(tmp_path, 3)
    log.add(step=4, loss=1.0)
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 0.1), (2, 0.2), (3, 0.1 * 3), (4, 1.0)]


def test_replacing_a_text_fails_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a"
    runs.write_text(file, "old")
    monkeypatch.setattr(runs.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        runs.write_text(file, "new")
    assert file.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_versions_name_what_made_the_result():
    found = runs.versions({"pack": "x"})
    assert {"torch", "diffusers", "peft"} <= set(found["packages"]) and found["inputs"] == {"pack": "x"}
    assert set(found["git"]) == {"commit", "changed"}
    json.dumps(found)


def test_show_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs.show_path(tmp_path / "outputs" / "a") == "outputs/a"
    assert runs.show_path(Path("/")) == "/"
