"""Overlays to the pixel, figures by their layout, and files by their bytes."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from toys import uint8_images

from camjax.errors import CamjaxError
from camjax.render import LONGEST_SIDE, RenderError, check_colormap, figure, overlay, save_figure, shrink

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
    program = "import sys, camjax.render; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
