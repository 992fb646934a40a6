"""A map's unit does not count, and a constant map has no shape, not even that of its rounding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from metrics.test_faithfulness import CLASSES, MAPS, PIXELS, score

from camjax.metrics.adcc import coherency
from camjax.metrics.additivity import infidelity, sensitivity_n
from camjax.metrics.box_accuracy import as_bytes
from camjax.metrics.boxes import boxes_of
from camjax.metrics.concentration import entropy, mean_size, sparseness
from camjax.metrics.faithfulness import confidence, deletion, insertion
from camjax.metrics.localisation import energy_pointing_game, overlap, pointing_game
from camjax.metrics.pixels import pixel_counts, pixel_precision
from camjax.metrics.road import road
from camjax.metrics.robustness import max_sensitivity, nudged, rank_correlation, relative_change
from camjax.metrics.scaling import pearson, per_largest, unit_range

FACTORS = (1e-30, 1e-10, 1e10, 1e30)
MASKS = np.zeros(MAPS.shape, bool)
MASKS[..., 1:4, 2:6] = True
OTHERS = np.random.default_rng(4).normal(size=MAPS.shape).astype(np.float32)


@functools.cache
def every_metric():
    """All metrics of maps times a factor, by name, in one program."""

    def explain(factor, images):
        """A picture's first two channels as maps, and a constant one."""
        return factor * jnp.stack([images[..., 0], images[..., 1] ** 2, jnp.ones_like(images[..., 0])], 1)

    def judge(factor, pixels, maps, others, masks, classes):
        scaled = factor * maps
        asked = (score, pixels, scaled, classes)
        explained = functools.partial(explain, factor)
        shown = confidence(*asked)
        return {
            "sensitivity-n": sensitivity_n(*asked, n=9, samples=12),
            "infidelity": infidelity(*asked, samples=12),
            "max-sensitivity": max_sensitivity(explained, pixels, samples=3),
            "relative change": relative_change(scaled, factor * (maps + others)),
            "coherency": coherency(scaled, others),
            "coherency of what is shown": coherency(others, scaled),
            "rank correlation": rank_correlation(scaled, others),
            "sparseness": sparseness(scaled),
            "entropy": entropy(scaled),
            "mean size": mean_size(scaled),
            "drop": shown.drop,
            "gain": shown.gain,
            "insertion": insertion(*asked, steps=4).area,
            "deletion": deletion(*asked, steps=4).area,
            "road": road(*asked, percents=(30, 60)).combined,
            "pointing": pointing_game(scaled, masks),
            "energy": energy_pointing_game(scaled, masks),
            "iou": overlap(scaled, masks),
            "pxap": pixel_precision(pixel_counts(scaled, masks)),
        }

    return jax.jit(judge)


def numbers(factor, maps=MAPS):
    return jax.device_get(every_metric()(np.float32(factor), PIXELS, maps, OTHERS, MASKS, CLASSES))


@pytest.mark.parametrize("factor", FACTORS)
def test_no_metric_depends_on_the_maps_unit(factor):
    for (name, expected), found in zip(numbers(1).items(), numbers(factor).values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6, err_msg=name)
        assert np.isfinite(expected[:, :2]).all(), name
        if name != "max-sensitivity":
            assert np.isnan(expected[:, 4]).all(), name


@pytest.mark.parametrize("factor", FACTORS)
def test_boxes_do_not_depend_on_the_maps_unit(factor):
    for one in MAPS[0, :4]:
        scaled = one * np.float32(factor)
        np.testing.assert_allclose(as_bytes(scaled).astype(int), as_bytes(one), atol=1)
        np.testing.assert_array_equal(boxes_of(scaled), boxes_of(one))
    np.testing.assert_array_equal(as_bytes(np.asarray([[3e38, -3e38, 0]], np.float32)), [[255, 0, 127]])


@pytest.mark.parametrize("value", [0.3, 7.3, 1.0, -2.1, 1e-20, 1e20, 0.0])
def test_a_constant_map_has_no_shape(value):
    """Also with the rounding of a resize; 0.3 everywhere had a sensitivity-n of 0.13 to -0.43."""
    rounded = np.full(MAPS.shape, value, np.float32)
    if value:  # 0 is not rounded
        above, below = (np.nextafter(np.float32(value), np.float32(end)) for end in (np.inf, -np.inf))
        rounded[:, 1::2, 2::3, ::2], rounded[:, 1::2, 3, 1] = above, np.nextafter(below, np.float32(-np.inf))
    found = numbers(1, rounded)
    share = MASKS[0, 0].mean()
    for name in ("sensitivity-n", "coherency", "coherency of what is shown"):
        np.testing.assert_array_equal(found[name], 0, err_msg=name)
    np.testing.assert_allclose(found["pxap"], share, rtol=1e-5)
    assert as_bytes(rounded[0, 1]).max() == 0
    assert numbers(1, np.full(MAPS.shape, value, np.float32))["rank correlation"].max() == 0


@pytest.mark.parametrize("size", [(2, 2), (3, 4), (5, 7)])
def test_sensitivity_n_of_a_constant_map_that_is_resized_is_0(size):
    judge = jax.jit(functools.partial(sensitivity_n, score, n=9, samples=12))
    np.testing.assert_array_equal(judge(PIXELS, np.full((2, 1, *size), 0.3, np.float32), CLASSES[:, :1]), 0)


def test_a_score_that_is_constant_but_for_rounding_correlates_with_nothing():
    def flat(pixels):
        """Probabilities of 1 / 5 but for what adding and taking away the pixels rounds."""
        sums = 1000 * pixels.sum((1, 2, 3))[:, None]
        return jnp.full((1, 5), 0.2, jnp.float32) + 1e-11 * sums

    found = jax.jit(functools.partial(sensitivity_n, flat, n=9, samples=12))(PIXELS, MAPS, CLASSES)
    np.testing.assert_array_equal(found[:, :4], 0)


def test_a_map_that_is_nearly_constant_keeps_its_shape():
    judge = jax.jit(functools.partial(sensitivity_n, score, n=9, samples=12))
    nearly = 1 + np.float32(1e-3) * MAPS[:, :1]
    np.testing.assert_allclose(
        judge(PIXELS, nearly, CLASSES[:, :1]), judge(PIXELS, MAPS[:, :1], CLASSES[:, :1]), atol=2e-3
    )


def test_pearson_is_scipys_at_every_scale():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 40)).astype(np.float32)
    expected = scipy.stats.pearsonr(one, other)[0]
    correlate = jax.jit(pearson)
    for first in (1e-30, 1, -1e30):
        for second in (1e-30, 1e30):
            found = correlate(one * np.float32(first), other * np.float32(second))
            np.testing.assert_allclose(found, np.sign(first) * expected, rtol=1e-4)
    np.testing.assert_allclose(correlate(one + 100, other), expected, rtol=1e-2)
    assert correlate(one, np.full(40, 0.1, np.float32)) == 0


def test_ranges_by_hand():
    values = np.asarray([[1, 3, 2, 5], [7, 7, 7, 7], [0, 0, 0, 0], [3e38, -3e38, 0, 0]], np.float32)
    unit, largest = jax.jit(lambda x: (unit_range(x, (1,)), per_largest(x, (1,))))(values)
    np.testing.assert_allclose(unit, [[0, 0.5, 0.25, 1], [0] * 4, [0] * 4, [1, 0, 0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(largest, [[0.2, 0.6, 0.4, 1], [1] * 4, [0] * 4, [1, -1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(("odd", "place"), [(np.nan, 0), (np.inf, 700), (np.nan, 1023)])
def test_a_map_that_is_not_finite_is_nan(odd, place):
    """On a CPU, the maximum of 1,024 numbers with a NaN is minus infinity for JAX 0.10.2."""
    values = np.linspace(0, 1, 2048, dtype=np.float32).reshape(2, 1024)
    values[0, place] = odd
    for function in (unit_range, per_largest):
        found = jax.jit(function, static_argnums=1)(values, (1,))
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all()
    maps = values.reshape(1, 2, 32, 32)
    for found in jax.jit(lambda x: (coherency(x, x), rank_correlation(x, x), relative_change(x[..., ::-1], x)))(maps):
        assert np.isnan(found[0, 0]) or (odd == np.inf and found[0, 0] == 1)
        assert np.isfinite(found[0, 1])


def test_the_worst_of_several_changes_with_a_nan_is_nan():
    images = jnp.zeros((1, 2, 2, 3), jnp.float32)
    second = nudged(images, 1)[0, 0, 0, 0]

    def explain(pixels):
        return jnp.where(pixels[0, 0, 0, 0] == second, jnp.nan, pixels[..., 0][:, None] + 1)

    assert np.isnan(jax.jit(functools.partial(max_sensitivity, explain, samples=3))(images)).all()
    assert np.isfinite(jax.jit(functools.partial(max_sensitivity, explain, samples=1))(images)).all()
