"""The sample grid."""

import numpy as np
import pytest
import torch
from PIL import Image

from jdiff_style.grid import draw_grid, grid_prompt, grid_words
from jdiff_style.packs import load_pack
from jdiff_style.recipe import make_recipe


@pytest.fixture
def pipeline(tiny_base):
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(str(tiny_base), safety_checker=None, local_files_only=True)


def test_words_and_prompts(sample):
    style = load_pack(sample).styles[0]
    assert grid_words(style, 2) == ["Cat", "Bridge"]
    style.prompts.clear()
    assert grid_words(style, 2) == ["apple", "fish"]
    assert grid_prompt(style, "Cat", None) == "style_00, neon, lineart, dark_background, Cat"
    assert grid_prompt(style, "Cat", "an image of {object} in {trigger}") == "an image of Cat in style_00"


def tiles(sheet, side):
    """(left, top) of the pictures' upper left corners: where a square of `side` px stands out best from the white sheet (a
    generated picture may have white pixels of its own).
    """
    sums = np.pad((sheet != 255).any(axis=2).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    filled = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    corners: list[tuple[int, int]] = []
    for top, left in sorted(np.argwhere(filled > 0.9 * side * side), key=lambda place: -filled[tuple(place)]):
        if all(abs(left - x) >= side or abs(top - y) >= side for x, y in corners):
            corners.append((int(left), int(top)))
    return sorted(corners, key=lambda corner: (corner[1], corner[0]))


def cut(sheet, corner, side=96):
    return sheet[corner[1] : corner[1] + side, corner[0] : corner[0] + side].astype(int)


def draw(pack, pipeline, file, **changes):
    values = {"resolution": 32, "grid_styles": 2, "grid_words": 2, "grid_steps": 1} | changes
    draw_grid(pipeline, pack, make_recipe(values), file, torch.device("cpu"), {})
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.fixture
def grey_pack(pack_folder):
    """A pack whose references and targets are squares of one grey each, so that a grid can be read."""
    levels = {}
    for number, file in enumerate(sorted(pack_folder.glob("*/images/*.png"))):
        levels[file] = 20 + 10 * number
        Image.new("RGB", (32, 32), (levels[file],) * 3).save(file)
    return pack_folder, levels


def test_rows_are_styles_and_references_stand_beside(grey_pack, pipeline, tmp_path):
    folder, levels = grey_pack
    sheet = draw(load_pack(folder), pipeline, tmp_path / "grid.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid.png", "pack"]
    corners = tiles(sheet, 96)
    assert len(corners) == 8  # two rows of two references and two words
    for row, style in enumerate(("00", "01")):
        shown = [cut(sheet, corner) for corner in corners[4 * row : 4 * row + 4]]
        assert [int(picture.mean()) for picture in shown[:2]] == [
            levels[folder / style / "images" / name] for name in ("boat.png", "red_apple.png")
        ]
        assert all(picture.std() > 5 for picture in shown[2:])
    lefts = [left for left, _ in corners]
    assert lefts[:4] == lefts[4:]


def test_true_pictures_stand_beside_the_generated_ones(grey_pack, pipeline, tmp_path):
    folder, _ = grey_pack
    for style, word, level in (("00", "Ring", 100), ("00", "Hotel", 120), ("01", "Hotel", 140)):
        (folder / style / "targets").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (level,) * 3).save(folder / style / "targets" / f"{word}.png")
    sheet = draw(load_pack(folder), pipeline, tmp_path / "grid.png")
    corners = tiles(sheet, 96)
    assert len(corners) == 12
    means = [[cut(sheet, corner) for corner in corners[6 * row : 6 * row + 6]] for row in range(2)]
    for row, wanted in zip(means, ([100, 120], [211, 140])):  # 211: light grey where the pack has none
        assert [int(row[n].mean()) for n in (3, 5)] == wanted and all(row[n].std() == 0 for n in (3, 5))
        assert all(row[n].std() > 5 for n in (2, 4))
    # The true picture is nearer to its generated one than to the next word's.
    gaps = np.diff([left for left, _ in corners[2:6]])
    assert gaps[0] == gaps[2] < gaps[1]


def test_a_picture_does_not_depend_on_the_others_in_the_grid(sample, pipeline, tmp_path):
    pack = load_pack(sample)
    sheets = [draw(pack, pipeline, tmp_path / "grid.png", grid_styles=1, grid_words=words) for words in (1, 2)]
    corner = tiles(sheets[0], 96)[3]
    assert np.array_equal(*(cut(sheet, corner) for sheet in sheets))
