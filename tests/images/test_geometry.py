"""Pictures to inputs as torchvision and timm do it, and maps back to where things were."""

import numpy as np
import pytest
import torchvision.transforms as T  # noqa: N812  (its name everywhere)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform
from toys import uint8_images

from camjax.errors import PictureError
from camjax.images import geometry as geometry_module
from camjax.images.geometry import KINDS, Geometry, boxes_to_picture, seen_box, shown_part, to_input, to_picture

SIZES = [(300, 451), (451, 300), (333, 333), (97, 640), (1000, 61), (224, 224), (31, 57)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("crop_pct", "interpolation"), [(0.875, "bilinear"), (0.95, "bicubic"), (1.0, "bicubic"), (0.965, "bilinear")]
)
def test_crop_equals_torchvision_and_timm_to_the_bit(size, crop_pct, interpolation):
    picture = uint8_images(1, *size)[0]
    ours = to_input(Geometry("crop", size, (224, 224), crop_pct, interpolation), picture)
    mode = T.InterpolationMode(interpolation)
    torchvision = T.Compose([T.Resize(int(224 / crop_pct), mode, antialias=True), T.CenterCrop(224)])
    np.testing.assert_array_equal(ours, np.asarray(torchvision(Image.fromarray(picture))))
    timm = create_transform((3, 224, 224), interpolation=interpolation, crop_pct=crop_pct, mean=(0,) * 3, std=(1,) * 3)
    tensor = timm(Image.fromarray(picture))
    np.testing.assert_array_equal(ours, np.round(tensor.permute(1, 2, 0).numpy() * 255).astype(np.uint8))


@pytest.mark.parametrize("size", [(300, 451), (451, 300), (97, 640), (31, 57)])
@pytest.mark.parametrize("side", [(96, 160), (160, 96)])
def test_crop_to_an_input_that_is_not_square_equals_timm(size, side):
    picture = uint8_images(1, *size)[0]
    timm = create_transform((3, *side), interpolation="bicubic", crop_pct=0.9, mean=(0,) * 3, std=(1,) * 3)
    expected = np.round(timm(Image.fromarray(picture)).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    np.testing.assert_array_equal(to_input(Geometry("crop", size, side, 0.9), picture), expected)


@pytest.mark.parametrize("size", [(61, 140), (140, 140), (140, 61)])
@pytest.mark.parametrize("side", [(48, 48), (40, 56), (224, 224)])
def test_pad_equals_resizing_the_whole_square(size, side):
    picture = uint8_images(1, *size)[0]
    # The smallest rectangle around the picture that has the input's proportions, to the nearest pixel.
    height, width = (max(size[i], round(size[1 - i] * side[i] / side[1 - i])) for i in range(2))
    square = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    square[top : top + size[0], left : left + size[1]] = picture
    expected = np.asarray(Image.fromarray(square).resize(side[::-1], Image.Resampling.BICUBIC))
    # Pillow rounds and clips between its passes, horizontal first; an upright picture goes vertically first. On noise
    # this is more than rounding at a few pixels.
    difference = np.abs(to_input(Geometry("pad", size, side), picture).astype(int) - expected)
    assert difference.max() == 0 if width == size[1] else (difference > 1).mean() <= 0.02
    turned = to_input(Geometry("pad", size[::-1], side[::-1]), picture.transpose(1, 0, 2))
    if (height, width) != size:
        np.testing.assert_array_equal(to_input(Geometry("pad", size, side), picture), turned.transpose(1, 0, 2))


@pytest.mark.parametrize(
    ("size", "side", "padded"),
    [
        ((200, 300), (32, 48), (200, 300)),
        ((50, 400), (64, 32), (800, 400)),
        ((400, 50), (32, 64), (400, 800)),
        ((100, 100), (30, 70), (100, 233)),
    ],
)
def test_pad_keeps_proportions_and_centres(size, side, padded):
    top, left, bottom, right = seen_box(Geometry("pad", size, side))
    assert (bottom - top, right - left) == padded
    assert abs(top + bottom - size[0]) <= 1
    assert abs(left + right - size[1]) <= 1


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_a_thread_is_padded_without_its_square(size):
    # The square alone would be 14 GB.
    assert to_input(Geometry("pad", size, (64, 64)), np.zeros((*size, 3), np.uint8)).shape == (64, 64, 3)


@pytest.mark.parametrize("kind", ["pad", "crop"])
def test_too_long_and_narrow_is_one_error(kind):
    size = (1, 3_000_000)
    picture = np.full((*size, 3), 9, np.uint8)
    with pytest.raises(PictureError, match="3000000 x 1 pixels is too long and narrow"):
        to_input(Geometry(kind, size, (224, 224)), picture)
    assert (to_input(Geometry("squash", size, (224, 224)), picture) == 9).all()


def test_the_limit_of_what_a_resize_makes(monkeypatch):
    """The padded image's longer side times the input's longer side, and the whole of what is cropped, at most."""
    for kind, size, side, pixels in (
        ("pad", (2, 20), (8, 4), 40 * 8),
        ("pad", (20, 2), (4, 8), 40 * 8),
        ("crop", (2, 20), (4, 4), 4 * 40),
        ("crop", (20, 2), (4, 8), 80 * 8),
    ):
        geometry = Geometry(kind, size, side, 1.0)
        monkeypatch.setattr(geometry_module, "MAX_RESIZED_PIXELS", pixels)
        assert to_input(geometry, np.zeros((*size, 3), np.uint8)).shape == (*side, 3)
        monkeypatch.setattr(geometry_module, "MAX_RESIZED_PIXELS", pixels - 1)
        with pytest.raises(PictureError, match="is too long and narrow"):
            to_input(geometry, np.zeros((*size, 3), np.uint8))


def test_pad_is_black_and_centred():
    picture = np.full((10, 31, 3), 200, np.uint8)
    padded = to_input(Geometry("pad", (10, 31), (31, 31)), picture)
    rows = np.flatnonzero((padded == 200).all((1, 2)))
    assert (rows[0], rows[-1], len(rows)) == (10, 19, 10)
    assert (padded[:10] == 0).all()
    assert (padded[20:] == 0).all()


def test_squash_is_pillows_resize():
    picture = uint8_images(1, 60, 33)[0]
    expected = Image.fromarray(picture).resize((40, 28), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(to_input(Geometry("squash", (60, 33), (28, 40)), picture), np.asarray(expected))


@pytest.mark.parametrize(("rounding", "corner"), [("nearest", (4, 6)), ("down", (3, 5))])
def test_a_crop_out_of_both_sides_resized(rounding, corner):
    """28 x 40 pixels out of 35 x 51, whose margins are 7 and 11: half of each is no whole number of pixels."""
    geometry = Geometry("crop", (60, 33), (28, 40), 0.78, "bicubic", "squash", rounding)
    picture, (top, left) = uint8_images(1, 60, 33)[0], corner
    resized = Image.fromarray(picture).resize((51, 35), Image.Resampling.BICUBIC)
    expected = np.asarray(resized)[top : top + 28, left : left + 40]
    np.testing.assert_array_equal(to_input(geometry, picture), expected)
    y, x = 60 / 35, 33 / 51
    np.testing.assert_allclose(seen_box(geometry), (top * y, left * x, (top + 28) * y, (left + 40) * x))


def blob(size, centre, spread):
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * spread**2))


def centroid(heat):
    heat = np.nan_to_num(heat)
    y, x = np.mgrid[: heat.shape[0], : heat.shape[1]] + 0.5
    return np.asarray([(heat * y).sum(), (heat * x).sum()]) / heat.sum()


@settings(deadline=None, max_examples=40)
@example("crop", 187, 40, (48, 96))
@given(
    st.sampled_from(KINDS),
    st.integers(40, 400),
    st.integers(40, 400),
    st.sampled_from([(48, 48), (63, 63), (96, 96), (48, 96), (96, 63)]),
)
def test_round_trip_keeps_things_where_they_were(kind, height, width, side):
    geometry = Geometry(kind, (height, width), side)
    spread = min(height, width) / 12
    centre = (height * 0.47, width * 0.52)
    picture = np.repeat((blob((height, width), centre, spread) * 255).astype(np.uint8)[..., None], 3, -1)
    heat = to_picture(geometry, to_input(geometry, picture)[..., 0].astype(np.float32))
    assert heat.shape == (height, width)
    top, left, bottom, right = seen_box(geometry)
    pixel = max((bottom - top) / side[0], (right - left) / side[1], max(height, width) / max(side))
    # What lies outside the crop is in neither: very long pictures lose a part of the thing.
    seen = np.where(np.isnan(heat), np.nan, picture[..., 0])
    # A quarter of an input pixel; half of it lost to rounding to uint8 and to crop's whole-pixel corner.
    np.testing.assert_allclose(centroid(np.maximum(heat, 4) - 4), centroid(np.maximum(seen, 4) - 4), atol=pixel / 2)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(1, 300), st.integers(1, 300), st.sampled_from([(32, 32), (48, 80)]))
def test_any_size_goes_there_and_back(kind, height, width, side):
    geometry = Geometry(kind, (height, width), side)
    pixels = to_input(geometry, np.full((height, width, 3), 77, np.uint8))
    assert pixels.shape == (*side, 3)
    heat = to_picture(geometry, np.full((2, *side), 1.5, np.float32))
    assert heat.shape == (2, height, width)
    seen = ~np.isnan(heat)
    np.testing.assert_allclose(heat[seen], 1.5, rtol=1e-6)
    assert seen.all() if kind != "crop" else seen.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(301, 500), (500, 301), (777, 640), (1000, 333)])
def test_a_ramp_lies_where_it_was_to_a_hundredth_of_a_pixel(kind, size):
    geometry = Geometry(kind, size, (96, 96))
    top, left, bottom, right = seen_box(geometry)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    rows, columns = (
        (np.arange(96) + 0.5) / 96 * (bottom - top) + top,
        (np.arange(96) + 0.5) / 96 * (right - left) + left,
    )
    ramps = np.stack([np.repeat(rows[:, None], 96, 1), np.repeat(columns[None], 96, 0)]).astype(np.float32)
    placed = to_picture(geometry, ramps)
    # Enlarging by bicubic keeps a ramp; its border, 3 pixels of the map wide, does not.
    rim = 3 * max(bottom - top, right - left) / 96
    inside = (y > top + rim) & (y < bottom - rim) & (x > left + rim) & (x < right - rim)
    for ramp, expected in zip(placed, (y, x), strict=True):
        np.testing.assert_allclose(ramp[inside], expected[inside], atol=0.01)


@pytest.mark.parametrize("size", [(300, 500), (500, 300), (301, 477), (611, 333), (389, 517), (29, 41)])
def test_crop_marks_what_was_not_seen(size):
    geometry = Geometry("crop", size, (224, 224))
    heat = to_picture(geometry, np.ones((224, 224), np.float32))
    top, left, bottom, right = seen_box(geometry)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    np.testing.assert_array_equal(~np.isnan(heat), inside)
    # 0.875 of the shorter side, as a square.
    np.testing.assert_allclose([bottom - top, right - left], min(size) * 0.875, rtol=0.01)


def test_a_squashed_map_comes_back_by_pillows_bicubic():
    """Also at its border, where Pillow takes no pixel twice."""
    one = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    expected = np.asarray(Image.fromarray(one).resize((33, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(to_picture(Geometry("squash", (20, 33), (7, 9)), one), expected)


def test_the_part_that_shows_the_picture():
    """All of it for what is cropped or squashed; between the bars of what is padded, at least one pixel."""
    assert shown_part(Geometry("pad", (16, 32), (64, 64))) == np.s_[16:48, 0:64]
    assert shown_part(Geometry("pad", (32, 16), (64, 64))) == np.s_[0:64, 16:48]
    assert shown_part(Geometry("pad", (20, 30), (30, 60))) == np.s_[0:30, 7:53]
    assert shown_part(Geometry("pad", (1, 900), (9, 9))) == np.s_[4:5, 0:9]
    for kind in ("crop", "squash"):
        assert shown_part(Geometry(kind, (32, 16), (8, 9))) == np.s_[0:8, 0:9]


def test_boxes_end_at_the_nearest_pixels():
    """On an input of twice the picture's sides; a box inside one pixel is that pixel, at the border the last one."""
    geometry = Geometry("squash", (10, 12), (20, 24))
    boxes = np.asarray([
        [2.2, 3.8, 9.2, 10.9],
        [6.2, 7.2, 6.8, 7.8],
        [7.2, 6.2, 7.8, 6.8],
        [-3.0, -3.0, 99.0, 99.0],
        [20.0, 24.0, 20.0, 24.0],
        [np.nan] * 4,
    ])  # fmt: skip
    expected = [[1, 2, 5, 5], [3, 3, 4, 4], [3, 3, 4, 4], [0, 0, 10, 12], [9, 11, 10, 12], [np.nan] * 4]
    np.testing.assert_array_equal(boxes_to_picture(geometry, boxes), expected)
    np.testing.assert_array_equal(boxes_to_picture(geometry, boxes[0]), expected[0])


@pytest.mark.parametrize("size", [(52, 34), (66, 27), (24, 62), (28, 83)])
def test_a_crop_that_ends_inside_a_pixel(size):
    """Of these, what is seen reaches past the map above, below, on the left or on the right, by less than a pixel."""
    geometry = Geometry("crop", size, (32, 48), 1.0)
    map_ = np.arange(32 * 48, dtype=np.float32).reshape(32, 48)
    placed = to_picture(geometry, map_)
    top, left, bottom, right = seen_box(geometry)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    np.testing.assert_array_equal(~np.isnan(placed), (y >= top) & (y < bottom) & (x >= left) & (x < right))
    row, column = size[0] // 2, size[1] // 2
    expected = 48 * ((row + 0.5 - top) / (bottom - top) * 32 - 0.5) + (column + 0.5 - left) / (right - left) * 48 - 0.5
    np.testing.assert_allclose(placed[row, column], expected, atol=2)  # columns, or 48ths of a row


def test_height_and_width_are_not_swapped():
    geometry = Geometry("pad", (100, 200), (64, 64))
    heat = np.zeros((64, 64), np.float32)
    heat[40, 10] = 1
    peak = np.unravel_index(np.argmax(to_picture(geometry, heat)), (100, 200))
    # Row 40.5 of 64 in a square of 200 whose first 50 rows are padding; column 10.5 of 64.
    np.testing.assert_allclose(peak, (40.5 / 64 * 200 - 50, 10.5 / 64 * 200), atol=1.6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fit", (3, 3), (4, 4)), "fit"),
        (("pad", (0, 3), (4, 4)), "positive"),
        (("crop", (3, 3), (4, 4), 1.5), "crop_pct"),
        (("crop", (3, 3), (4, 4), 0.0), "crop_pct"),
        (("crop", (3, 3), (4, 0)), "positive"),
        (("crop", (3, 3), (4, 4), 0.9, "lanczos"), "lanczos"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_wrong_geometries(arguments, words):
    with pytest.raises(ValueError, match=words):
        Geometry(*arguments)


def test_wrong_arrays():
    geometry = Geometry("pad", (5, 6), (4, 4))
    with pytest.raises(ValueError, match=r"\(6, 5\)"):
        to_input(geometry, np.zeros((6, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\(5, 6\)"):
        to_picture(geometry, np.zeros((5, 6), np.float32))


@pytest.mark.parametrize("kind", ["pad", "crop", "squash"])
@pytest.mark.parametrize("size", [(1021, 1531), (1531, 1021), (1000, 1001)])
@pytest.mark.parametrize("factor", [2, 4])
def test_an_input_of_a_reduced_image_is_that_of_the_whole(kind, size, factor):
    # Noise of full contrast, blurred over 16 pixels; the reduced image has no more than 2.6 times the input's pixels.
    noise = np.random.default_rng(0).integers(0, 256, (size[0] // 16 + 2, size[1] // 16 + 2, 3), np.uint8)
    whole = np.asarray(Image.fromarray(noise).resize(size[::-1], Image.Resampling.BICUBIC))
    reduced = np.asarray(Image.fromarray(whole).reduce(factor))
    geometry = Geometry(kind, size, (96, 128))
    difference = np.abs(to_input(geometry, reduced).astype(int) - to_input(geometry, whole))
    assert difference.max() <= 5  # 2 % of the range
    assert difference.mean() < 1
    with pytest.raises(ValueError, match="the geometry's"):
        to_input(geometry, reduced[1:])
