"""The figure of a layer's concepts, to the pixel and by its layout."""

import matplotlib
import numpy as np
import pytest
from toys import uint8_images

from camjax.images.colours import RenderError, palette
from camjax.images.concepts import GREYED, concept_figure, painted

PICTURE = uint8_images(1, 30, 40)[0]
RAMP = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
STRENGTHS = np.stack([RAMP, RAMP[::-1, ::-1], np.zeros_like(RAMP)])
LONG = "a class whose name is far too long for so narrow a legend"
ENTRIES = [[("tabby", "0.911"), (LONG, "0.050")], [("espresso", "0.800"), ("cup", "0.100")], [("fur $5", "nan")]]


def test_each_pixel_has_the_colour_of_its_strongest_concept():
    chosen = palette("tab10", 3)
    found = painted(PICTURE, STRENGTHS, chosen, 0.8).astype(float)
    grey = PICTURE @ np.asarray([0.299, 0.587, 0.114])
    for row, column in ((0, 0), (29, 39), (3, 7), (15, 20)):
        strengths = STRENGTHS[:, row, column]
        share, colour = 0.8 * strengths.max(), chosen[strengths.argmax()].astype(float)
        paled = (1 - GREYED) * PICTURE[row, column] + GREYED * grey[row, column]
        np.testing.assert_allclose(found[row, column], (1 - share) * paled + share * colour, atol=0.6)
    np.testing.assert_allclose(found[29, 39], 0.8 * chosen[0] + 0.2 * paled_at(29, 39), atol=0.6)


def paled_at(row, column):
    pixel = PICTURE[row, column].astype(float)
    return (1 - GREYED) * pixel + GREYED * (pixel @ [0.299, 0.587, 0.114])


def test_what_was_not_seen_shows_the_picture():
    strengths = STRENGTHS.copy()
    strengths[:, :, 25:] = np.nan
    found = painted(PICTURE, strengths, palette("tab10", 3), 1.0)
    np.testing.assert_array_equal(found[:, 25:], PICTURE[:, 25:])
    assert (found[:, :25] != PICTURE[:, :25]).any()


def test_lists_give_their_first_colours_and_others_some_far_apart():
    expected = [[round(255 * part) for part in colour] for colour in matplotlib.colormaps["tab10"].colors[:4]]
    assert palette("tab10", 4).tolist() == expected
    wheel = palette("hsv", 12).astype(int)
    assert len({tuple(colour) for colour in wheel}) == 12
    with pytest.raises(RenderError, match="tab10 has 10 colours, not 11; hsv"):
        palette("tab10", 11)
    with pytest.raises(RenderError, match="did you mean"):
        palette("tab11", 2)


@pytest.mark.parametrize("shape", [(30, 40), (10, 90), (90, 10)])
def test_the_legend_stands_beside_the_picture_and_nothing_leaves_its_place(shape):
    picture = uint8_images(1, *shape)[0]
    strengths = np.stack([np.resize(each, shape) for each in STRENGTHS])
    drawing = concept_figure(picture, strengths, ENTRIES, "layer4, 20% of it unexplained")
    panel, *swatches = (axes.get_position() for axes in drawing.axes)
    assert len(swatches) == 3
    assert panel.x1 < min(box.x0 for box in swatches)
    tops = [box.y1 for box in swatches]
    assert tops == sorted(tops, reverse=True)
    assert tops[0] == pytest.approx(panel.y1)
    words = [text.get_text() for text in drawing.texts]
    assert words[:2] == ["tabby", "0.911"]
    assert "fur $5" in words
    assert words[-1] == "layer4, 20% of it unexplained"
    width, height = drawing.get_size_inches() * drawing.dpi
    extents = [text.get_window_extent() for text in drawing.texts]
    for extent in extents:
        assert swatches[0].x0 * width - 1 <= extent.x0 <= extent.x1 <= width
        assert 0 <= extent.y0 <= extent.y1 <= height
    (cut,) = (number for number, word in enumerate(words) if word.endswith("…"))
    assert extents[cut].x1 < extents[cut + 1].x0  # its probability
    for axes, colour in zip(drawing.axes[1:], palette("tab10", 3), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array()[0, 0], colour)


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="3 concepts and 2 entries"):
        concept_figure(PICTURE, STRENGTHS, ENTRIES[:2])
    with pytest.raises(ValueError, match="0 concepts"):
        concept_figure(PICTURE, STRENGTHS[:0], [])
