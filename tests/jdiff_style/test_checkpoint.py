"""Checkpoints: complete or absent, and damage is noticed."""

import errno
import os

import pytest

from jdiff_style import checkpoint
from jdiff_style.errors import UserError


def writer(text):
    return lambda folder: (folder / "weights").write_text(text)


def names(run):
    return sorted(p.name for p in (run / "checkpoints").iterdir())


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 10):
        checkpoint.write_checkpoint(tmp_path, step, writer(str(step)), keep=2)
    assert names(tmp_path) == ["step-00000003", "step-00000010"]
    step, folder = checkpoint.newest_good(tmp_path)
    assert step == 10 and (folder / "weights").read_text() == "10"


def test_none_yet(tmp_path):
    assert checkpoint.newest_good(tmp_path) is None


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda f: (f / "weights").write_text("3x"), "2 bytes instead of 1"),
        (lambda f: (f / "weights").write_text("4"), "has changed"),
        (lambda f: (f / "weights").unlink(), "is missing"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json is unreadable"),
        (lambda f: (f / "manifest.json").write_text("[]"), "manifest.json is unreadable"),
    ],
)
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path, caplog, damage, words):
    for step in (2, 3):
        checkpoint.write_checkpoint(tmp_path, step, writer(str(step)), keep=2)
    damage(checkpoint.checkpoint_path(tmp_path, 3))
    assert checkpoint.newest_good(tmp_path)[0] == 2
    assert "step-00000003 is damaged" in caplog.text and words in caplog.text
    checkpoint.write_checkpoint(tmp_path, 3, writer("3"), keep=2)
    assert checkpoint.newest_good(tmp_path)[0] == 3


def test_all_damaged(tmp_path):
    checkpoint.write_checkpoint(tmp_path, 1, writer("1"), keep=1)
    (checkpoint.checkpoint_path(tmp_path, 1) / "weights").unlink()
    with pytest.raises(UserError, match="all 1 checkpoints are damaged"):
        checkpoint.newest_good(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_failing_disk_leaves_the_last_good_one(tmp_path, number):
    checkpoint.write_checkpoint(tmp_path, 1, writer("1"), keep=1)

    def fail(folder):
        (folder / "weights").write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError) as caught:
        checkpoint.write_checkpoint(tmp_path, 2, fail, keep=1)
    assert "last good checkpoint is that of step 1" in str(caught.value) and "--resume" in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert names(tmp_path) == ["step-00000001"]
    assert checkpoint.newest_good(tmp_path)[0] == 1


def test_too_little_space_is_noticed_before_writing(tmp_path):
    with pytest.raises(UserError, match=r"No space left on device .* needed.*there is no checkpoint yet"):
        checkpoint.write_checkpoint(tmp_path, 1, writer("1"), keep=1, needed_bytes=1 << 60)
    assert names(tmp_path) == []


def test_other_errors_pass_through_and_leave_nothing(tmp_path):
    def fail(folder):
        (folder / "weights").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        checkpoint.write_checkpoint(tmp_path, 1, fail, keep=1)
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / "checkpoints" / ".tmp-step-00000004-1"
    left.mkdir(parents=True)
    (left / "weights").write_text("half")
    assert checkpoint.newest_good(tmp_path) is None
    checkpoint.write_checkpoint(tmp_path, 5, writer("5"), keep=1)
    assert names(tmp_path) == ["step-00000005"]
