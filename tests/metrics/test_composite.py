"""ADCC, ARCC, sensitivity-n, infidelity, robustness and sums: against NumPy and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from metrics.test_faithfulness import CLASSES, IMAGES, JAX_CLASSES, JAX_MAPS, MAPS, PIXELS, probabilities, score

from camjax.metrics.adcc import adcc, arcc, coherency
from camjax.metrics.additivity import infidelity, sensitivity_n
from camjax.metrics.faithfulness import deletion, pixel_flipping
from camjax.metrics.robustness import max_sensitivity, randomisation, rank_correlation
from camjax.metrics.sums import mean, merged, standard_error, sums_of

SAMPLES = 12
COHERENCY = jax.jit(coherency)


def drawn(draw, samples, seed=0):
    """What `draw(key)` gives for each sample, in one program."""
    all_of = jax.jit(jax.vmap(lambda sample: draw(jax.random.fold_in(jax.random.key(seed), sample))))
    return np.asarray(all_of(np.arange(samples)))


def test_coherency_is_pearsons():
    rng = np.random.default_rng(2)
    again = MAPS + rng.normal(size=MAPS.shape).astype(np.float32)
    found = np.asarray(COHERENCY(MAPS, again))
    for b, k in np.ndindex(2, 2):
        expected = (np.corrcoef(MAPS[b, k].ravel(), again[b, k].ravel())[0, 1] + 1) / 2
        np.testing.assert_allclose(found[b, k], expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, 2], 0)  # constant
    assert np.isnan(found[:, 4]).all()
    np.testing.assert_allclose(np.asarray(COHERENCY(1e30 * MAPS, MAPS))[:, :1], 1, rtol=1e-5)


def test_harmonic_means_by_hand():
    coherent, complexity, drop, road = np.asarray(
        [[0.5, 0.0, np.nan, 1.0], [0.75, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5, 0.0], [0.125, 1, 1, 3.0]], np.float32
    )
    np.testing.assert_allclose(jax.jit(adcc)(coherent, complexity, drop), [3 / (2 + 4 + 2), 0, np.nan, 1], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(arcc)(coherent, complexity, road), [3 / (2 + 4 + 4), 0, np.nan, 1], rtol=1e-6)


def test_sensitivity_n_is_a_correlation_over_random_pixels():
    """Where the map is what each pixel adds to a linear score, it is 1."""
    judge = jax.jit(lambda score_weights, maps: sensitivity_n(
        lambda pixels: (pixels * score_weights).sum((1, 2, 3))[:, None], IMAGES, maps, jnp.zeros((2, 2), int), n=9,
        samples=SAMPLES, room=5,
    ))  # fmt: skip
    weights = np.random.default_rng(0).normal(size=(1, 6, 8, 3)).astype(np.float32)
    own = (PIXELS * weights).sum(-1)
    np.testing.assert_allclose(judge(weights, np.stack([own, -own], 1)), [[1, -1], [1, -1]], atol=1e-4)
    judge = jax.jit(functools.partial(sensitivity_n, score, n=9, samples=SAMPLES, seed=3, room=7))
    found = np.asarray(judge(PIXELS, MAPS, CLASSES))
    said, lost = [], []
    for field in drawn(lambda key: jax.random.uniform(key, (6, 8), jnp.float32), SAMPLES, seed=3):
        chosen = field >= np.sort(field, None)[-9]
        assert chosen.sum() == 9
        said.append(MAPS[0, 0][chosen].sum())
        left = probabilities(PIXELS[:1] * ~chosen[None, ..., None])
        lost.append((probabilities(PIXELS[:1]) - left)[0, CLASSES[0, 0]])
    np.testing.assert_allclose(found[0, 0], scipy.stats.pearsonr(said, lost)[0], atol=1e-4)
    np.testing.assert_array_equal(found[:, 2], 0)  # a constant map's sums are all the same
    assert np.isnan(found[:, 4]).all()


@pytest.mark.parametrize("n", [1, 47])
def test_sensitivity_n_of_two_samples_is_a_sign(n):
    found = jax.jit(functools.partial(sensitivity_n, score, n=n, samples=2))(PIXELS, MAPS[:, :1], CLASSES[:, :1])
    np.testing.assert_allclose(np.abs(found), 1, rtol=1e-5)


@pytest.mark.parametrize(("n", "samples"), [(0, 5), (48, 5), (5, 1)])
def test_sensitivity_n_needs_some_pixels(n, samples):
    with pytest.raises(ValueError, match="n must lie between 0 and the 48 pixels"):
        sensitivity_n(score, IMAGES, JAX_MAPS, JAX_CLASSES, n=n, samples=samples)


@pytest.mark.parametrize("scaled", [True, False])
def test_infidelity_is_the_mean_square(scaled):
    judge = jax.jit(functools.partial(infidelity, score, samples=SAMPLES, scaled=scaled, noise=0.3, room=4))
    found = np.asarray(judge(PIXELS, MAPS, CLASSES))
    noise = np.float32(0.3) * drawn(lambda key: jax.random.normal(key, PIXELS.shape[1:], jnp.float32), SAMPLES)
    for k in (0, 1, 3):
        said = (noise.sum(-1) * MAPS[1, k]).sum((1, 2))
        lost = (probabilities(PIXELS[1:]) - probabilities(PIXELS[1:] - noise))[:, CLASSES[1, k]]
        unit = (said * lost).mean() / (said**2).mean() if scaled else 1
        np.testing.assert_allclose(found[1, k], ((unit * said - lost) ** 2).mean(), rtol=1e-4)
    assert np.isnan(found[:, 4]).all()


def test_infidelity_of_a_map_of_zeros_is_all_that_happens():
    both = jax.jit(lambda *arrays: [infidelity(score, *arrays, samples=5, scaled=scaled) for scaled in (True, False)])
    scaled, raw = both(PIXELS, np.zeros((2, 1, 6, 8), np.float32), CLASSES[:, :1])
    np.testing.assert_array_equal(scaled, raw)
    assert (np.asarray(raw) > 0).all()


def test_pixel_flipping_is_deletion_to_black():
    judge = jax.jit(
        lambda black, *arrays: (
            pixel_flipping(score, *arrays, steps=4),
            deletion(score, *arrays, steps=4, baseline=black),
        )
    )
    ours, theirs = jax.device_get(judge(PIXELS.min((1, 2, 3), keepdims=True), PIXELS, MAPS, CLASSES))
    np.testing.assert_array_equal(ours.area, theirs.area)
    # Quantus's curve, a pixel with all its channels at a time: its area without a unit is the number of steps' times.
    flipped, order = PIXELS[:1].copy(), np.argsort(-MAPS[0, 0].ravel(), kind="stable")
    curve = [probabilities(flipped)[0, CLASSES[0, 0]]]
    for some in order.reshape(4, 12):
        flipped.reshape(48, 3)[some] = PIXELS[0].min()
        curve.append(probabilities(flipped)[0, CLASSES[0, 0]])
    np.testing.assert_allclose(4 * ours.area[0, 0], np.trapezoid(curve), rtol=1e-5)


def test_max_sensitivity():
    """Of maps that are a picture's first channels: the noise's own norm, which a constant map does not see."""

    def explain(pixels):
        return jnp.stack([pixels[..., 0], 2 * pixels[..., 1], jnp.ones_like(pixels[..., 0]), 0 * pixels[..., 0]], 1)

    judge = jax.jit(functools.partial(max_sensitivity, explain, samples=4, radius=0.5))
    found = np.asarray(judge(PIXELS))
    noise = drawn(lambda key: jax.random.uniform(key, PIXELS.shape[1:], jnp.float32, -0.5, 0.5), 4)
    for k in range(2):
        expected = np.linalg.norm(noise[..., k], axis=(1, 2)).max() / np.linalg.norm(PIXELS[..., k], axis=(1, 2))
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-4)
    np.testing.assert_array_equal(found[:, 2:], 0)
    with pytest.raises(ValueError, match="samples must be"):
        max_sensitivity(explain, IMAGES, samples=0)


def test_randomisation_cascades_or_goes_alone():
    rng = np.random.default_rng(5)
    params, others = (dict(zip("abc", rng.normal(size=(3, 6, 8)).astype(np.float32), strict=True)) for _ in "12")

    def explain(params):
        return (params["a"] + params["b"] + params["c"])[None, None]

    steps = {"a": 0, "b": 1, "c": -1}
    calls = jax.device_get(jax.jit(lambda params, others: {
        cascading: randomisation(explain, params, others, steps, cascading=cascading) for cascading in (True, False)
    })(params, others))  # fmt: skip
    first = others["a"] + params["b"] + params["c"]
    for cascading, second in ((True, others["a"] + others["b"]), (False, params["a"] + others["b"])):
        for step, changed in enumerate((first, second + params["c"])):
            expected = scipy.stats.spearmanr(np.abs(explain(params)).ravel(), np.abs(changed).ravel()).statistic
            np.testing.assert_allclose(calls[cascading][step, 0, 0], expected, atol=1e-5)


def test_rank_correlation_with_ties():
    found = np.asarray(jax.jit(rank_correlation)(np.abs(MAPS[:, [0, 1, 4]]), MAPS[:, [1, 2, 0]].round(1)))
    expected = scipy.stats.spearmanr(np.abs(MAPS[0, 0]).ravel(), MAPS[0, 1].round(1).ravel()).statistic
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, 1], 0)
    assert np.isnan(found[:, 2]).all()  # of a map with a NaN


def test_sums_stream_and_shard():
    """(n, methods, layers, metrics), sharded over eight devices, in one go, or in parts: the same."""
    values = np.random.default_rng(0).random((16, 3, 2, 4)).astype(np.float32)
    values[3, 1] = np.nan
    whole = jax.jit(sums_of)(values)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = jax.jit(sums_of)(jax.device_put(values, rows))
    parts = jax.jit(lambda *parts: functools.reduce(merged, map(sums_of, parts)))(*np.split(values, [5, 10, 15]))
    both = jax.jit(lambda sums: (mean(sums), standard_error(sums)))
    for sums in (whole, sharded, parts):
        means, errors = both(sums)
        np.testing.assert_allclose(means, np.nanmean(values, 0), rtol=1e-5)
        known = (~np.isnan(values)).sum(0)
        np.testing.assert_allclose(errors, np.nanstd(values, 0, ddof=1) / np.sqrt(known), rtol=1e-5)
    nothing, one = (jax.jit(sums_of)(few) for few in (np.full((2, 1), np.nan, np.float32), np.ones((1, 1), np.float32)))
    assert np.isnan(both(nothing)[0]).all()
    assert np.isnan(both(one)[1]).all()


def test_the_spread_of_numbers_beside_a_large_mean_is_kept():
    """Float32 holds 1,000 to seven digits, and its square to as many; a part without a number changes nothing."""
    values = (1000 + np.random.default_rng(1).normal(scale=0.02, size=(30, 2))).astype(np.float32)
    values[10:20, 1] = np.nan
    error = jax.jit(lambda *parts: standard_error(functools.reduce(merged, map(sums_of, parts))))
    expected = [scipy.stats.sem(column.astype(np.float64), nan_policy="omit") for column in values.T]
    np.testing.assert_allclose(error(values), expected, rtol=1e-2)
    np.testing.assert_allclose(error(*np.split(values, [3, 10, 20])), expected, rtol=1e-2)
    assert error(np.full((9, 1), 0.3, np.float32)) < 1e-7
    np.testing.assert_allclose(error(np.asarray([[1], [3]], np.float32)), 1)
