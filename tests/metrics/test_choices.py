"""Defaults and boundaries of metrics that a change by one step would alter: each is compared with what it has to be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from metrics.test_faithfulness import CLASSES, MAPS, PIXELS, score

from camjax.metrics.additivity import infidelity, sensitivity_n
from camjax.metrics.box_accuracy import box_counts
from camjax.metrics.faithfulness import confidence, deletion, insertion
from camjax.metrics.grid import cells
from camjax.metrics.localisation import above
from camjax.metrics.pixels import pixel_counts, pixel_precision
from camjax.metrics.road import road
from camjax.metrics.robustness import max_sensitivity


def first_channels(pixels):
    return jnp.stack([pixels[..., 0], pixels[..., 1]], 1)


DEFAULTS = {
    "insertion": (functools.partial(insertion, score), {"steps": 20, "baseline": "blur", "room": 32}),
    "deletion": (functools.partial(deletion, score), {"steps": 20, "baseline": "zero", "room": 32}),
    "infidelity": (functools.partial(infidelity, score), {"noise": 0.2, "samples": 100, "scaled": True, "seed": 0}),
    "sensitivity_n": (functools.partial(sensitivity_n, score, n=9), {"samples": 100, "seed": 0}),
    "road": (
        functools.partial(road, score),
        {"percents": (10, 20, 30, 40, 50, 60, 70, 80, 90), "noise": 0.01, "seed": 0},
    ),
    "max_sensitivity": (
        lambda images, *_, **options: max_sensitivity(first_channels, images, **options),
        {"radius": 0.2, "samples": 10, "seed": 0},
    ),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults(name):
    """What is documented, or a paper's; each of them changes the number."""
    metric, options = DEFAULTS[name]
    both = jax.jit(lambda *arrays: (metric(*arrays), metric(*arrays, **options)))
    found, expected = jax.device_get(both(PIXELS, MAPS[:, :2], CLASSES[:, :2]))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_pixel_that_reaches_the_share_belongs_to_the_object():
    maps = jnp.asarray([[[1.0, 0.5], [0.25, 0.0]], [[-1.0, -2.0], [-3.0, -0.5]]])
    np.testing.assert_array_equal(above(maps, 0.5), [[[True, True], [False, False]], [[False] * 2] * 2])
    np.testing.assert_array_equal(above(maps[0], 0.5), [[True, True], [False, False]])


def test_certain_and_impossible_scores_have_parts():
    """A score of exactly 0 or 1, and one that stays: neither lost, nor won, nor higher."""

    def judge(before, after):
        def table(images):
            shown = images.max((1, 2, 3)) < 1  # the map of zeros leaves nothing
            return jnp.where(shown, after, before)[:, None]

        found = confidence(table, jnp.ones((1, 2, 2, 3)), jnp.zeros((1, 1, 2, 2)), jnp.zeros((1, 1), jnp.int32))
        return jnp.stack([found.drop, found.increase, found.gain])[:, 0, 0]

    judged = jax.jit(judge)
    np.testing.assert_allclose(judged(1.0, 0.25), [0.75, 0, 0])
    np.testing.assert_allclose(judged(0.0, 0.25), [0, 1, 0.25])
    np.testing.assert_allclose(judged(0.5, 0.5), [0, 0, 0])
    np.testing.assert_allclose(judged(1.0, 1.0), [0, 0, 0])
    np.testing.assert_array_equal(judged(-0.5, 0.25), [np.nan, 1, np.nan])
    np.testing.assert_array_equal(judged(1.5, 0.75), [np.nan, 0, np.nan])


def test_pixels_have_a_thousand_values():
    counts = jax.jit(pixel_counts)(MAPS, np.zeros(MAPS.shape, bool))
    assert counts.inside.shape == counts.outside.shape == (2, 5, 1001)
    ramp = np.concatenate([[0], np.arange(1, 1000) + 0.5, [1000]]).astype(np.float32).reshape(1, 7, 143)
    np.testing.assert_array_equal(jax.jit(pixel_counts)(ramp, np.ones(ramp.shape, bool)).inside, 1)


def test_a_map_that_is_its_mask_is_precise_whatever_its_values():
    """The highest value has an interval of its own, and counts once."""
    maps = np.asarray([[[1, 0.9995, 0, 0]], [[1, 0.5, 0.5, 0]], [[1, 1, 0.2, 0.1]]], np.float32)
    masks = np.asarray([[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[0, 1, 0, 1]]], bool)
    found = jax.jit(lambda *arrays: pixel_precision(pixel_counts(*arrays)))(maps, masks)
    np.testing.assert_allclose(found, [1, 1 / 2 + 2 / 3 / 2, 1 / 2 / 2 + 2 / 4 / 2], rtol=1e-6)


def test_a_pixel_between_two_pictures_of_a_grid_is_the_ones_with_its_centre():
    two = cells(2, (5, 3))
    np.testing.assert_array_equal(two[0], np.outer([1, 1, 0, 0, 0], [1, 0, 0]).astype(bool))
    np.testing.assert_array_equal(two[3], np.outer([0, 0, 1, 1, 1], [0, 1, 1]).astype(bool))


def test_a_box_with_exactly_half_of_the_union_is_right():
    """The evaluator's box of 2 x 4 pixels has 3 x 5, and one drawn from 2 to 4 and 3 to 12 has 3 x 10."""
    one = np.zeros((1, 12, 16), np.float32)
    one[0, 2:4, 3:7] = 1
    counts = box_counts(one, [np.asarray([[2.0, 3, 4, 12]])])
    assert counts.largest.max() == 1
    assert counts.any.max(-1).tolist() == [1, 1, 0]
