"""Reading pictures as cv2.imread does: exact for lossless files of every mode."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from eval.images import UnreadableImage, read_bgr, read_picture

RGB = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = np.random.default_rng(4).integers(0, 256, (5, 7, 1), dtype=np.uint8)


def saved(path, array, mode, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_colour_is_blue_first(tmp_path, ending):
    path = saved(tmp_path / f"a.{ending}", RGB, "RGB", **({"lossless": True} if ending == "webp" else {}))
    assert (read_bgr(path) == RGB[..., ::-1]).all()


def test_alpha_is_dropped_not_blended(tmp_path):
    path = saved(tmp_path / "a.png", np.concatenate([RGB, ALPHA], axis=-1), "RGBA")
    assert (read_bgr(path) == RGB[..., ::-1]).all()


def test_grey_is_repeated(tmp_path):
    path = saved(tmp_path / "a.png", RGB[..., 0], "L")
    assert (read_bgr(path) == RGB[..., :1]).all()
    path = saved(tmp_path / "b.png", np.concatenate([RGB[..., :1], ALPHA], axis=-1), "LA")
    assert (read_bgr(path) == RGB[..., :1]).all()


def test_sixteen_bits_keep_the_high_byte(tmp_path):
    deep = np.array([[0x00FF, 0x0100], [0x7FFF, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert read_bgr(tmp_path / "a.png")[..., 0].tolist() == [[0, 1], [0x7F, 0xFF]]


def test_palette_with_a_transparent_colour_keeps_its_colours(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / "a.png", transparency=2)
    assert (read_bgr(tmp_path / "a.png") == np.asarray(image.convert("RGB"))[..., ::-1]).all()


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (6, lambda a: a[::-1].swapaxes(0, 1))],
)
def test_exif_orientation_is_followed_in_png_and_not_in_webp(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x112] = orientation
    assert (read_bgr(saved(tmp_path / "a.png", RGB, "RGB", exif=exif)) == turn(RGB)[..., ::-1]).all()
    webp = saved(tmp_path / "a.webp", RGB, "RGB", exif=exif, lossless=True)
    assert (read_bgr(webp) == RGB[..., ::-1]).all()


def test_cmyk_follows_opencv(tmp_path):
    """Uniform inks survive JPEG at full quality; 255 ink on white paper is black, none is white."""
    for ink, colour in (((0, 0, 0, 0), (255, 255, 255)), ((0, 0, 0, 255), (0, 0, 0)), ((255, 0, 0, 0), (255, 255, 0))):
        Image.new("CMYK", (16, 16), ink).save(tmp_path / "a.jpg", quality=100)
        assert np.abs(read_bgr(tmp_path / "a.jpg").astype(int) - colour).max() <= 2


@pytest.mark.parametrize("keep", [0, 1, 20, 60, -30])
def test_truncated_files_are_named(tmp_path, keep):
    path = saved(tmp_path / "a.png", RGB, "RGB")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnreadableImage, match=r"a\.png: "):
        read_bgr(path)


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(UnreadableImage, match=r"a\.png: not a picture"):
        read_bgr(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match=r"b\.png"):
        read_bgr(tmp_path / "b.png")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"II*\0", b"MM\0*\0\0", b"nonsense", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff"]
)
def test_damaged_exif_data_does_not_spoil_a_sound_picture(tmp_path, exif):
    path = saved(tmp_path / "a.png", RGB, "RGB")
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    chunk = b"eXIf" + exif
    path.write_bytes(data[:at] + struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:])
    bgr, notes = read_picture(path)
    assert (bgr == RGB[..., ::-1]).all() and set(notes) <= {"damaged EXIF data, its orientation is not followed"}


@pytest.mark.parametrize(
    ("size", "reason"), [((1, 20_000), "too thin"), ((17, 1), "too thin"), ((8192, 4097), "too large"), ((16, 1), None)]
)
def test_pictures_of_no_picture_s_shape_are_refused_before_they_are_decoded(tmp_path, size, reason):
    Image.new("L", size).save(tmp_path / "a.png")
    if reason is None:
        assert read_bgr(tmp_path / "a.png").shape == (size[1], size[0], 3)
        return
    with pytest.raises(UnreadableImage, match=rf"a\.png: {reason} to be a generated picture \({size[0]}x{size[1]}, at most"):
        read_bgr(tmp_path / "a.png")
