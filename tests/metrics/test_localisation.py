"""Pointing games, overlaps and PxAP: known answers, by hand, and against rewrites of their papers' code."""

import functools

import jax
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from camjax.metrics.grid import cells, collages, grid_pointing_game
from camjax.metrics.localisation import energy_pointing_game, overlap, pointing_game
from camjax.metrics.pixels import PixelCounts, pixel_counts, pixel_precision

SIZE = (9, 11)
MASK = np.zeros(SIZE, bool)
MASK[2:5, 6:9] = True
MASKS = np.broadcast_to(MASK, (1, 7, *SIZE))
AREA = MASK.mean()
SPECIAL = np.stack([MASK, ~MASK, np.ones(SIZE), np.zeros(SIZE), -1.0 * MASK, 1e30 * MASK, np.full(SIZE, np.nan)])
ALL = jax.jit(
    lambda maps, masks: (
        pointing_game(maps, masks),
        energy_pointing_game(maps, masks),
        overlap(maps, masks),
        pixel_precision(pixel_counts(maps, masks)),
    )
)
GRID = jax.jit(grid_pointing_game, static_argnums=1)


def test_known_answers():
    found = jax.device_get(ALL(SPECIAL[None].astype(np.float32), MASKS))
    #                  mask, complement, uniform, nothing, negative, huge, NaN
    np.testing.assert_allclose(found[0][0], [1, 0, AREA, AREA, 0, 1, np.nan], atol=1e-6)
    np.testing.assert_allclose(found[1][0], [1, 0, AREA, 0, 0, 1, np.nan], atol=1e-6)
    np.testing.assert_allclose(found[2][0], [1, 0, AREA, 0, 0, 1, np.nan], atol=1e-6)
    np.testing.assert_allclose(found[3][0], [1, AREA, AREA, AREA, AREA, 1, np.nan], atol=1e-6)


def test_nearly_the_highest_is_not_the_highest():
    near = np.float32(1 - 1e-6)
    maps = np.stack([np.where(MASK, 1, near), np.where(MASK, near, 1), *SPECIAL[2:]])
    np.testing.assert_array_equal(ALL(maps[None].astype(np.float32), MASKS)[0][0, :2], [1, 0])


def test_nothing_to_find_is_nan():
    assert all(np.isnan(each).all() for each in ALL(np.ones((1, 7, *SIZE), np.float32), np.zeros_like(MASKS)))


@pytest.mark.parametrize("tolerance", [0, 1, 2, 4])
def test_tolerance_is_a_disc(tolerance):
    """As in TorchRay: the thing grown by a disc whose radius is excluded."""
    y, x = np.indices((2 * tolerance + 1,) * 2) - tolerance
    disc = y**2 + x**2 < tolerance**2
    grown = scipy.ndimage.binary_dilation(MASK, disc) if tolerance else MASK
    maps = np.eye(MASK.size, dtype=np.float32).reshape(MASK.size, *SIZE)
    found = jax.jit(functools.partial(pointing_game, tolerance=tolerance))(maps, np.broadcast_to(MASK, maps.shape))
    np.testing.assert_array_equal(np.asarray(found).reshape(SIZE), grown)


def test_a_tolerance_below_0_is_refused():
    with pytest.raises(ValueError, match="tolerance must not be below 0"):
        pointing_game(*jax.device_put((np.ones((2, 2)), np.ones((2, 2), bool))), tolerance=-1)


def evaluator(maps, masks, ignored):
    """PxAP as wsolevaluation's `MaskEvaluator` has it, in [0, 1]."""
    thresholds = np.arange(0, 1, 0.001)
    edges = np.append(thresholds, [1.0, 2.0, 3.0])
    true, false = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for one, mask, ignore in zip(maps, masks, ignored, strict=True):
        spread = one.max() - one.min()
        scaled = np.zeros_like(one) if spread == 0 else (one - one.min()) / spread
        true += np.histogram(scaled[mask & ~ignore], edges)[0]
        false += np.histogram(scaled[~mask & ~ignore], edges)[0]
    tp, fp = true[::-1].cumsum(), false[::-1].cumsum()
    some = (tp + fp) != 0
    precision = tp / np.maximum(tp + fp, 1)
    return ((precision[1:] * np.diff(tp / tp[-1]))[some[1:]]).sum()


def test_pxap_is_the_evaluators_and_adds_up():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(6, 20, 24)).astype(np.float32)
    maps[1] = np.maximum(maps[1], 0)
    maps[2] = 4
    masks, ignored = rng.random((2, 6, 20, 24)) < 0.3
    masks[0] = maps[0] > 0.5

    @jax.jit
    def precisions(*arrays):
        counts = pixel_counts(*arrays)
        return pixel_precision(PixelCounts(*(each.sum(0) for each in counts))), pixel_precision(counts)

    total, parts = precisions(maps, masks, ignored)
    np.testing.assert_allclose(total, evaluator(maps, masks, ignored), rtol=2e-4)
    for one, found in enumerate(np.asarray(parts)):
        expected = evaluator(maps[one : one + 1], masks[one : one + 1], ignored[one : one + 1])
        np.testing.assert_allclose(found, expected, rtol=1e-3)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 3), st.integers(0, 100))
def test_a_grid_of_uniform_maps_is_chance(n, seed):
    pictures = np.random.default_rng(seed).integers(0, 255, (2 * n * n, 4, 6, 3), np.uint8)
    joined = collages(pictures, n)
    assert joined.shape == (2, 4 * n, 6 * n, 3)
    where = cells(n, joined.shape[1:3])
    for b in range(2):
        for cell in range(n * n):
            np.testing.assert_array_equal(joined[b][where[cell]].reshape(4, 6, 3), pictures[b * n * n + cell])
    right = where[None].astype(np.float32)
    np.testing.assert_allclose(GRID(np.ones_like(right), n), 1 / n**2, rtol=1e-5)
    np.testing.assert_allclose(GRID(right - 3 * (1 - right), n), 1)
    np.testing.assert_allclose(GRID(-right, n), 0)


def test_a_grid_needs_its_pictures_and_maps():
    with pytest.raises(ValueError, match="5 pictures are no collages of 2 x 2"):
        collages(np.zeros((5, 2, 2, 3), np.uint8), 2)
    with pytest.raises(ValueError, match="6 pictures are no collages of 2 x 2"):
        collages(np.zeros((6, 2, 2, 3), np.uint8), 2)
    with pytest.raises(ValueError, match="4 pictures are no collages of 0 x 0"):
        collages(np.zeros((4, 2, 2, 3), np.uint8), 0)
    with pytest.raises(ValueError, match="3 maps are not one for each picture of 2 x 2"):
        grid_pointing_game(jax.device_put(np.ones((1, 3, 4, 4))), 2)
