"""Boxes on figures, as Pillow and as matplotlib draw them."""

import numpy as np
import pytest
from PIL import Image

from camjax.images.figures import figure, save_figure
from camjax.images.grid import DPI, arrange_panels, in_pixels
from camjax.images.panels import compose

BOXES = [
    [0.25, 0.5, 0.75, 1.0],  # its right edge is the picture's
    [0.0, 0.0, 1e-4, 1e-4],  # smaller than the line
    [0.999, 0.999, 1.0, 1.0],
]


def page_of(by, folder, boxes):
    """A figure of grey pictures, as pixels, the corners of its panels, and their pictures' size."""
    picture, titles, grid = np.full((30, 60, 3), 99, np.uint8), [""] * 3, arrange_panels(3, (30, 60))
    size = in_pixels(grid.picture)
    if by == "pillow":
        page = compose(picture, np.full((3, *size), np.nan, np.float32), titles, grid, boxes=boxes)
    else:
        save_figure(figure(picture, np.full((3, 30, 60), np.nan, np.float32), titles, boxes=boxes), folder / "a.png")
        page = Image.open(folder / "a.png").convert("RGB")
    corners = [[round(DPI * side) for side in grid.corner(number)] for number in range(3)]
    return np.asarray(page)[..., 0].astype(int), corners, size


@pytest.mark.parametrize("by", ["pillow", "matplotlib"])
def test_the_line_lies_inside_of_its_box(tmp_path, by):
    page, corners, (height, width) = page_of(by, tmp_path, np.asarray(BOXES))
    changed = page != page_of(by, tmp_path, np.full((3, 4), np.nan))[0]
    panels = [
        [part[top - 5 : top + height + 5, left - 5 : left + width + 5] for part in (page, changed)]
        for top, left in corners
    ]
    own, there = panels[0]
    rows, columns = (np.flatnonzero(there.any(axis)) - 5 for axis in (1, 0))
    found = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    np.testing.assert_allclose(found, [height / 4, width / 2, 3 * height / 4, width], atol=1.5)
    across = own[height // 2, width // 2 + 4 : width // 2 + 13]
    assert across.max() > 220  # white
    assert across.min() < 40  # beside black
    assert (own[height // 3 : height // 2, 2 * width // 3 : 3 * width // 4] == 99).all()
    for _, there in panels[1:]:
        assert 50 <= there.sum() <= 200
