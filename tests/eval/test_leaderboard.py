"""The leaderboard through `jdiff leaderboard`."""

import contextlib
import json
import sqlite3

import pytest

from jdiff_style.cli import main


def write(path, name, total=0.5, without_total=False, **changes):
    report = {
        "generated": f"pictures/{name}", "protocol": "challenge", "backbones": {"kind": "official"}, "not_comparable": None,
        "counts": {"scored": 10, "expected": 12},
        "metrics": {"hist": {"value": total, "interval": [0.1, 0.9]}, "dino": {"value": None, "not_computed": "weights"}},
        "total": {"value": None if without_total else total},
    }  # fmt: skip
    path.write_text(json.dumps(report | changes))
    return str(path)


@pytest.fixture
def board(tmp_path, capsys):
    """``board(*words)`` -> (exit code, output, errors) of `jdiff leaderboard` on a file of its own."""

    def run(*words):
        code = main(["leaderboard", *words, "--file", str(tmp_path / "deep" / "board.sqlite")])
        return code, *capsys.readouterr()

    return run


def test_runs_are_shown_best_first(board, tmp_path):
    assert board("show")[0] == 1
    for name, total in (("low", 0.4), ("high", 0.6)):
        assert board("add", write(tmp_path / "r.json", name, total)) == (0, f"added {name}\n", "")
    warning = "not comparable with the leaderboard: lite backbones"
    lite = {"not_comparable": warning, "metrics": {"hist": {"value": 0.7}}}
    write(tmp_path / "r.json", "small", without_total=True, **lite)
    assert board("add", str(tmp_path / "r.json"), "--name", "lite run")[0] == 0
    out = board("show")[1]
    assert [line.split()[0] for line in out.splitlines()] == ["run", "high", "low", "lite", "*"]
    assert "0.6000" in out and "10/12" in out and "lite run*" in out
    assert "* lite run: not comparable with the leaderboard: lite backbones" in out
    assert board("show", "--sort", "hist")[1].splitlines()[1].startswith("lite run*")
    assert len(board("show", "--protocol", "corrected")[1].splitlines()) == 1


def test_a_run_is_kept_once(board, tmp_path):
    report = write(tmp_path / "r.json", "one")
    assert board("add", report)[0] == 0
    code, _, err = board("add", report, "--name", "two")
    assert code == 1 and "this report is there already (one)" in err
    code, _, err = board("add", write(tmp_path / "s.json", "one", 0.7))
    assert code == 1 and "another run has this name" in err
    assert len(board("show")[1].splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add", "nowhere.json"], "No such file"),
        (["add", "{bad}"], "is no report"),
        (["show", "--sort", "beauty"], "--sort: 'beauty' is unknown"),
    ],
)
def test_bad_input_gets_one_sentence(board, tmp_path, words, message):
    (tmp_path / "bad.json").write_text("[1]")
    code, _, err = board(*[word.format(bad=tmp_path / "bad.json") for word in words])
    assert code == 1 and message in err and err.count("\n") == 1


def test_other_files_are_left_alone(board, tmp_path):
    file = tmp_path / "deep" / "board.sqlite"
    file.parent.mkdir()
    file.write_bytes(b"no database, " * 100)
    code, _, err = board("add", write(tmp_path / "r.json", "one"))
    assert code == 1 and "cannot be used" in err and file.read_bytes() == b"no database, " * 100
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 9")
    assert "has version 9" in board("show")[2]


def test_showing_changes_nothing_and_needs_no_leave_to_write(board, tmp_path):
    file = tmp_path / "deep" / "board.sqlite"
    assert board("add", write(tmp_path / "r.json", "one"))[0] == 0
    file.chmod(0o400)
    file.parent.chmod(0o500)
    before = file.read_bytes()
    assert board("show")[0] == 0
    file.parent.chmod(0o700)
    file.chmod(0o600)
    # Root may write in spite of chmod; the lock of another writer stops everybody who wants to write.
    with contextlib.closing(sqlite3.connect(file)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert board("show")[0] == 0
    assert file.read_bytes() == before


@pytest.mark.parametrize("verb", ["show", "add"])
def test_other_databases_get_no_tables(board, tmp_path, verb):
    file = tmp_path / "deep" / "board.sqlite"
    file.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")
    before = file.read_bytes()
    code, _, err = board(*({"show": ["show"], "add": ["add", write(tmp_path / "r.json", "one")]}[verb]))
    assert code == 1 and "is no leaderboard" in err and file.read_bytes() == before
    file.write_bytes(b"")
    assert board("show")[0] == 1 and file.read_bytes() == b""
