"""Pictures to inputs as torchvision and timm do it, and maps back to where things were."""

import numpy as np
import pytest
import torchvision.transforms as T  # noqa: N812  (its name everywhere)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform
from toys import uint8_images

from camjax.geometry import KINDS, Geometry, seen_box, to_input, to_picture

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


def blob(size, centre, spread):
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * spread**2))


def centroid(heat):
    heat = np.nan_to_num(heat)
    y, x = np.mgrid[: heat.shape[0], : heat.shape[1]] + 0.5
    return np.asarray([(heat * y).sum(), (heat * x).sum()]) / heat.sum()


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KINDS), st.integers(40, 400), st.integers(40, 400), st.sampled_from([48, 63, 96]))
def test_round_trip_keeps_things_where_they_were(kind, height, width, side):
    geometry = Geometry(kind, (height, width), (side, side))
    spread = min(height, width) / 12
    centre = (height * 0.47, width * 0.52)
    picture = np.repeat((blob((height, width), centre, spread) * 255).astype(np.uint8)[..., None], 3, -1)
    heat = to_picture(geometry, to_input(geometry, picture)[..., 0].astype(np.float32))
    assert heat.shape == (height, width)
    pixel = max(height, width) / side
    # A quarter of an input pixel; half of it lost to rounding to uint8 and to crop's whole-pixel corner.
    np.testing.assert_allclose(
        centroid(np.maximum(heat, 4) - 4), centroid(np.maximum(picture[..., 0], 4.0) - 4), atol=pixel / 2
    )


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


@pytest.mark.parametrize("size", [(300, 500), (500, 300)])
def test_crop_marks_what_was_not_seen(size):
    geometry = Geometry("crop", size, (224, 224))
    heat = to_picture(geometry, np.ones((224, 224), np.float32))
    top, left, bottom, right = seen_box(geometry)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    np.testing.assert_array_equal(~np.isnan(heat), inside)
    # 0.875 of the shorter side, as a square.
    np.testing.assert_allclose([bottom - top, right - left], 300 * 0.875, rtol=0.01)


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
