"""Classes by name in Python: in lists, among numbers, for each image, and inside a user's own `jax.jit`."""

import dataclasses

import jax
import numpy as np
import pytest
from toys import toy_model, uint8_images

from camjax import LabelError, make_explainer

LABELS = ("cat", "dog", "Paris, Texas", "crane", "crane", "owl", "6", "frog", "newt")
MODEL = dataclasses.replace(toy_model(), labels=LABELS)
IMAGES = uint8_images(2, 32, 32)


def explainer(labels=LABELS):
    return make_explainer(dataclasses.replace(MODEL, labels=labels), method="grad-cam", size=None)


@pytest.mark.parametrize(
    ("classes", "numbers"),
    [
        (["dog"], [1]),
        (["dog", "Paris, Texas"], [1, 2]),
        (["dog", 5, np.int32(3)], [1, 5, 3]),
        (("OWL", "6"), [5, 6]),
        ([["dog", 5], [0, "frog"]], [[1, 5], [0, 7]]),
        (np.array(["newt", "cat"]), [8, 0]),
        (np.array([["newt"], ["cat"]]), [[8], [0]]),
    ],
)
def test_names_stand_for_numbers(classes, numbers):
    explain = explainer()
    found, expected = explain(IMAGES, classes), explain(IMAGES, np.asarray(numbers))
    np.testing.assert_array_equal(found.classes, np.broadcast_to(numbers, found.classes.shape))
    np.testing.assert_array_equal(found.maps, expected.maps)
    assert explain.lower(IMAGES, classes).as_text() == explain.lower(IMAGES, np.asarray(numbers)).as_text()


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["dgo"], "no class is called 'dgo'; did you mean dog"),
        (["crane"], r"'crane' names several classes, use a number: 3 \(crane\); 4 \(crane\)"),
        ([["dog"], ["Paris"]], "no class is called 'Paris'"),
    ],
)
def test_names_of_no_class_or_of_several_are_refused(classes, words):
    with pytest.raises(LabelError, match=words):
        explainer()(IMAGES, classes)


def test_a_model_without_labels_has_no_names():
    with pytest.raises(LabelError, match="the model has no labels, so 'dog' cannot be found; use numbers"):
        explainer(())(IMAGES, ["dog"])


def test_in_a_jit_of_the_users_own_the_labels_are_the_explainers():
    """Explainers of equal plans share a program of camjax's; a user's function is traced for other labels anew."""
    maps = jax.jit(lambda explain, images: explain(images, ["cat"]).maps)
    first, second = explainer(), explainer(LABELS[::-1])
    assert first.plan == second.plan
    np.testing.assert_allclose(maps(first, IMAGES), first(IMAGES, [0]).maps, atol=1e-6)
    np.testing.assert_allclose(maps(second, IMAGES), second(IMAGES, [8]).maps, atol=1e-6)
