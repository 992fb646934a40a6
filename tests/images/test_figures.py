"""Overlays to the pixel, figures by their layout, and files by their bytes."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from toys import uint8_images

from camjax.errors import CamjaxError
from camjax.images.colours import RenderError, check_colormap, overlay
from camjax.images.figures import LONGEST_SIDE, figure, save_figure, shrink

PICTURE = uint8_images(1, 30, 40)[0]
HEAT = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)


@pytest.mark.parametrize("name", ["inferno", "hsv", "viridis"])
@pytest.mark.parametrize("opacity", [0.0, 0.25, 0.5, 1.0])
def test_overlay_blends_matplotlibs_colours(name, opacity):
    colours = matplotlib.colormaps[name](HEAT)[..., :3] * 255
    expected = (1 - opacity) * PICTURE + opacity * colours
    np.testing.assert_allclose(overlay(PICTURE, HEAT, name, opacity), expected, atol=0.51)


def test_what_was_not_seen_shows_the_picture():
    heat = HEAT.copy()
    heat[:, 25:] = np.nan
    blended = overlay(PICTURE, heat, opacity=0.7)
    np.testing.assert_array_equal(blended[:, 25:], PICTURE[:, 25:])
    assert (blended[:, :25] != PICTURE[:, :25]).any()


@pytest.mark.parametrize(
    ("count", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (5, (3, 2)), (8, (4, 2))]
)
def test_grid(count, grid):
    drawing = figure(PICTURE, np.stack([HEAT] * count), [f"label {n}, 0.{n}" for n in range(count)])
    boxes = [axes.get_position() for axes in drawing.axes]
    assert len(boxes) == count
    assert (len({round(box.y0, 4) for box in boxes}), len({round(box.x0, 4) for box in boxes})) == grid
    assert [text.get_text() for text in drawing.texts] == [f"label {n}, 0.{n}" for n in range(count)]
    for text, box in zip(drawing.texts, boxes, strict=True):
        extent = text.get_window_extent().transformed(drawing.transFigure.inverted())
        assert extent.y0 >= box.y1
        assert box.x0 - 0.01 <= extent.x0 <= extent.x1 <= box.x1 + 0.01
        assert extent.y1 <= 1
    for box in boxes:
        inches = drawing.get_size_inches()
        proportion = (box.height * inches[1]) / (box.width * inches[0])
        assert abs(proportion - 30 / 40) < 0.01


def test_columns_as_asked():
    drawing = figure(PICTURE, np.stack([HEAT] * 5), ["cat, 0.1"] * 5, columns=3)
    assert len({round(axes.get_position().x0, 4) for axes in drawing.axes}) == 3


def test_titles_share_a_size_and_are_no_formulas():
    titles = ["cat, 0.1", "a $5 cat_a for $3, 0.2", "a soft-coated wheaten terrier, 0.2"]
    drawing = figure(PICTURE, np.stack([HEAT] * 3), titles)
    assert len({text.get_fontsize() for text in drawing.texts}) == 1
    assert not any(text.get_parse_math() for text in drawing.texts)
    assert [text.get_text() for text in drawing.texts] == titles


def test_titles_have_no_control_characters():
    (title,) = figure(PICTURE, HEAT[None], ["a\x1b[31mcat\n\u202e, 0.1"]).texts
    assert title.get_text() == "a?[31mcat??, 0.1"


def test_large_pictures_are_drawn_at_a_panels_resolution():
    picture = np.full((1500, 3000, 3), 200, np.uint8)
    heat = np.ones((1, 1500, 3000), np.float32)
    heat[:, :, :1500] = np.nan
    shown = figure(picture, heat, ["cat, 0.9"], opacity=1.0).axes[0].images[0].get_array()
    assert shown.shape == (LONGEST_SIDE // 2, LONGEST_SIDE, 3)
    assert (shown[:, : LONGEST_SIDE // 2] == 200).all()
    assert (shown[:, LONGEST_SIDE // 2 :] == np.round(np.asarray(matplotlib.colormaps["inferno"](1.0)[:3]) * 255)).all()


def test_large_maps_are_averaged_over_areas():
    heat = np.zeros((1, 30, 3 * LONGEST_SIDE), np.float32)
    heat[:, :, ::3] = 0.99
    picture = np.zeros((*heat.shape[1:], 3), np.uint8)
    shown = figure(picture, heat, ["cat, 0.9"], opacity=1.0).axes[0].images[0].get_array()
    assert (shown == np.round(np.asarray(matplotlib.colormaps["inferno"](0.33)[:3]) * 255)).all()


@pytest.mark.usefixtures("untyped")
def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"\(40, 30\), the picture \(30, 40\)"):
        overlay(PICTURE, HEAT.reshape(40, 30))
    with pytest.raises(ValueError, match=r"\(k, 30, 40\), not \(1, 40, 30\)"):
        figure(PICTURE, HEAT.reshape(1, 40, 30), ["cat"])
    with pytest.raises(ValueError, match="not \\(0, 30, 40\\)"):
        figure(PICTURE, HEAT[None][:0], [])
    with pytest.raises(ValueError, match="shorter"):
        figure(PICTURE, HEAT[None], [])


def test_a_long_title_keeps_its_number():
    drawing = figure(PICTURE, HEAT[None], ["supercalifragilistic " * 5 + ", 0.123"])
    assert drawing.texts[0].get_text().endswith("…, 0.123")


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml"), (".PNG", b"\x89PNG")]
)
def test_files_are_whole_and_the_same_each_time(tmp_path, suffix, magic):
    paths = [tmp_path / f"{number}{suffix}" for number in range(2)]
    for path in paths:
        save_figure(figure(PICTURE, HEAT[None], ["cat, 0.9"]), path)
    assert paths[0].read_bytes().startswith(magic)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
    # Both were written within a second, so dates would be the same.
    assert not any(date in paths[0].read_bytes() for date in (b"CreationDate", b"ModDate", b"dc:date"))


def test_unknown_names_suggest(tmp_path):
    with pytest.raises(RenderError, match="did you mean inferno"):
        check_colormap("infreno")
    with pytest.raises(RenderError, match=r"\.pdf, \.png, \.svg"):
        save_figure(figure(PICTURE, HEAT[None], ["cat"]), tmp_path / "a.gif")
    with pytest.raises(CamjaxError, match="opacity"):
        overlay(PICTURE, HEAT, opacity=1.5)
    assert not list(tmp_path.iterdir())


def test_shrink():
    assert shrink(PICTURE) is PICTURE
    assert shrink(np.zeros((500, 3000, 3), np.uint8)).shape == (round(LONGEST_SIDE / 6), LONGEST_SIDE, 3)


def test_matplotlib_waits_until_something_is_drawn():
    program = "import sys, camjax.images.figures; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
