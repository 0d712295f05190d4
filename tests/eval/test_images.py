"""Reading pictures as cv2.imread does: exact for lossless files of every mode."""

import numpy as np
import pytest
from PIL import Image

from eval.images import UnreadableImage, read_bgr

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
