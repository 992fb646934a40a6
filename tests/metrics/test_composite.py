"""ADCC, ARCC, sensitivity-n, infidelity, robustness and sums: against NumPy and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from metrics.test_faithfulness import CLASSES, IMAGES, JAX_MAPS, MAPS, PIXELS, score

from camjax.metrics.adcc import adcc, arcc, coherency
from camjax.metrics.additivity import infidelity, sensitivity_n
from camjax.metrics.faithfulness import deletion, pixel_flipping
from camjax.metrics.masks import ranks
from camjax.metrics.robustness import max_sensitivity, randomisation, rank_correlation
from camjax.metrics.sums import mean, merged, standard_error, sums_of

SAMPLES = 12


def test_coherency_is_pearsons():
    rng = np.random.default_rng(2)
    again = MAPS + rng.normal(size=MAPS.shape).astype(np.float32)
    found = np.asarray(coherency(JAX_MAPS, jnp.asarray(again)))
    for b, k in np.ndindex(2, 2):
        expected = (np.corrcoef(MAPS[b, k].ravel(), again[b, k].ravel())[0, 1] + 1) / 2
        np.testing.assert_allclose(found[b, k], expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, 2], 0)  # constant
    assert np.isnan(found[:, 4]).all()
    np.testing.assert_allclose(coherency(1e30 * JAX_MAPS[:, :1], JAX_MAPS[:, :1]), 1, rtol=1e-5)


def test_harmonic_means_by_hand():
    parts = [
        jnp.asarray(values, jnp.float32)
        for values in ([0.5, 0.0, np.nan, 1.0], [0.75, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5, 0.0])
    ]
    np.testing.assert_allclose(adcc(*parts), [3 / (2 + 4 + 2), 0, np.nan, 1], rtol=1e-6)
    np.testing.assert_allclose(
        arcc(*parts[:2], jnp.asarray([0.125, 1, 1, 3.0])), [3 / (2 + 4 + 4), 0, np.nan, 1], rtol=1e-6
    )


def test_sensitivity_n_is_a_correlation_over_random_pixels():
    """Where the map is what each pixel adds to a linear score, it is 1."""
    judge = jax.jit(lambda score_weights, maps: sensitivity_n(
        lambda pixels: (pixels * score_weights).sum((1, 2, 3))[:, None], IMAGES, maps, jnp.zeros((2, 2), int), n=9,
        samples=SAMPLES, room=5,
    ))  # fmt: skip
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 8, 3)), jnp.float32)
    own = (IMAGES * weights).sum(-1)
    np.testing.assert_allclose(judge(weights, jnp.stack([own, -own], 1)), [[1, -1], [1, -1]], atol=1e-4)
    found = sensitivity_n(score, IMAGES, JAX_MAPS, CLASSES, n=9, samples=SAMPLES, seed=3, room=7)
    said, lost = [], []
    for sample in range(SAMPLES):
        field = jax.random.uniform(jax.random.fold_in(jax.random.key(3), sample), (1, 1, 6, 8), jnp.float32)
        chosen = np.asarray(ranks(field))[0, 0] < 9
        assert chosen.sum() == 9
        said.append(MAPS[0, 0][chosen].sum())
        lost.append((score(PIXELS[:1]) - score(PIXELS[:1] * ~chosen[None, ..., None]))[0, CLASSES[0, 0]])
    np.testing.assert_allclose(found[0, 0], scipy.stats.pearsonr(said, lost)[0], atol=1e-4)
    np.testing.assert_array_equal(found[:, 2], 0)  # a constant map's sums are all the same
    assert np.isnan(found[:, 4]).all()


@pytest.mark.parametrize(("n", "samples"), [(0, 5), (48, 5), (5, 1)])
def test_sensitivity_n_needs_some_pixels(n, samples):
    with pytest.raises(ValueError, match="n must lie between 0 and the 48 pixels"):
        sensitivity_n(score, IMAGES, JAX_MAPS, CLASSES, n=n, samples=samples)


@pytest.mark.parametrize("scaled", [True, False])
def test_infidelity_is_the_mean_square(scaled):
    found = infidelity(score, IMAGES, JAX_MAPS, CLASSES, samples=SAMPLES, scaled=scaled, noise=0.3, room=4)
    for k in (0, 1, 3):
        keys = [jax.random.fold_in(jax.random.key(0), sample) for sample in range(SAMPLES)]
        noise = np.stack([0.3 * jax.random.normal(key, PIXELS.shape[1:], jnp.float32) for key in keys])
        said = (noise.sum(-1) * MAPS[1, k]).sum((1, 2))
        lost = np.asarray(score(PIXELS[1:]) - score(PIXELS[1:] - noise))[:, CLASSES[1, k]]
        unit = (said * lost).mean() / (said**2).mean() if scaled else 1
        np.testing.assert_allclose(found[1, k], ((unit * said - lost) ** 2).mean(), rtol=1e-4)
    assert np.isnan(found[:, 4]).all()


def test_pixel_flipping_is_deletion_to_black():
    black = jnp.asarray(PIXELS.min((1, 2, 3), keepdims=True))
    ours = pixel_flipping(score, IMAGES, JAX_MAPS, CLASSES, steps=4)
    theirs = deletion(score, IMAGES, JAX_MAPS, CLASSES, steps=4, baseline=black)
    np.testing.assert_array_equal(ours.area, theirs.area)
    # Quantus's curve, a pixel with all its channels at a time: its area without a unit is the number of steps' times.
    flipped, order = PIXELS[:1].copy(), np.argsort(-MAPS[0, 0].ravel(), kind="stable")
    curve = [score(flipped)[0, CLASSES[0, 0]]]
    for some in order.reshape(4, 12):
        flipped.reshape(48, 3)[some] = PIXELS[0].min()
        curve.append(score(flipped)[0, CLASSES[0, 0]])
    np.testing.assert_allclose(4 * ours.area[0, 0], np.trapezoid(np.asarray(curve)), rtol=1e-5)


def test_max_sensitivity():
    """Of maps that are a picture's first channels: the noise's own norm, which a constant map does not see."""

    def explain(pixels):
        return jnp.stack([pixels[..., 0], 2 * pixels[..., 1], jnp.ones_like(pixels[..., 0]), 0 * pixels[..., 0]], 1)

    found = jax.jit(functools.partial(max_sensitivity, explain, samples=4, radius=0.5))(IMAGES)
    keys = [jax.random.fold_in(jax.random.key(0), sample) for sample in range(4)]
    noise = np.stack([jax.random.uniform(key, IMAGES.shape[1:], jnp.float32, -0.5, 0.5) for key in keys])
    for k in range(2):
        expected = np.linalg.norm(noise[..., k], axis=(1, 2)).max() / np.linalg.norm(PIXELS[..., k], axis=(1, 2))
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-4)
    np.testing.assert_array_equal(found[:, 2:], 0)
    with pytest.raises(ValueError, match="samples must be"):
        max_sensitivity(explain, IMAGES, samples=0)


def test_randomisation_cascades_or_goes_alone():
    rng = np.random.default_rng(5)
    params, others = (
        {"a": rng.normal(size=(6, 8)), "b": rng.normal(size=(6, 8)), "c": rng.normal(size=(6, 8))} for _ in "12"
    )
    params, others = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (params, others))

    def explain(params):
        return (params["a"] + params["b"] + params["c"])[None, None]

    steps = {"a": 0, "b": 1, "c": -1}
    calls = {
        cascading: jax.jit(lambda params, others, cascading=cascading: randomisation(
            explain, params, others, steps, cascading=cascading
        ))(params, others)
        for cascading in (True, False)
    }  # fmt: skip
    first = others["a"] + params["b"] + params["c"]
    for cascading, second in ((True, others["a"] + others["b"]), (False, params["a"] + others["b"])):
        for step, changed in enumerate((first, second + params["c"])):
            expected = scipy.stats.spearmanr(np.abs(explain(params)).ravel(), np.abs(changed).ravel()).statistic
            np.testing.assert_allclose(calls[cascading][step, 0, 0], expected, atol=1e-5)


def test_rank_correlation_with_ties():
    found = rank_correlation(jnp.abs(JAX_MAPS[:, :2]), jnp.asarray(MAPS[:, 1:3].round(1)))
    expected = scipy.stats.spearmanr(np.abs(MAPS[0, 0]).ravel(), MAPS[0, 1].round(1).ravel()).statistic
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, 1], 0)
    assert np.isnan(rank_correlation(JAX_MAPS[:, 4:], JAX_MAPS[:, :1])).all()


def test_sums_stream_and_shard():
    """(n, methods, layers, metrics), sharded over eight devices, in one go, or in parts: the same."""
    values = np.random.default_rng(0).random((16, 3, 2, 4)).astype(np.float32)
    values[3, 1] = np.nan
    whole = jax.jit(sums_of)(jnp.asarray(values))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = jax.jit(sums_of)(jax.device_put(jnp.asarray(values), rows))
    parts = [sums_of(jnp.asarray(values[start : start + 5])) for start in range(0, 16, 5)]
    for sums in (whole, sharded, functools.reduce(merged, parts)):
        np.testing.assert_allclose(mean(sums), np.nanmean(values, 0), rtol=1e-5)
        known = (~np.isnan(values)).sum(0)
        np.testing.assert_allclose(standard_error(sums), np.nanstd(values, 0, ddof=1) / np.sqrt(known), rtol=1e-3)
    nothing = sums_of(jnp.full((2, 1), jnp.nan))
    assert np.isnan(mean(nothing)).all()
    assert np.isnan(standard_error(sums_of(jnp.ones((1, 1))))).all()
