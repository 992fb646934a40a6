"""Boxes of known maps: in the picture's pixels whatever became of it, in the JSON file, and on figures."""

import json
from pathlib import Path

import numpy as np
import pytest
from toys import uint8_images

from camjax.core.model import Model
from camjax.evaluate.placing import place_boxes
from camjax.explain.boxes import picture_boxes
from camjax.explain.explanation import Explanation
from camjax.explain.outputs import json_file, write_figure
from camjax.images.geometry import Geometry, boxes_to_picture
from camjax.images.preprocess import Preprocess
from camjax.methods.condition import FINE, NOT_POSITIVE

MODEL = Model({}, lambda params, images: images, Preprocess(input_size=(32, 32)), name="none")
SIZE = (40, 80)
# Rows and columns of the input, and the same in the picture's pixels: left, top, right, bottom.
PLACES = {
    "pad": ((14, 4, 18, 10), [10, 15, 25, 25]),  # padded to 80 x 80, twenty rows above and below
    "crop": ((4, 8, 8, 16), [30, 5, 40, 10]),  # the middle 40 x 40
    "squash": ((4, 4, 8, 10), [10, 5, 25, 10]),
}


def explanation_of(kind, size=SIZE, maps=None):
    """Of a thing with a halo, a smaller thing and, in what may be padding, more; and of a map nowhere positive."""
    top, left, bottom, right = PLACES[kind][0]
    if maps is None:
        maps = np.full((2, 32, 32), -1, np.float32)
        maps[0, top - 1 : bottom + 1, left - 1 : right + 1] = 0.25
        maps[0, top:bottom, left:right] = 1
        maps[0, 22, 30] = 1
        maps[0, :6] = 9 if kind == "pad" else maps[0, :6]
    return Explanation(
        path=Path("a.png"),
        picture=uint8_images(1, *size)[0],
        geometry=Geometry(kind, size, (32, 32), 1.0),
        labels=("a", "b"),
        classes=np.asarray([3, 1], np.int32),
        probabilities=np.asarray([0.5, 0.25], np.float32),
        logits=np.zeros(2, np.float32),
        maps=maps,
        conditions=np.asarray([FINE, NOT_POSITIVE], np.int8),
        method="cam",
        layer="last",
    )


def test_edges_go_to_the_nearest_pixel():
    """A row of the input is 1.25 of the picture's, a column 2.5; upper and lower edges lie a quarter of a pixel off."""
    boxes = np.asarray([[1, 4, 3, 6], [3, 4, 5, 8]], np.float64)
    found = boxes_to_picture(Geometry("squash", SIZE, (32, 32), 1.0), boxes)
    np.testing.assert_array_equal(found, [[1, 10, 4, 15], [4, 10, 6, 20]])


@pytest.mark.parametrize("kind", ["pad", "crop", "squash"])
def test_a_known_map_has_a_known_box(tmp_path, kind):
    explanation = explanation_of(kind)
    place, sides = PLACES[kind]
    with json_file(tmp_path / "a.json", MODEL, box_share=0.5) as add:
        add(explanation)
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["box_threshold"] == 0.5
    first, second = (entry["box"] for entry in document["pictures"][0]["classes"])
    assert first == dict(zip(("left", "top", "right", "bottom"), sides, strict=True))
    assert second is None
    # Ground truth of `camjax evaluate` in the same numbers is the same place on the input.
    left, top, right, bottom = map(float, sides)
    placed, wrong = place_boxes([(top, left, bottom, right)], explanation.geometry, "a.png")
    assert wrong == []
    np.testing.assert_array_equal(placed, [place])
    halo, _ = place_boxes([tuple(picture_boxes(explanation)[0].tolist())], explanation.geometry, "a.png")
    assert np.abs(halo - np.asarray([place]) - np.asarray([-1, -1, 1, 1])).max() <= 0.5


def test_files_have_no_boxes_unless_asked_for(tmp_path):
    with json_file(tmp_path / "a.json", MODEL) as add:
        add(explanation_of("pad"))
    assert "box" not in (tmp_path / "a.json").read_text()


@pytest.mark.parametrize("size", [(3, 5), (1, 300), (300, 1), (33, 32)])
@pytest.mark.parametrize("kind", ["pad", "crop", "squash"])
def test_boxes_lie_in_the_picture_and_have_an_area(kind, size):
    maps = np.zeros((2, 32, 32), np.float32)
    maps[0, 15:17, 15:17] = 1
    maps[1] = 1
    explanation = explanation_of(kind, size, maps)
    small, _ = picture_boxes(explanation)
    assert (small == np.rint(small)).all()
    assert (small[:2] >= 0).all()
    assert (small[2:] > small[:2]).all()
    assert (small[2:] <= size).all()


def test_figures_of_every_kind_have_the_line(tmp_path):
    lines = {}
    for name, share in (("boxes.svg", 0.2), ("plain.svg", None)):
        write_figure(explanation_of("pad"), tmp_path / name, colormap="inferno", opacity=0.5, box_share=share)
        lines[share] = (tmp_path / name).read_text().count("stroke: #ffffff")
    assert lines[0.2] == lines[None] + 1
    write_figure(explanation_of("pad"), tmp_path / "a.png", colormap="inferno", opacity=0.5, box_share=0.2)
