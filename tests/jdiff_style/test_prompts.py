"""Prompts: what the text encoder reads for a style and an object word."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jdiff_style.captions import make_caption
from jdiff_style.errors import UserError
from jdiff_style.packs import ImageRecord, Pack, Style
from jdiff_style.prompts import ExpansionIndex, PromptOptions, build_prompts, make_prompt

STYLE = Style("00", "style_00", [], ["purple", "lineart"], {"0": "Ice cream", "1": "Dog"})
EXPANSIONS = {
    "Ice_cream": {
        "different": ["cake", "frozen_yogurt"],
        "property": ["cold"],
        "hypernyms": ["dessert", "sweet_food", "food"],
    },
    "Dog": {"different": ["cat"], "hypernyms": ["animal", "dog", "Animal", "mammal", "pet"]},
}


def prompt(word="Dog", style=STYLE, expansions=EXPANSIONS, **options):
    return make_prompt(style, "0", word, PromptOptions(**options), ExpansionIndex(expansions))


def test_default_order_is_that_of_the_captions():
    assert prompt(hypernyms=0).positive == "style_00, purple, lineart, Dog"
    caption = make_caption(STYLE, ImageRecord(Path("Dog.png"), "Dog"), False)
    assert prompt(hypernyms=0).positive == caption


def test_hypernyms_are_appended_once_each_and_never_the_word_itself():
    assert prompt(hypernyms=9).positive == "style_00, purple, lineart, Dog, Animal, mammal, pet"
    assert prompt(hypernyms=1).positive == "style_00, purple, lineart, Dog, Animal"


def test_expansions_are_found_with_spaces_or_underscores():
    assert prompt("Ice cream", hypernyms=2).positive.endswith("Ice cream, dessert, sweet food")
    assert "ICE_cream" in ExpansionIndex(EXPANSIONS) and "Cake" not in ExpansionIndex(EXPANSIONS)


def test_a_word_without_expansion_stands_alone():
    assert prompt("Sofa", different=True) == prompt("Sofa", hypernyms=0)


def test_different_words_become_negative():
    assert prompt().negative == ""
    assert prompt("Ice cream", different=True).negative == "cake, frozen yogurt"
    assert prompt(different=True, negative="blurry").negative == "blurry, cat"


def test_repeat():
    assert prompt(repeat=4, hypernyms=0).positive == "style_00, purple, lineart, Dog, Dog, Dog, Dog"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("an image of {object} in {trigger}", "an image of Dog in style_00, Animal, mammal"),
        ("{object} ({hypernyms}), {style}", "Dog (Animal, mammal), purple, lineart"),
        ("{trigger}, {tags}", "style_00, Dog, Animal, mammal"),
        ("{{{object}}}", "{Dog}, Animal, mammal"),
    ],
)
def test_templates(template, text):
    assert prompt(template=template, hypernyms=2).positive == text


def test_empty_fields_leave_no_comma_behind():
    plain = Style("00", "style_00", [], [], {})
    assert prompt(style=plain, template="{trigger}, {style}, {object}", hypernyms=0).positive == "style_00, Dog"
    assert prompt(style=plain, hypernyms=0).positive == "style_00, Dog"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "{object} by {artist}"}, r"--template: \{artist\} in .* is unknown; the fields are \{trigger\}"),
        ({"template": "{object"}, "--template: '{object' cannot be read"),
        ({"template": "{}"}, "--template"),
        ({"template": "{object.upper}"}, "--template"),
        ({"template": "{object:d}"}, "--template"),
        ({"template": "in {trigger}"}, "has no {object}"),
        ({"repeat": 0}, "--repeat: 0 is below 1"),
        ({"hypernyms": -1}, "--hypernyms: -1 is negative"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        PromptOptions(**options)


@pytest.mark.parametrize("entry", [["animal"], {"hypernyms": "animal"}, {"hypernyms": [1]}])
def test_malformed_expansions_are_named(entry):
    with pytest.raises(UserError, match=r"llm_prompt\.json: hypernyms of 'Dog' is not a list of words"):
        prompt(expansions={"Dog": entry})


def test_every_distinct_word_of_every_style_in_order():
    second = Style("01", "style_01", [], [], {"a": "Cat", "b": "Cat", "c": "Dog"})
    prompts = build_prompts(Pack(Path("pack"), [STYLE, second], expansions=EXPANSIONS), PromptOptions(hypernyms=0))
    assert [(p.style, p.key, p.word) for p in prompts] == [
        ("00", "0", "Ice cream"),
        ("00", "1", "Dog"),
        ("01", "a", "Cat"),
        ("01", "c", "Dog"),
    ]


@given(st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1), st.integers(1, 4), st.integers(0, 4))
def test_trigger_comes_first_and_the_word_as_often_as_asked(word, repeat, hypernyms):
    parts = prompt(word, repeat=repeat, hypernyms=hypernyms, expansions={word: {"hypernyms": ["?", "!"]}}).positive.split(
        ", "
    )
    assert parts[:3] == ["style_00", "purple", "lineart"]
    assert parts[3 : 3 + repeat] == [word] * repeat
    assert parts[3 + repeat :] == ["?", "!"][:hypernyms]
