"""The emoji pictures: committed packs against the manifest, the split, the style filters, and a build that is stopped."""

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from jdiff_style.errors import UserError
from jdiff_style.packs import load_pack
from scripts.emoji_data import build, catalogue, command, manifest, packages, paintings, render, style_packs, styles

ROOT = Path(__file__).resolve().parents[2]
PACKS = {"emoji-8": 8, "emoji-2": 2}


@pytest.fixture(scope="module")
def listed():
    return manifest.read(command.MANIFEST)


@pytest.fixture(scope="module")
def split_of(listed):
    return {entry["object"]: entry["split"] for entry in listed["objects"].values()}


@pytest.mark.parametrize("name", PACKS)
def test_pack_reads_as_the_challenge_s_layout(name):
    pack = load_pack(ROOT / "data/packs" / name, strict=True)
    assert len(pack.styles) == PACKS[name]
    for style in pack.styles:
        assert len(style.images) == 3
        assert len(set(style.prompts.values())) == 25
        assert style.style_tags
        assert all(image.tags[0] == image.name for image in style.images)


@pytest.mark.parametrize("name", PACKS)
def test_every_word_has_its_true_picture_and_no_reference_is_asked_for(name, split_of):
    folder = ROOT / "data/packs" / name
    pack = load_pack(folder)
    asked = {word for style in pack.styles for word in style.prompts.values()}
    for style in pack.styles:
        unseen = json.loads((folder / style.id / "held_out.json").read_text()).values()
        targets = {path.stem for path in (folder / style.id / "targets").iterdir()}
        assert targets == {*style.prompts.values(), *unseen}
        assert {image.name for image in style.images}.isdisjoint(asked)
        assert {split_of[word] for word in (*style.prompts.values(), *(i.name for i in style.images))} == {"train"}
        assert {split_of[word] for word in unseen} == {"held_out"}


@pytest.mark.parametrize("name", PACKS)
def test_committed_pictures_are_those_of_the_manifest(name, listed):
    folder = ROOT / "data/packs" / name
    code_of = {entry["object"]: code for code, entry in listed["objects"].items()}
    for number, about in json.loads((folder / "about.json").read_text()).items():
        files = sorted((folder / number).glob("*/*.png"))
        assert len(files) == 33
        for file in files:
            with Image.open(file) as image:
                assert (image.mode, image.size) == ("RGB", (128, 128))
                assert manifest.picture_hash(np.array(image)) == listed["pictures"][about["style"]][code_of[file.stem]][0]


def test_size_of_what_is_committed():
    def size(path):
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())

    assert size(ROOT / "data/packs/emoji-8") < 5e6
    assert size(ROOT / "data/packs/emoji-2") < 0.5e6
    assert command.MANIFEST.stat().st_size < 1e6


def test_a_tenth_of_each_group_is_held_out(listed):
    objects = listed["objects"]
    chosen = catalogue.held_out((code, entry["group"]) for code, entry in objects.items())
    assert chosen == {code for code, entry in objects.items() if entry["split"] == "held_out"}
    for group in catalogue.GROUPS:
        of_group = [entry["split"] for entry in objects.values() if entry["group"] == group]
        assert of_group.count("held_out") == round(0.1 * len(of_group)) > 0


def test_split_depends_on_neither_order_nor_neighbours():
    members = [(f"{number:X}", "animals" if number % 3 else "food") for number in range(300)]
    chosen = catalogue.held_out(members)
    assert catalogue.held_out(reversed(members)) == chosen
    fewer = catalogue.held_out([m for m in members if m[0] != "7"])
    assert len((chosen ^ fewer) - {"7"}) <= 1
    assert catalogue.held_out(members, seed=1) != chosen


def test_every_style_has_all_its_words(listed):
    """What the packs ask for exists in every held-out style, and the base has seen it in at least two of its own."""
    code_of = {entry["object"]: code for code, entry in listed["objects"].items()}
    for style in build.HELD_OUT_STYLES:
        words = style_packs.prompt_words(style.key)
        assert len(set(words)) == style_packs.WORDS
        assert words == style_packs.prompt_words(style.key)
        for word in words:
            assert code_of[word] in listed["pictures"][style.key]
            assert sum(code_of[word] in listed["pictures"][base.key] for base in build.BASE_STYLES) >= 2
    references = [name for names in style_packs.REFERENCES.values() for name in names]
    assert len(set(references)) == 24
    assert not {*references} & {*style_packs.POOL, *style_packs.SHARED}


def disc(colour):
    """A disc of 200 px on white, as filters get it."""
    image = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(image).ellipse((28, 28, 228, 228), fill=colour)
    return np.array(image)


def test_pixel_art_is_made_of_blocks_in_few_colours():
    drawn = styles.pixel_art(disc((230, 40, 50)))
    blocks = drawn.reshape(32, 4, 32, 4, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert {tuple(c) for c in blocks[:, 0, :, 0].reshape(-1, 3)} == {(255, 255, 255), (26, 28, 44), (222, 50, 60)}


def test_pixel_art_keeps_white_inside_apart_from_white_around():
    ring = Image.fromarray(disc((40, 120, 230)))
    ImageDraw.Draw(ring).ellipse((88, 88, 168, 168), fill="white")
    drawn = styles.pixel_art(np.array(ring))
    assert tuple(drawn[64, 64]) == (255, 255, 255)
    # The outline runs around the ring only: no dark block within its hole.
    assert (drawn[48:80, 48:80].min(axis=2) > 30).all()


def test_pencil_is_grey_on_paper_and_darker_inside_dark_things():
    dark, pale = styles.pencil(disc((30, 30, 80))), styles.pencil(disc((250, 240, 200)))
    assert np.ptp(dark.astype(int), axis=2).max() < 30
    assert dark[56:72, 56:72].mean() < pale[56:72, 56:72].mean() - 40
    assert pale[:8].mean() > 225


def test_neon_glows_in_the_colour_of_the_thing_on_a_dark_wall():
    drawn = styles.neon(disc((220, 30, 30))).astype(int)
    assert drawn[:4].mean() < 40
    rim = drawn[60:68, 10:20].max(axis=(0, 1))
    assert rim[0] > 220
    assert rim[0] > rim[1] + 60


@pytest.mark.parametrize("filter", [styles.pencil, styles.neon])
def test_pale_things_keep_their_outline(filter):
    """A swan is nearly white: what parts it from the white around it is the silhouette."""
    drawn, empty = filter(disc((240, 246, 250))), filter(np.full((256, 256, 3), 255, np.uint8))
    rim = np.abs(drawn[60:68, 10:20].astype(int) - empty[60:68, 10:20]).max()
    assert rim > 60


def encoded(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_objects_are_centred_and_fitted():
    image = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(image).rectangle((10, 20, 49, 39), fill=(0, 90, 0, 255))
    pixels = render.render_file(encoded(image))
    rows, columns = np.nonzero(pixels.min(axis=2) < 128)
    assert (columns.min(), columns.max()) == (8, 119)
    assert (rows.min(), rows.max()) == (36, 91)
    assert (pixels[:7] == 255).all()


def test_empty_and_invisible_pictures_are_refused():
    with pytest.raises(render.RenderFault, match="empty"):
        render.render_file(encoded(Image.new("RGBA", (64, 64))))
    with pytest.raises(render.RenderFault, match="hardly visible"):
        render.render_file(encoded(Image.new("RGBA", (64, 64), (245, 245, 245, 255))))


def tarball(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_aliases_of_a_set_lead_to_their_picture(tmp_path):
    icons = {"icons": {"left": {"body": "<path/>"}}, "aliases": {"right": {"parent": "left", "hFlip": True}}, "width": 32}
    icon_set = render.IconSet(packages.Tarball(tarball(tmp_path / "set.tgz", {"icons.json": icons})))
    assert icon_set.svg("left") == ("<path/>", (0, 0, 32, 16))
    assert icon_set.svg("right")[0] == '<g transform="translate(32.0 0) scale(-1 1)"><path/></g>'


def test_a_changed_package_is_named_with_both_hashes(tmp_path):
    package = packages.PACKAGES["twemoji"]
    (tmp_path / package.file_name).write_bytes(b"something else")
    found = base64.b64encode(hashlib.sha512(b"something else").digest()).decode()
    with pytest.raises(UserError) as error:
        packages.fetch("twemoji", tmp_path)
    assert f"SHA-512 {found}, expected {package.integrity}" in str(error.value)


def test_without_npm_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"Node\.js, or put iconify-json-noto-1\.2\.9\.tgz"):
        packages.fetch("noto", tmp_path / "cache")


class FakeSources:
    """Three objects in every set, drawn as plain colours; `log` holds the styles asked for."""

    log: list = []
    fail_at = ""

    def __init__(self, cache):
        self.left_out = [{"hexcode": "0", "object": "nothing", "reason": "test"}]
        sets = [style.source for style in (*build.BASE_STYLES, *build.HELD_OUT_STYLES)]
        self.things = [
            catalogue.Thing(f"{n}", f"thing {n}", ("k",), "food", "train" if n else "held_out", dict.fromkeys(sets, "x"))
            for n in range(3)
        ]

    def drawer(self, style):
        if style.key == self.fail_at:
            raise KeyboardInterrupt
        self.log.append(style.key)
        seed = len(style.key)
        return lambda thing: np.full((128, 128, 3), 10 * seed + int(thing.hexcode), np.uint8)

    def draw(self, source, thing, size):
        return np.full((size, size, 3), int(thing.hexcode), np.uint8)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(build, "Sources", FakeSources)
    monkeypatch.setattr(build, "fingerprint", lambda: "f" * 64)
    monkeypatch.setattr(FakeSources, "log", [])
    return FakeSources


def test_a_stopped_build_goes_on_and_a_whole_one_does_nothing(tmp_path, fake, monkeypatch, capsys):
    arguments = ["--out", str(tmp_path / "out")]
    monkeypatch.setattr(fake, "fail_at", "emojione")
    assert command.main(arguments) == 130
    assert fake.log == ["noto", "noto-v1", "twemoji"]
    assert not (tmp_path / "out/images.npy").exists()
    monkeypatch.setattr(fake, "fail_at", "")
    assert command.main(arguments) == 0
    assert fake.log == [style.key for style in (*build.BASE_STYLES, *build.HELD_OUT_STYLES)]
    pixels, rows = manifest.load(tmp_path / "out", "images")
    assert pixels.shape == (15, 128, 128, 3)
    assert [row["set"] for row in rows[::3]] == [style.key for style in build.BASE_STYLES]
    assert all(pixels[n, 0, 0, 0] == 10 * len(row["set"]) + int(row["hexcode"]) for n, row in enumerate(rows))
    assert rows[0]["split"] == "held_out"
    assert rows[4]["caption"] == "blob, thing 1, k"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    capsys.readouterr()
    assert command.main(arguments) == 0
    assert "up to date" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_check_finds_another_picture_but_not_rounding(tmp_path, fake, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(command, "MANIFEST", tmp_path / "manifest.json.gz")
    assert command.main(["--out", str(out)]) == 0
    manifest.write(manifest.describe(out), command.MANIFEST)
    assert command.main(["--out", str(out), "--check"]) == 0
    pixels = np.load(out / "styles.npy", mmap_mode="r+")
    pixels[0, 5, 5] += 1
    pixels.flush()
    assert command.main(["--out", str(out), "--check"]) == 0
    assert "fluent-flat: 3 pictures, 2 bit for bit, 1 but for rounding" in capsys.readouterr().out
    pixels[0, :40, :40] = 255
    pixels.flush()
    assert command.main(["--out", str(out), "--check"]) == 1
    assert "fluent-flat/0 is another picture" in capsys.readouterr().out


def test_manifest_file_is_the_same_for_the_same_content(tmp_path):
    for name in ("a", "b"):
        manifest.write({"objects": {"1": "x"}}, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    (tmp_path / "a").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="restore it with git"):
        manifest.read(tmp_path / "a")


def test_paintings_are_of_styles_that_no_pack_uses(tmp_path, fake, monkeypatch, capsys):
    asked = []

    def painted(picture, number):
        assert picture.shape == (256, 256, 3)
        asked.append(number)
        return np.full((128, 128, 3), (0, 0, 200), np.uint8)

    monkeypatch.setattr(paintings, "Sources", fake)
    monkeypatch.setattr(paintings, "fingerprint", lambda: "f" * 64)
    monkeypatch.setattr(paintings.styles, "painted", painted)
    words = tmp_path / "words.txt"
    words.write_text("thing 1\nthing 2\n")
    arguments = ["--out", str(tmp_path / "out"), "--base-only", "--words", str(words), "--paintings", "20"]
    assert command.main(arguments) == 0
    assert not set(asked) & {18, 19} and len(asked) == 40 and len(set(asked[:20])) == 20
    rows = [json.loads(line) for line in (tmp_path / "out/paintings.jsonl").read_text().splitlines()]
    assert np.load(tmp_path / "out/paintings.npy").shape == (40, 128, 128, 3)
    assert [row["object"] for row in rows[::20]] == ["thing 1", "thing 2"]
    assert rows[0]["style"] == f"painting {asked[0]}, brush strokes, blue and black" and rows[0]["split"] == "train"
    capsys.readouterr()
    assert command.main(arguments) == 0 and len(asked) == 40
    assert "up to date" in capsys.readouterr().out
    words.write_text("thing 0\n")  # held out
    assert command.main(arguments) == 1 and "names 'thing 0'" in capsys.readouterr().err
