"""Recipes: values, ranges, messages, and the round trip through YAML."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jdiff_style.errors import UserError
from jdiff_style.recipe import FIELDS, Recipe, make_recipe, read_recipe, to_yaml


def test_every_field_is_documented():
    for name, field in FIELDS.items():
        assert len(field.metadata["doc"]) > 10, name


def test_defaults_are_valid_and_follow_the_published_run():
    recipe = make_recipe({})
    assert recipe == Recipe()
    assert (recipe.rank_per_style, recipe.learning_rate, recipe.weight_decay, recipe.lora_dropout) == (
        32,
        1e-5,
        1e-2,
        0.1,
    )


@given(
    seed=st.integers(0, 2**31 - 1),
    rate=st.floats(1e-12, 1.0),
    flip=st.booleans(),
    out=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).filter(str.strip),
)
def test_yaml_reads_back_to_the_same_recipe(tmp_path_factory, seed, rate, flip, out):
    recipe = make_recipe({"seed": seed, "learning_rate": rate, "flip": flip, "out": out, "caption_template": "no"})
    for comments in (False, True):
        file = tmp_path_factory.mktemp("r") / "recipe.yaml"
        file.write_text(to_yaml(recipe, comments), encoding="utf-8")
        assert make_recipe(read_recipe(file)) == recipe


TAGS = st.text(st.characters(codec="utf-8", exclude_characters="=;"), min_size=1).map(str.strip).filter(bool)


@given(st.dictionaries(TAGS, TAGS.filter(lambda text: not set(text) & set("{}")), min_size=1))
def test_named_texts_are_the_same_from_a_file_and_from_the_command_line(tmp_path_factory, texts):
    """Whatever the names are to YAML: numbers, truth values, brackets."""
    texts = {name: f"{text} {{object}}" for name, text in texts.items()}
    recipe = make_recipe({"draft_template": "{object}", "draft_templates": texts})
    line = "; ".join(f"{name} = {text}" for name, text in texts.items()) + " ;"
    assert make_recipe({"draft_template": "{object}", "draft_templates": line}) == recipe
    for comments in (False, True):
        file = tmp_path_factory.mktemp("r") / "recipe.yaml"
        file.write_text(to_yaml(recipe, comments), encoding="utf-8")
        assert make_recipe(read_recipe(file)) == recipe and recipe.draft_templates == texts


@pytest.mark.parametrize(
    "values, words",
    [
        (
            {"rank_per_style": 0},
            ["rank_per_style: 0 is not positive", "28 styles at 32 each make a packed rank of 896"],
        ),
        ({"rank_per_style": -3}, ["-3 is not positive"]),
        ({"learning_rat": 1}, ["unknown key 'learning_rat'", "did you mean 'learning_rate'?"]),
        ({"rank": 1}, ["did you mean 'rank_per_style'?"]),
        ({"zzz": 1}, ["unknown key 'zzz'", "--help"]),
        ({"learning_rate": 0}, ["learning_rate: 0.0 is not positive"]),
        ({"learning_rate": "fast"}, ["learning_rate: 'fast' is not a number"]),
        ({"learning_rate": float("nan")}, ["is not a number"]),
        ({"steps": 1.5}, ["steps: 1.5 is not a whole number"]),
        ({"steps": True}, ["steps: True is not a whole number"]),
        ({"flip": "yes"}, ["flip: 'yes' is not true or false"]),
        ({"lora_dropout": 1}, ["lora_dropout: 1.0 is above 0.99"]),
        ({"crop": "centre"}, ["crop: 'centre' is not one of center, random", "did you mean center?"]),
        ({"resolution": 100}, ["resolution: 100 is not a multiple of 8", "use 96 or 104"]),
        ({"cache_latents": True, "crop": "random"}, ["cache_latents", "crop: random"]),
        ({"caption_template": "{word}"}, ["caption_template", "{object}"]),
        ({"caption_template": "{trigger.__class__}"}, ["caption_template"]),
        ({"caption_template": "{"}, ["caption_template"]),
        ({"style_template": "{object}", "style_captions": 0.5}, ["style_template", "{trigger} and {style}"]),
        ({"style_template": "in {trigger}"}, ["style_template", "style_captions"]),
        ({"style_captions": 1.5}, ["style_captions"]),
        ({"steps": None}, ["steps: a value is missing"]),
        ({"draft_templates": {"flat": "a {object}"}}, ["draft_templates", "give a draft_template, too"]),
        ({"draft_template": "{object}", "draft_templates": {0: "a {object}"}}, ["are not named texts", "in quotes"]),
        ({"draft_template": "{object}", "draft_templates": {}}, ["are not named texts"]),
        ({"draft_template": "{object}", "draft_templates": "flat"}, ["'flat' are not named texts", "flat=a text"]),
        ({"draft_template": "{object}", "draft_templates": "a={object};a=my {object}"}, ["a name twice"]),
        ({"draft_template": "{object}", "draft_templates": {"flat": "a drawing"}}, ["draft_templates, flat:", "{object}"]),
    ],
)
def test_a_bad_value_is_named_with_the_way_out(values, words):
    with pytest.raises(UserError) as caught:
        make_recipe(values)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_that_yaml_reads_as_text(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("learning_rate: 1e-4\nsteps: '12'\n")
    recipe = make_recipe(read_recipe(file))
    assert (recipe.learning_rate, recipe.steps) == (1e-4, 12)


def test_paths_in_a_recipe_start_at_its_folder(tmp_path):
    (tmp_path / "recipes").mkdir()
    file = tmp_path / "recipes" / "r.yaml"
    file.write_text("pack: ../packs/a\nbase: tiny\nout: runs\ninit_lora: x.safetensors\n")
    values = read_recipe(file)
    assert values["pack"] == str((tmp_path / "packs" / "a").resolve())
    assert values["init_lora"] == str((tmp_path / "recipes" / "x.safetensors").resolve())
    assert (values["base"], values["out"]) == ("tiny", "runs")


@pytest.mark.parametrize(
    "text, words",
    [
        ("steps: 1\nsteps: 2\n", ["line 2", "'steps' is given twice"]),
        ("steps: [1\n", ["line 2", "not valid YAML"]),
        ("- a\n", ["`key: value`"]),
        ("? [a]\n: 1\n", ["line 1"]),
    ],
)
def test_broken_yaml_names_file_and_line(tmp_path, text, words):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        make_recipe(read_recipe(file))
    assert "bad.yaml" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_missing_recipe(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_recipe(tmp_path / "none.yaml")


def test_captions_of_the_emoji_recipes_have_the_form_that_the_base_has_read_most():
    from jdiff_style.captions import make_caption
    from jdiff_style.grid import grid_prompt
    from jdiff_style.packs import load_pack
    from jdiff_style.pretrain_data import plain_caption

    for name, words in (("emoji", "style_tags"), ("emoji-tiny", "trigger")):
        recipe = make_recipe(read_recipe(Path(__file__).resolve().parents[2] / "data" / "recipes" / f"{name}.yaml"))
        for style in load_pack(recipe.pack).styles:
            image, own = style.images[0], getattr(style, words)
            own = own if isinstance(own, str) else ", ".join(own)
            caption = make_caption(style, image, False, None, recipe.caption_template)
            assert caption == plain_caption(own, image.name)
            assert grid_prompt(style, "lion", recipe.caption_template) == plain_caption(own, "lion")


def test_the_recipes_of_the_repository_are_valid():
    folder = Path(__file__).resolve().parents[2] / "data" / "recipes"
    files = sorted(folder.glob("*.yaml"))
    assert {"sample.yaml", "sd21-pack28.yaml"} <= {f.name for f in files}
    for file in files:
        make_recipe(read_recipe(file), file.name)
        assert file.read_text().startswith("# "), f"{file.name} must begin with the command that runs it"
