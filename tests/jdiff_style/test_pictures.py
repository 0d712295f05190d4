"""Picture files: names that cannot escape, atomic writing, checks for damage, contact sheets."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jdiff_style.errors import UserError
from jdiff_style.pictures import (
    Row,
    Tile,
    contact_sheet,
    is_whole_picture,
    remove_leftovers,
    safe_name,
    save_picture,
)

RED = Image.new("RGB", (9, 5), "red")


@pytest.mark.parametrize(
    "word",
    [
        "../../x",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "",
        "  ",
        ".",
        "..",
        ".hidden",
        "nul\0",
        "new\nline",
        "\x7f",
        "x" * 252,
        "é" * 126,
        "\ud800",
    ],
)
def test_words_that_cannot_name_a_file_are_refused_by_name(word):
    with pytest.raises(UserError, match=r"^style 00, prompt 3: .*change the word in the pack$"):
        safe_name(word, ".png", "style 00, prompt 3")


@pytest.mark.parametrize("word", ["Ring", "Ice cream", "Ice_cream", "rosé", "猫", "x" * 251, "a..b", "50%", "~", "-rf"])
def test_other_words_stay_exactly_as_they_are(word, tmp_path):
    path = tmp_path / safe_name(word, ".png", "style 00, prompt 3")
    save_picture(RED, path)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"{word}.png"]


@given(st.text(max_size=300))
def test_a_name_never_leaves_its_folder(word):
    try:
        name = safe_name(word, ".png", "x")
    except UserError:
        return
    folder = os.path.join(os.sep, "out", "00")
    assert os.path.dirname(os.path.normpath(os.path.join(folder, name))) == folder
    assert name == f"{word}.png"


def test_truncated_pictures_are_not_whole(tmp_path):
    path = tmp_path / "a.png"
    save_picture(RED, path)
    assert is_whole_picture(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert not is_whole_picture(path), length
    path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    assert not is_whole_picture(path)


def test_other_things_are_no_whole_picture(tmp_path):
    assert not is_whole_picture(tmp_path / "absent.png")
    assert not is_whole_picture(tmp_path)
    RED.save(tmp_path / "jpeg.png", format="JPEG")
    assert not is_whole_picture(tmp_path / "jpeg.png")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    save_picture(RED, path)
    before = path.read_bytes()

    class Broken:
        def save(self, file, format):
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        save_picture(Broken(), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_leftovers_of_ended_processes_are_removed_and_of_living_ones_kept(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (ended.pid, os.getpid()):
        (tmp_path / f".jdiff-{process}.part").write_bytes(b"half")
    (tmp_path / ".jdiff-x.part").write_bytes(b"not ours")
    assert remove_leftovers(tmp_path) == 1
    assert remove_leftovers(tmp_path, os.getpid()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".jdiff-x.part"]
    assert remove_leftovers(tmp_path / "absent") == 0


def test_contact_sheet(tmp_path):
    save_picture(RED, tmp_path / "a.png")
    (tmp_path / "b.png").write_text("damaged")
    tiles = [Tile("猫", tmp_path / "a.png"), Tile("b", tmp_path / "b.png"), Tile("none", None)]
    sheet = contact_sheet([Row("00", [tiles]), Row("01", [])], tile=32)
    colours = {colour for _, colour in sheet.getcolors(100000)}
    assert (255, 0, 0) in colours and (211, 211, 211) in colours
    assert sheet.height > 2 * 32 and sheet.width > 3 * 32
    with pytest.raises(ValueError, match="row"):
        contact_sheet([])


def columns_of(sheet, colour):
    """(left, top, right, bottom) of the block of one colour."""
    ys, xs = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def test_groups_of_a_contact_sheet_begin_in_the_same_column_in_every_row():
    blue, green = Image.new("RGB", (8, 8), (0, 0, 255)), Image.new("RGB", (8, 8), (0, 255, 0))
    rows = [
        Row("a", [[Tile("x", RED), Tile("x", RED)], [Tile("y", blue)]]),
        Row("b", [[Tile("x", RED)], [Tile("y", green)]]),
    ]
    sheet = contact_sheet(rows, tile=32, heads=[["one"], ["two"]])
    left, top, right, bottom = columns_of(sheet, (0, 0, 255))
    below = columns_of(sheet, (0, 255, 0))
    assert (right - left, bottom - top) == (32, 32)
    assert (below[0], below[2]) == (left, right) and below[1] >= bottom
    assert left - columns_of(sheet, (255, 0, 0))[2] > 8  # a group is set apart
    assert np.asarray(sheet)[:top, left:right].min() < 128  # its head stands above it


def test_a_contact_sheet_keeps_the_shape_of_a_picture():
    sheet = contact_sheet([Row("a", [[Tile("wide", Image.new("RGB", (200, 50), (0, 0, 255)))]])], tile=32)
    left, top, right, bottom = columns_of(sheet, (0, 0, 255))
    assert (right - left, bottom - top) == (32, 8)
