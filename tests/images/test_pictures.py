"""Reading pictures of every kind, and refusing what is none."""

import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps
from toys import uint8_images

from camjax.choices import MAX_PIXELS
from camjax.errors import ImageWarning, PictureError
from camjax.images.decode.image import decode_image
from camjax.images.figures import figure, save_figure
from camjax.images.pictures import find_pictures, read_picture

SMOOTH = np.stack(np.meshgrid(np.linspace(0, 255, 40), np.linspace(40, 200, 24)), -1).astype(np.uint8)
PICTURE = np.concatenate([SMOOTH, SMOOTH[..., :1] // 2], -1)  # (24, 40, 3)

SETTINGS = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)  # before any test has run


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.webp", {"lossless": True})]
)
def test_lossless_formats_are_exact(tmp_path, name, options):
    picture = read_picture(saved(tmp_path, Image.fromarray(PICTURE), name, **options))
    np.testing.assert_array_equal(picture, PICTURE)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_jpeg_is_near(tmp_path, mode):
    path = saved(tmp_path, Image.fromarray(PICTURE).convert(mode), "a.jpg", quality=98, subsampling=0)
    # JPEG at quality 98 on a smooth picture.
    assert np.abs(read_picture(path).astype(int) - PICTURE).max() <= 6


def test_cmyk_is_ink_on_white(tmp_path):
    inks = np.asarray([[[0, 0, 0, 0], [0, 255, 0, 0], [255, 0, 255, 0], [0, 0, 0, 255]]], np.uint8)
    picture = read_picture(saved(tmp_path, Image.fromarray(inks, "CMYK"), "a.tif"))
    np.testing.assert_array_equal(picture[0], [[255, 255, 255], [255, 0, 255], [0, 255, 0], [0, 0, 0]])


def test_first_picture_of_a_phones_mpo(tmp_path):
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("white", "black")]
    path = saved(tmp_path, frames[0], "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert (read_picture(path) == 255).all()


def test_first_frame_of_a_gif(tmp_path):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert (read_picture(path) == [255, 0, 0]).all()


def test_grey_palette_and_bits(tmp_path):
    grey = Image.fromarray(PICTURE[..., 0])
    expected = np.repeat(PICTURE[..., :1], 3, -1)
    np.testing.assert_array_equal(read_picture(saved(tmp_path, grey, "grey.png")), expected)
    palette = Image.fromarray(PICTURE).quantize(256)
    np.testing.assert_array_equal(read_picture(saved(tmp_path, palette, "p.png")), np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(PICTURE[..., 0] > 99)
    assert set(np.unique(read_picture(saved(tmp_path, bits, "bits.png")))) == {0, 255}


def test_transparency_is_over_white(tmp_path):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [[10, 20, 30, 255], [10, 20, 30, 0], [100, 200, 0, 128]]
    picture = read_picture(saved(tmp_path, Image.fromarray(rgba), "a.png"))
    # alpha 128/255 over white: 255 + (value - 255) * 0.50196, rounded.
    np.testing.assert_allclose(picture[0], [[10, 20, 30], [255, 255, 255], [177, 227, 127]], atol=1)
    la = np.asarray([[[0, 255], [0, 0]]], np.uint8)
    np.testing.assert_array_equal(read_picture(saved(tmp_path, Image.fromarray(la, "LA"), "la.png"))[0, :, 0], [0, 255])
    palette = Image.fromarray(np.asarray([[0, 1]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 50, 60, 70])
    path = saved(tmp_path, palette, "p.png", transparency=0)
    np.testing.assert_array_equal(read_picture(path)[0], [[255, 255, 255], [50, 60, 70]])


def test_one_colour_may_be_transparent(tmp_path):
    grey = Image.fromarray(np.asarray([[0, 128, 255]], np.uint8))
    path = saved(tmp_path, grey, "grey.png", transparency=0)
    np.testing.assert_array_equal(read_picture(path)[0, :, 0], [255, 128, 255])
    colours = Image.fromarray(np.asarray([[[1, 2, 3], [9, 8, 7]]], np.uint8))
    path = saved(tmp_path, colours, "colours.png", transparency=(1, 2, 3))
    np.testing.assert_array_equal(read_picture(path)[0], [[255, 255, 255], [9, 8, 7]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.asarray([[-5, 257, 65535]], np.int32), [0, 1, 255]),
        (np.asarray([[0, 2**30, 2**31 - 1]], np.int32), [0, 128, 255]),
        (np.asarray([[0, 100, 200]], np.float32), [0, 100, 200]),
        (np.asarray([[-1, 257, 65535]], np.float32), [0, 1, 255]),
        (np.asarray([[0, 5e5, 1e6]], np.float32), [0, 128, 255]),
        (np.asarray([[np.nan, 0.5, np.inf]], np.float32), [0, 128, 0]),
        (np.asarray([[np.nan, 0]], np.float32), [0, 0]),
    ],
)
def test_wide_values_by_their_range(tmp_path, values, expected):
    path = saved(tmp_path, Image.fromarray(values), "a.tif")
    with pytest.warns(ImageWarning, match=r"a\.tif"):  # none of these is the full range of the values' type
        picture = read_picture(path)
    np.testing.assert_array_equal(picture[0], np.repeat(np.asarray(expected)[:, None], 3, 1))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    for name, order in (("a.png", "<"), ("a.tif", "<"), ("b.tif", ">")):
        values = np.asarray([[0, 257, 32768, 65535]], f"{order}u2")
        picture = read_picture(saved(tmp_path, Image.fromarray(values), name))
        np.testing.assert_array_equal(picture[0, :, 0], [0, 1, 128, 255])
    floats = Image.fromarray(np.asarray([[0, 0.5, 1]], np.float32))
    np.testing.assert_array_equal(read_picture(saved(tmp_path, floats, "f.tif"))[0, :, 1], [0, 128, 255])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    upright = Image.fromarray(PICTURE)
    turned = {
        1: upright,
        2: ImageOps.mirror(upright),
        3: upright.rotate(180),
        4: ImageOps.flip(upright),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, turned, "a.png", exif=exif)
    np.testing.assert_array_equal(read_picture(path), PICTURE)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_damaged_exif_costs_no_picture(tmp_path, suffix):
    path = saved(tmp_path, Image.fromarray(PICTURE), f"a.{suffix}", exif=b"Exif\0\0garbage", lossless=True)
    np.testing.assert_array_equal(read_picture(path), PICTURE)


def test_no_program_is_run_on_a_file(tmp_path):
    # Pillow knows EPS, and would start Ghostscript on it.
    path = saved(tmp_path, Image.fromarray(PICTURE), "a.eps")
    with pytest.raises(PictureError, match="kind that camjax reads"):
        read_picture(path)


def test_forbidden_files_and_folders(tmp_path, monkeypatch):
    def forbidden(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    path = saved(tmp_path, Image.fromarray(PICTURE), "a.png")
    opened = os.open
    monkeypatch.setattr(os, "open", lambda name, *rest: (forbidden if name == str(path) else opened)(name, *rest))
    with pytest.raises(PictureError, match=r"a\.png: you may not read it"):
        read_picture(path)
    (tmp_path / "locked").mkdir()
    listed = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: forbidden(path) if path.name == "locked" else listed(path))
    with pytest.raises(PictureError, match="locked: you may not read it"):
        find_pictures([tmp_path])


def test_pictures_that_are_none(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    for name, words in [
        ("empty.jpg", "is empty"),
        ("text.jpg", "not a picture"),
        ("missing.jpg", "no such file"),
        (".", "folder"),
    ]:
        with pytest.raises(PictureError, match=words) as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "gif", "tiff"])
def test_truncated_at_any_point_is_one_error(kind):
    whole = io.BytesIO()
    Image.fromarray(uint8_images(1, 24, 40)[0]).save(whole, kind)
    data = whole.getvalue()
    failures = []
    for length in {*range(1, 64), *range(64, len(data) - 4, max(len(data) // 20, 1))}:
        try:
            image = decode_image(io.BytesIO(data[:length]), "cut")
        except PictureError as error:
            failures.append(str(error))
        else:
            assert image.size == (24, 40)
    assert len(failures) > 60
    assert not any("\n" in text for text in failures)


def png_header(width, height):
    """A PNG that claims a size, and holds no pixel."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


@pytest.mark.parametrize("action", ["error", "ignore"])
@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 2, 65_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side, action):
    path = tmp_path / "large.png"
    path.write_bytes(png_header(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)  # Pillow's own, between its two limits
        with pytest.raises(PictureError, match="may be a decompression bomb"):
            read_picture(path)


def test_threads_and_pillows_settings(tmp_path):
    filters = list(warnings.filters)
    good = saved(tmp_path, Image.fromarray(PICTURE), "a.png")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:100])
    (tmp_path / "bomb.png").write_bytes(png_header(65_000, 65_000))

    def attempt(path):
        try:
            return read_picture(path)
        except PictureError:
            return None

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, [good, tmp_path / "cut.png", tmp_path / "bomb.png"] * 20))
    for number, result in enumerate(results):
        assert (result is None) == (number % 3 > 0)
    assert all((result == PICTURE).all() for result in results[::3])
    assert list(warnings.filters) == filters
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == SETTINGS


def test_find_pictures(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.jpg", "sub dir/ü.webp", "sub dir/deep/c.gif", ".git/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.symlink(tmp_path, tmp_path / "sub dir" / "loop")
    found = [str(path.relative_to(tmp_path)) for path in find_pictures([tmp_path])]
    assert found == ["a.jpg", "b.PNG", "sub dir/deep/c.gif", "sub dir/ü.webp"]
    named = find_pictures([tmp_path / "notes.txt", tmp_path, tmp_path / "a.jpg"])
    assert [path.name for path in named] == ["notes.txt", "a.jpg", "b.PNG", "c.gif", "ü.webp"]
    (tmp_path / "bare").mkdir()
    with pytest.raises(PictureError, match="no picture in this folder"):
        find_pictures([tmp_path / "bare"])


def test_figures_of_ones_own_are_no_pictures_in_folders(tmp_path):
    drawing = figure(np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8)), ["cat, 0.5"])
    save_figure(drawing, tmp_path / "a.cam.png")
    save_figure(drawing, tmp_path / "b.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "c.cam.png")  # somebody's camera
    (tmp_path / "d.cam.png").write_bytes(b"")
    assert [path.name for path in find_pictures([tmp_path])] == ["b.png", "c.cam.png", "d.cam.png"]
    assert find_pictures([tmp_path / "a.cam.png"]) == [tmp_path / "a.cam.png"]
