"""Style packs: three layouts, and one clear sentence for everything that can be wrong with them."""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jdiff_style.errors import UserError
from jdiff_style.packs import load_pack, open_image, split_tags


def error_of(path, **options):
    with pytest.raises(UserError) as caught:
        load_pack(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_true_pictures_are_found_by_word(pack_folder, picture):
    composed, decomposed = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    for name in ("Ring.png", f"{decomposed}.webp", ".hidden.png", "note.txt"):
        if name.endswith("txt"):
            (pack_folder / "00" / "targets" / name).write_text("not a picture")
        else:
            picture(pack_folder / "00" / "targets" / name)
    before = load_pack(pack_folder)
    with_targets, without = before.styles
    assert with_targets.target("Ring") == pack_folder / "00" / "targets" / "Ring.png"
    assert with_targets.target(composed) == with_targets.target(decomposed) != None  # noqa: E711
    assert with_targets.target("Hotel") is None and len(with_targets.targets) == 2 and without.targets == {}
    assert not before.skipped


def test_sample_pack(sample):
    pack = load_pack(sample, strict=True)
    assert [style.trigger for style in pack.styles] == ["style_00", "style_01", "style_02"]
    assert [len(style.images) for style in pack.styles] == [3, 3, 3]
    assert pack.styles[0].style_tags == ["neon", "lineart", "dark_background"]
    assert {image.name: image.tags for image in pack.styles[0].images}["apple"] == ["apple", "fruit"]
    assert pack.styles[0].prompts["0"] == "Cat"
    assert sum(f.stat().st_size for f in sample.rglob("*") if f.is_file()) < 50_000


def test_tags_belong_to_their_picture(pack_folder):
    style = load_pack(pack_folder).styles[1]
    assert {image.name: image.tags for image in style.images} == {
        "boat": ["boat", "sail"],
        "red_apple": ["apple", "fruit"],
    }
    assert style.style_tags == ["style tag 1"]
    assert style.prompts == {"0": "Ring", "1": "Hotel"}


def test_a_single_style_folder_is_a_pack_of_one(pack_folder):
    assert [style.id for style in load_pack(pack_folder / "01").styles] == ["01"]


def test_expansions_beside_and_inside_styles(pack_folder):
    (pack_folder / "llm_prompt.json").write_text('{"Ring": {"hypernyms": ["jewelry"]}}')
    (pack_folder / "00" / "llm_prompt.json").write_text('{"Hotel": {"hypernyms": ["building"]}}')
    assert set(load_pack(pack_folder).expansions) == {"Ring", "Hotel"}


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda f: f.write_bytes(f.read_bytes()[:-40]), "damaged"),
        (lambda f: f.write_bytes(b"hello"), "not a picture"),
        (lambda f: f.write_bytes(b""), "empty"),
    ],
)
def test_an_unreadable_picture_is_skipped_and_named_or_refused(picture, pack_folder, damage, reason):
    file = picture(pack_folder / "00" / "images" / "boat.png", size=(64, 64))
    damage(file)
    pack = load_pack(pack_folder)
    assert [path.name for path, _ in pack.skipped] == ["boat.png"]
    assert reason in pack.skipped[0][1]
    assert [image.name for image in pack.styles[0].images] == ["red_apple"]
    message = error_of(pack_folder, strict=True)
    assert "boat.png" in message and reason in message


def test_a_truncated_jpeg_is_noticed(picture, pack_folder):
    file = picture(pack_folder / "00" / "images" / "half.jpg", size=(64, 64))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert [path.name for path, _ in load_pack(pack_folder).skipped] == ["half.jpg"]


def test_other_files_are_named_too_but_sidecars_are_not(pack_folder):
    images = pack_folder / "00" / "images"
    for name in ("movie.mp4", "notes.txt", ".DS_Store", "Thumbs.db"):
        (images / name).write_bytes(b"x")
    assert [path.name for path, _ in load_pack(pack_folder).skipped] == ["movie.mp4"]


def test_a_style_without_a_readable_picture(pack_folder):
    for file in (pack_folder / "01" / "images").iterdir():
        file.write_bytes(b"")
    message = error_of(pack_folder)
    assert "style 01" in message and "no readable picture" in message


def test_a_style_without_images_folder(pack_folder):
    for file in (pack_folder / "01" / "images").iterdir():
        file.unlink()
    (pack_folder / "01" / "images").rmdir()
    assert "images is missing" in error_of(pack_folder)


def test_tags_for_a_missing_picture_name_file_line_and_the_nearest(pack_folder):
    file = pack_folder / "00" / "tag.json"
    file.write_text('{\n "item": {\n  "boat": "boat",\n  "red_aple": "apple"\n },\n "style": ""\n}')
    message = error_of(pack_folder)
    assert "tag.json, line 4" in message and "'red_aple'" in message and "did you mean 'red_apple'?" in message


def test_tags_of_a_skipped_picture_are_no_error(pack_folder):
    (pack_folder / "00" / "images" / "boat.png").write_bytes(b"")
    assert len(load_pack(pack_folder).skipped) == 1


def test_tag_keys_with_an_ending_are_understood(pack_folder):
    (pack_folder / "00" / "tag.json").write_text('{"item": {"boat.png": "sea"}, "style": "a,b ,"}')
    style = load_pack(pack_folder).styles[0]
    assert style.images[0].tags == ["sea"] and style.style_tags == ["a", "b"]


@pytest.mark.parametrize(
    "text, words",
    [
        ('{\n "item": {\n  "boat": "x",\n }\n}', ["line 4", "not valid JSON"]),
        ("[]", ["line 1", "expected an object"]),
        ('{"item": {},\n "stile": "x"}', ["line 2", "unknown key 'stile'"]),
        ('{"item": {"boat": 3}}', ["line 1", "tags must be"]),
        ('{"item": {"boat": "a",\n "boat": "b"}}', ["'boat' is given twice"]),
        ('{"item": ["boat"]}', ["must map"]),
    ],
)
def test_bad_tag_files(pack_folder, text, words):
    (pack_folder / "01" / "tag.json").write_text(text)
    message = error_of(pack_folder)
    for word in [*words, "tag.json"]:
        assert word in message


def test_bad_prompts(pack_folder):
    (pack_folder / "01" / "prompt.json").write_text('{"0": "Ring",\n "1": 7}')
    message = error_of(pack_folder)
    assert "prompt.json, line 2" in message and "must be a word" in message


def test_not_utf8(pack_folder):
    (pack_folder / "01" / "tag.json").write_bytes(b'{"style": "caf\xe9"}')
    assert "not UTF-8" in error_of(pack_folder)


def test_byte_order_mark_is_accepted(pack_folder):
    file = pack_folder / "01" / "tag.json"
    file.write_text("\ufeff" + file.read_text(), encoding="utf-8")
    assert load_pack(pack_folder).styles[1].style_tags == ["style tag 1"]


def test_two_pictures_of_one_name(picture, pack_folder):
    picture(pack_folder / "00" / "images" / "Boat.jpg")
    message = error_of(pack_folder)
    assert "boat.png" in message and "Boat.jpg" in message and "same name" in message


def test_unicode_names_match_across_normal_forms(picture, tmp_path):
    composed = unicodedata.normalize("NFC", "café_überraschung")
    picture(tmp_path / "p" / "07" / "images" / f"{unicodedata.normalize('NFD', composed)}.png")
    tags = {"item": {composed: "cup"}, "style": "日本"}
    (tmp_path / "p" / "07" / "tag.json").write_text(json.dumps(tags, ensure_ascii=False), encoding="utf-8")
    style = load_pack(tmp_path / "p").styles[0]
    assert style.images[0].name == composed and style.images[0].tags == ["cup"] and style.style_tags == ["日本"]


def test_no_pack(tmp_path):
    assert "is not a folder" in error_of(tmp_path / "none")
    assert "holds no style" in error_of(tmp_path)


def test_imagefolder(picture, tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / "images" / f"{name}.png")
    rows = [
        {"file_name": "a.png", "text": "a red ball", "style": "ink"},
        {"file_name": "b.png", "text": "a house", "style": "ink"},
        {"file_name": "c.png", "text": "a cat", "style": "chalk"},
    ]
    (tmp_path / "images" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pack = load_pack(tmp_path)
    assert [(s.id, [i.caption for i in s.images]) for s in pack.styles] == [
        ("chalk", ["a cat"]),
        ("ink", ["a red ball", "a house"]),
    ]


@pytest.mark.parametrize(
    "line, words",
    [
        ('{"file_name": "none.png"}', ["line 2", "'none.png' is missing"]),
        ('{"text": "x"}', ["line 2", "file_name"]),
        ("{", ["line 2", "not valid JSON"]),
        ('{"file_name": "a.png"}', ["line 2", "listed twice"]),
    ],
)
def test_bad_imagefolder_rows(picture, tmp_path, line, words):
    picture(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n' + line)
    message = error_of(tmp_path)
    for word in words:
        assert word in message


def test_kohya_folders_with_repeats(picture, tmp_path):
    picture(tmp_path / "10_ink wash" / "1.png")
    (tmp_path / "10_ink wash" / "1.txt").write_text("a crane\n")
    picture(tmp_path / "chalk" / "2.png")
    styles = load_pack(tmp_path).styles
    assert [(s.id, s.trigger, s.repeats, s.images[0].caption) for s in styles] == [
        ("ink wash", "style_ink_wash", 10, "a crane"),
        ("chalk", "style_chalk", 1, None),
    ]


def test_flat_kohya_folder(picture, tmp_path):
    picture(tmp_path / "p" / "1.png")
    assert [s.id for s in load_pack(tmp_path / "p").styles] == ["p"]


def test_two_folders_with_one_trigger(picture, tmp_path):
    picture(tmp_path / "2_ink" / "1.png")
    picture(tmp_path / "3_ink" / "1.png")
    assert "same trigger" in error_of(tmp_path)


def test_transparency_lies_over_white_and_exif_turns(tmp_path):
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "t.png")
    assert open_image(tmp_path / "t.png").getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "e.jpg", exif=exif)
    assert open_image(tmp_path / "e.jpg").size == (4, 8)


def test_the_fingerprint_notices_every_change(picture, pack_folder):
    before = load_pack(pack_folder).fingerprint()
    assert load_pack(pack_folder).fingerprint() == before
    picture(pack_folder / "01" / "images" / "boat.png", seed=99)
    changed = load_pack(pack_folder).fingerprint()
    (pack_folder / "01" / "tag.json").write_text('{"style": "other"}')
    assert len({before, changed, load_pack(pack_folder).fingerprint()}) == 3


@given(st.lists(st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]))))
def test_split_tags_drops_only_blanks(words):
    expected = [w.strip() for w in words if w.strip()]
    assert split_tags(",".join(words), "here") == expected == split_tags(words, "here")


@given(st.binary(max_size=200))
def test_any_bytes_give_a_picture_or_a_user_error(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("b") / "x.png"
    file.write_bytes(data)
    with pytest.raises(UserError):
        open_image(file)


@given(st.integers(0, 5000), st.integers(0, 255))
def test_a_changed_byte_gives_a_picture_or_a_user_error(picture, tmp_path_factory, at, value):
    file = picture(tmp_path_factory.mktemp("c") / "x.png")
    data = bytearray(file.read_bytes())
    data[at % len(data)] = value
    file.write_bytes(bytes(data))
    try:
        assert np.asarray(open_image(file)).ndim == 3
    except UserError as error:
        assert "x.png" in str(error)
