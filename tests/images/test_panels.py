"""The composed figure against matplotlib's, and by its layout."""

import numpy as np
import pytest
from PIL import Image, ImageChops
from toys import uint8_images

from camjax.images.colours import overlay
from camjax.images.figures import figure, save_figure
from camjax.images.grid import MARGIN, TITLE_HEIGHT, arrange_panels, in_pixels
from camjax.images.panels import compose

TITLES = ["tabby, 0.512", "a $5 cat_a for $3, 0.200", "soft-coated wheaten terrier, 0.113", "cup, 0.1", "mug, 0.0"]


def example(height, width, count, crop=False):
    grid = arrange_panels(count, (height, width))
    size = in_pixels(grid.picture)
    heats = np.random.default_rng(0).random((count, 7, 7), np.float32)
    large = [np.asarray(Image.fromarray(heat).resize(size[::-1], Image.Resampling.BILINEAR)) for heat in heats]
    heats = np.stack(large)
    if crop:
        heats[:, :, : size[1] // 4] = np.nan
    return uint8_images(1, height, width)[0], heats, TITLES[:count], grid


@pytest.mark.parametrize(("height", "width", "count"), [(300, 400, 5), (400, 300, 2), (90, 900, 1)])
def test_it_looks_like_matplotlibs(tmp_path, height, width, count):
    """Smooth noise, so that neither the resampling nor the panels' fractions of a pixel make more than a shade."""
    picture, heats, titles, grid = example(height, width, count)
    smooth = np.asarray(Image.fromarray(picture[:9, :9]).resize((width, height), Image.Resampling.BICUBIC))
    page = Image.fromarray(compose(smooth, heats, titles, grid))
    small = np.asarray(Image.fromarray(smooth).resize(in_pixels(grid.picture)[::-1], Image.Resampling.LANCZOS))
    save_figure(figure(small, heats, titles), tmp_path / "a.png")
    theirs = Image.open(tmp_path / "a.png").convert("RGB")
    assert np.abs(np.subtract(page.size, theirs.size)).max() <= 1
    difference = np.asarray(ImageChops.difference(page, theirs.resize(page.size)))
    # Letters are rendered by two libraries, and edges lie within a pixel of each other.
    assert np.median(difference) <= 1
    assert difference.mean() < 3
    blank = np.asarray(ImageChops.difference(Image.new("RGB", page.size, "white"), theirs.resize(page.size)))
    assert blank.mean() > 20


def test_panels_hold_the_overlay_and_titles_the_rest():
    picture, heats, titles, grid = example(60, 80, 4, crop=True)
    page = compose(picture, heats, titles, grid, "viridis", 0.7)
    height, width = in_pixels(grid.picture)
    small = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    for index, heat in enumerate(heats):
        top, left = (round(200 * inches) for inches in grid.corner(index))
        expected = overlay(small, heat, "viridis", 0.7)
        np.testing.assert_array_equal(page[top : top + height, left : left + width], expected)
        np.testing.assert_array_equal(expected[:, : width // 4], small[:, : width // 4])
        above = page[round(top - 200 * TITLE_HEIGHT) : top, left : left + width]
        assert above.min() < 100 < np.median(above) == 255
    assert (page[: round(200 * MARGIN)] == 255).all()


def test_a_map_that_shows_nothing_says_why():
    picture, heats, titles, grid = example(60, 80, 2)
    pages = [compose(picture, heats, titles, grid, remarks=["", why]) for why in ("", "nowhere positive")]
    height, width = in_pixels(grid.picture)
    top, left = (round(200 * inches) for inches in grid.corner(1))
    np.testing.assert_array_equal(pages[0][:, : left - 5], pages[1][:, : left - 5])
    panel = pages[1][top : top + height, left : left + width]
    assert panel.min() == 0  # words
    assert np.median(panel) > 255 * 0.65
    assert np.median(pages[0][top : top + height, left : left + width]) < 255 * 0.65


def test_titles_have_no_control_characters():
    """Pillow cannot measure a title of several lines."""
    picture, heats, _, grid = example(60, 80, 1)
    pages = [compose(picture, heats, [title], grid) for title in ("a\x1b[31mcat\n\u202e, 0.1", "a?[31mcat??, 0.1")]
    np.testing.assert_array_equal(*pages)


def test_a_long_title_keeps_its_number():
    picture, heats, _, grid = example(60, 80, 1)
    page = compose(picture, heats, ["supercalifragilistic " * 9 + ", 0.123"], grid)
    ink = np.flatnonzero((page[: round(200 * TITLE_HEIGHT)] < 128).any((0, 2)))
    assert ink.min() >= round(200 * MARGIN) - 1
    assert ink.max() <= page.shape[1] - round(200 * MARGIN)
    assert ink.max() - ink.min() > 0.9 * 200 * grid.panel[1]


@pytest.mark.usefixtures("untyped")
def test_wrong_shapes():
    picture, heats, titles, grid = example(60, 80, 2)
    with pytest.raises(ValueError, match="the heat map is"):
        compose(picture, heats[:, 1:], titles, grid)
    with pytest.raises(ValueError, match="shorter"):
        compose(picture, heats, titles[:1], grid)


def test_large_pictures_keep_their_edges_and_their_grey():
    """Shrunk as sharply as by Lanczos, to a shade, without moving."""
    ramp = np.linspace(0, 255, 900)
    stripes = np.where(np.arange(1200) // 100 % 2, 255, 0)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], stripes, 99), -1).astype(np.uint8)
    grid = arrange_panels(1, (900, 1200))
    height, width = in_pixels(grid.picture)
    page = compose(picture, np.full((1, height, width), np.nan, np.float32), ["a"], grid)
    top, left = (round(200 * inches) for inches in grid.corner(0))
    expected = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)).astype(int)
    difference = np.abs(page[top : top + height, left : left + width] - expected)
    assert difference[..., 0].max() <= 1
    assert np.median(difference[..., 1]) == 0
    assert difference[..., 1].mean() < 3
    assert (page[top : top + height, left : left + width, 2] == 99).all()
