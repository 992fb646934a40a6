"""Picture files to explanations."""

import dataclasses

import numpy as np
import pytest
from batch_material import write_pictures
from PIL import Image
from toys import toy_model, uint8_images

from camjax.errors import PictureError
from camjax.explain import explanation as explanation_module
from camjax.explain import outputs
from camjax.explain.boxes import picture_boxes
from camjax.explain.explanation import explain_pictures
from camjax.images.decode import image as image_module
from camjax.images.labels import LabelError

MODEL = toy_model()


def test_an_input_that_is_not_square(tmp_path):
    paths = sorted(write_pictures(tmp_path, 3).iterdir())
    for explanation in explain_pictures(MODEL, paths, top_k=2, input_size=(32, 64)):
        assert explanation.geometry.input_size == (32, 64)
        assert explanation.maps.shape == (2, 32, 64)
        assert np.nanmax(explanation.heats()) == 1


def test_a_generator_of_paths_and_text(tmp_path):
    paths = sorted(write_pictures(tmp_path, 5).iterdir())
    expected = list(explain_pictures(MODEL, paths, top_k=2, batch_size=2))
    found = list(explain_pictures(MODEL, (str(path) for path in paths), top_k=2, batch_size=2))
    assert [one.path for one in found] == paths
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.maps, theirs.maps)


def test_few_pictures_are_a_small_batch(tmp_path, monkeypatch):
    rows = []
    stack = explanation_module.stack
    monkeypatch.setattr(explanation_module, "stack", lambda pixels, count: rows.append(count) or stack(pixels, count))
    paths = sorted(write_pictures(tmp_path, 7).iterdir())  # the last but one is broken
    assert len(list(explain_pictures(MODEL, iter(paths), on_error=lambda _: None))) == 6
    assert len(list(explain_pictures(MODEL, iter(paths), batch_size=4, on_error=lambda _: None))) == 6
    assert rows == [6, 4, 4]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"batch_size": -3}, "batch_size must be at least 1, not -3"),
        ({"input_size": (0, 32)}, r"input_size must be \(height, width\) in pixels, not \(0, 32\)"),
        ({"input_size": (32, -32)}, "input_size must be"),
        ({"input_size": 32}, "input_size must be"),
        ({"top_k": 0}, r"top_k must be in 1\.\.9, the classes of toy, not 0"),
        ({"top_k": 10}, r"top_k must be in 1\.\.9"),
        ({"classes": []}, "classes must be the numbers of one class or more"),
        ({"classes": [0.5]}, "classes must be the numbers"),
        ({"classes": [[1]]}, "classes must be the numbers"),
        ({"classes": 3}, "classes must be the numbers"),
        ({"classes": [-1]}, "class -1 does not exist; the model has classes 0 to 8"),
        ({"classes": [9, 3, -2]}, "classes 9, -2 do not exist; the model has classes 0 to 8"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_what_cannot_be_is_said_at_once(tmp_path, options, words):
    path = write_pictures(tmp_path, 1) / "000.png"
    with pytest.raises((ValueError, LabelError), match=words):
        explain_pictures(MODEL, [path], **options)


def test_fewer_classes_than_the_usual_five(tmp_path):
    path = write_pictures(tmp_path, 1) / "000.png"
    (explanation,) = explain_pictures(toy_model(num_classes=3), [path], classes=["class 2", 0])
    assert explanation.classes.tolist() == [2, 0]


def test_no_pictures_are_an_error():
    with pytest.raises(PictureError, match="no picture was named"):
        explain_pictures(MODEL, iter([]))


@pytest.mark.parametrize("classes", [None, [7, 1]])
def test_a_model_without_labels(tmp_path, classes):
    model = dataclasses.replace(MODEL, labels=())
    path = write_pictures(tmp_path, 1) / "000.png"
    (explanation,) = explain_pictures(model, [path], top_k=2, classes=classes)
    assert explanation.labels == tuple(f"class {number}" for number in explanation.classes)
    with pytest.raises(ValueError, match=r"must be in 1\.\.9"):
        explain_pictures(model, [path], top_k=10)


def test_a_few_bright_pixels_do_not_hide_the_others(tmp_path):
    path = write_pictures(tmp_path, 1) / "000.png"
    (explanation,) = explain_pictures(MODEL, [path], classes=[0, 1], geometry="squash")
    ramp = np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32)
    one = np.zeros((32, 32), np.float32)
    one[3, 4] = 7  # less than the part that is cut off: its own largest value holds
    ramp[9, 9] = 50
    sharp = dataclasses.replace(explanation, maps=np.stack([ramp, one]))
    plain, cut = sharp.heats((32, 32)), sharp.heats((32, 32), 0.005)
    assert np.median(plain[0]) < 0.02
    assert 0.45 < np.median(cut[0]) < 0.55
    assert (cut[0] == 1).mean() <= 0.01
    np.testing.assert_array_equal(cut[1], plain[1])
    assert cut.max() == 1
    assert cut.dtype == np.float32


def test_a_picture_smaller_than_its_maps_reaches_one(tmp_path):
    path = write_pictures(tmp_path, 1) / "000.png"
    (explanation,) = explain_pictures(MODEL, [path], classes=[0, 1], geometry="squash")
    noise = np.abs(np.random.default_rng(0).normal(size=(2, 32, 32))).astype(np.float32)
    heats = dataclasses.replace(explanation, maps=noise).heats((8, 8), 0.005)
    np.testing.assert_array_equal(heats.max((1, 2)), 1)


def test_a_large_image_is_reduced_and_its_places_are_those_of_the_whole(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    small = Image.fromarray(uint8_images(1, 20, 32)[0])
    small.resize((640, 400), Image.Resampling.BICUBIC).save(path)
    (whole,) = explain_pictures(MODEL, [path], top_k=3)
    monkeypatch.setattr(image_module, "REDUCED_ABOVE", 100_000)
    monkeypatch.setattr(image_module, "LEAST_SIDE", 16)
    (reduced,) = explain_pictures(MODEL, [path], top_k=3)
    assert (reduced.picture.shape, reduced.geometry) == ((200, 320, 3), whole.geometry)
    assert reduced.heats().shape == (3, 200, 320)
    np.testing.assert_array_equal(reduced.classes, whole.classes)
    np.testing.assert_allclose(reduced.maps, whole.maps, atol=0.02 * np.abs(whole.maps).max())
    boxes, expected = picture_boxes(reduced), picture_boxes(whole)
    known = ~np.isnan(expected)
    assert known.any()
    assert np.abs(boxes[known] - expected[known]).max() <= 640 / 32  # a pixel of the network's input
    # The box that is drawn is in parts of the whole image.
    drawn = []
    monkeypatch.setattr(outputs, "compose", lambda *arguments: drawn.append(arguments) or np.zeros((4, 4, 3), np.uint8))
    outputs.write_figure(reduced, tmp_path / "a.png", colormap="inferno", opacity=0.5, box_share=0.2)
    np.testing.assert_allclose(drawn[0][-1], boxes / [400, 640, 400, 640])
