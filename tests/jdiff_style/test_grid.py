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


def test_rows_are_styles_and_references_stand_beside(sample, pipeline, tmp_path):
    pack = load_pack(sample)
    recipe = make_recipe({"resolution": 32, "grid_styles": 2, "grid_words": 2, "grid_steps": 1})
    draw_grid(pipeline, pack, recipe, tmp_path / "grid.png", torch.device("cpu"))
    sheet = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB")).astype(int)
    assert [p.name for p in tmp_path.iterdir()] == ["grid.png"]
    for row, style in enumerate(pack.styles[:2]):
        top = 8 + row * (96 + 16 + 6)
        shown = sheet[top : top + 96, 8 : 8 + 96]
        reference = np.asarray(Image.open(style.images[0].path).resize((96, 96), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(shown - reference).max() <= 1
        generated = sheet[top : top + 96, 8 + 3 * 102 + 12 :][:, :96]
        assert generated.std() > 5


def test_a_picture_does_not_depend_on_the_others_in_the_grid(sample, pipeline, tmp_path):
    pack = load_pack(sample)
    sheets = []
    for words in (1, 2):
        recipe = make_recipe({"resolution": 32, "grid_styles": 1, "grid_words": words, "grid_steps": 1})
        draw_grid(pipeline, pack, recipe, tmp_path / "grid.png", torch.device("cpu"))
        sheets.append(np.asarray(Image.open(tmp_path / "grid.png"))[8:104, 326:422])
    assert np.array_equal(*sheets)
