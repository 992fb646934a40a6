"""The figure that compares methods, by its layout."""

import numpy as np
import pytest
from toys import uint8_images

from camjax.images.colours import RenderError
from camjax.images.comparison import TALLEST, Row, arrange, comparison

PICTURE = uint8_images(1, 30, 40)[0]
RAMP = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
HEATS = np.stack([RAMP, RAMP[::-1], RAMP**2])
TITLES = [("a", "0.500"), ("a class whose name is far too long for so narrow a column", "0.250"), ("c", "0.125")]
NONE = ("", "", "")


def words(drawing):
    return [text.get_text() for text in drawing.texts]


def boxes(drawing):
    return [axes.get_position() for axes in drawing.axes]


def test_rows_are_methods_and_columns_classes():
    drawing = comparison(PICTURE, [Row("cam", HEATS, NONE), Row("smooth-grad-cam++", HEATS[::-1], NONE)], TITLES)
    picture, scale, *cells = boxes(drawing)
    assert len(cells) == 6
    assert len({round(box.y0, 4) for box in cells}) == 2
    assert len({round(box.x0, 4) for box in cells}) == 3
    assert picture.x1 < min(box.x0 for box in cells)
    assert scale.y1 < picture.y0
    assert picture.y1 == pytest.approx(cells[0].y1)
    assert {"cam", "smooth-\ngrad-cam++", "a", "c", "0.500"} <= set(words(drawing))


def test_nothing_leaves_its_place():
    rows = [Row(name, HEATS, NONE) for name in ("integrated-gradients", "gradient-x-input", "seg-eigen-cam")]
    drawing = comparison(PICTURE, rows, TITLES)
    cells, width = boxes(drawing)[2:], drawing.get_size_inches()[0] * drawing.dpi
    names = [text for text in drawing.texts if text.get_ha() == "right" and text.get_va() == "center"]
    assert len(names) == 3
    for text in drawing.texts:
        extent = text.get_window_extent()
        assert 0 <= extent.x0 <= extent.x1 <= width
    for text in names:
        extent = text.get_window_extent()
        assert boxes(drawing)[0].x1 * width < extent.x0
        assert extent.x1 < cells[0].x0 * width
    (cut,) = (text for text in drawing.texts if text.get_text().endswith("…"))
    assert cut.get_window_extent().width <= cells[0].width * width + 1


def test_a_map_of_all_classes_is_there_once():
    same = np.stack([RAMP] * 3)
    drawing = comparison(PICTURE, [Row("cam", HEATS, NONE), Row("fem", same, NONE)], TITLES)
    assert len(boxes(drawing)) == 2 + 3 + 1
    assert words(drawing).count("one map for\nall classes") == 1
    drawing = comparison(PICTURE, [Row("fem", same[:1], ("",))], TITLES[:1])
    assert "one map for\nall classes" not in words(drawing)


def test_a_map_that_shows_nothing_says_why():
    nothing = ("nowhere positive", "", "not a number: class does not exist")
    drawing = comparison(PICTURE, [Row("cam", np.zeros_like(HEATS), nothing)], TITLES)
    assert "nowhere positive" in words(drawing)
    assert "not a number:\nclass does not exist" in words(drawing)
    first, second = (axes.images[0].get_array() for axes in drawing.axes[2:4])
    assert (first >= PICTURE).all()
    assert (first != PICTURE).any()
    assert second.mean() < PICTURE.mean()  # inferno's black, half of it


@pytest.mark.parametrize("proportion", [0.25, 0.5, 1.0, 4.0])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3), (6, 3), (27, 3), (27, 1), (40, 8)])
def test_a_figure_has_a_pages_proportions(rows, columns, proportion):
    layout = arrange(rows, columns, proportion)
    height, width = layout.size
    assert height <= TALLEST * width or layout.rows == 1
    corners = {layout.corner(row, column) for row in range(rows) for column in range(columns)}
    assert len(corners) == rows * columns
    assert max(top for top, _ in corners) + layout.cell[0] <= height
    assert max(left for _, left in corners) + layout.cell[1] <= width
    assert layout.rows * len(layout.left) >= rows
    assert layout.rows * (len(layout.left) - 1) < rows


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="must have 3 maps"):
        comparison(PICTURE, [], TITLES)
    with pytest.raises(ValueError, match="must have 3 maps"):
        comparison(PICTURE, [Row("cam", HEATS[:2], NONE)], TITLES)
    with pytest.raises(RenderError, match="did you mean inferno"):
        comparison(PICTURE, [Row("cam", HEATS, NONE)], TITLES, "infreno")
