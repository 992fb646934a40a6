"""Deep feature factorisation: what it finds again, how near it comes, and what does not matter to it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import relative_error

from camjax.methods.factorise import factorise
from camjax.methods.target import MethodError


@functools.cache
def compiled(concepts, steps=200):
    return jax.jit(functools.partial(factorise, concepts=concepts, steps=steps))


def activations(*shape, seed=0, rank=4, noise=0.3):
    """Nearly of a few concepts, many of them 0, as behind a ReLU."""
    rng = np.random.default_rng(seed)
    strengths = np.maximum(rng.normal(size=(*shape[:-1], rank)), 0)
    channels = rng.gamma(0.5, size=(rank, shape[-1]))
    return np.maximum(strengths @ channels + noise * rng.normal(size=shape), 0).astype(np.float32)


def product(factors):
    return jnp.einsum("bk...,bkc->b...c", factors.maps, factors.vectors, precision="highest")


def test_a_known_factorisation_is_found_again():
    rng = np.random.default_rng(1)
    # Every concept has a place and a channel of its own, so that there is no other factorisation.
    strengths = np.concatenate([np.diag([3.0, 2.0, 1.0]), rng.uniform(0, 1, (17, 3))])
    vectors = np.concatenate([np.eye(3), rng.uniform(0, 1, (3, 4))], 1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = compiled(3, 2000)(jnp.asarray((strengths @ vectors).reshape(1, 4, 5, 7), jnp.float32))
    assert found.error[0] < 1e-3
    order = np.argsort(-np.linalg.norm(strengths, axis=0))
    assert relative_error(found.vectors[0], vectors[order]) < 5e-3
    assert relative_error(found.maps[0].reshape(3, 20), strengths.T[order]) < 5e-3


def test_nothing_is_negative_and_the_strongest_comes_first():
    values = jnp.asarray(activations(2, 6, 8, 12))
    found = compiled(5)(values)
    assert found.maps.shape == (2, 5, 6, 8)
    assert found.vectors.shape == (2, 5, 12)
    assert found.maps.min() >= 0
    assert found.vectors.min() >= 0
    np.testing.assert_array_equal(found.lowest, 0)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=2), 1, rtol=1e-5)
    lengths = np.linalg.norm(found.maps, axis=(2, 3))
    assert (np.diff(lengths) <= 0).all()
    left = np.linalg.norm((values - product(found)).reshape(2, -1), axis=1)
    np.testing.assert_allclose(found.error, left / np.linalg.norm(values.reshape(2, -1), axis=1), rtol=1e-4)


@pytest.mark.parametrize(("concepts", "seed"), [(2, 0), (4, 1), (6, 2), (6, 3)])
def test_the_error_is_not_above_scikit_learns(concepts, seed):
    from sklearn.decomposition import NMF

    values = activations(1, 6, 8, 12, seed=seed)
    rows = values.reshape(48, 12)
    errors = []
    for start in range(5):
        model = NMF(concepts, init="random", random_state=start, tol=1e-5, max_iter=5000)
        errors.append(np.linalg.norm(rows - model.fit_transform(rows) @ model.components_) / np.linalg.norm(rows))
    assert compiled(concepts)(jnp.asarray(values)).error[0] <= 1.02 * min(errors)


def test_the_error_falls_with_every_sweep():
    values = jnp.asarray(activations(1, 6, 8, 12))
    errors = [float(compiled(5, steps)(values).error[0]) for steps in (0, 1, 3, 30)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]


def test_what_is_negative_is_lifted_in_each_picture_and_channel():
    values = activations(2, 6, 8, 12) - np.where(np.arange(12) < 3, 0.7, -0.2).astype(np.float32)
    found = compiled(5)(jnp.asarray(values))
    np.testing.assert_allclose(found.lowest, np.minimum(values.min((1, 2)), 0))
    assert (found.lowest[:, :3] < 0).all()
    assert (found.lowest[:, 3:] == 0).all()  # a channel above 0 stays as it is
    lifted = values - np.asarray(found.lowest)[:, None, None]
    assert relative_error(product(found), lifted) < 0.3


def test_batches_and_chance_do_not_matter_and_axes_are_any():
    values = jnp.asarray(activations(3, 6, 8, 12))
    found, again = compiled(5)(values), compiled(5)(values)
    jax.tree.map(np.testing.assert_array_equal, found, again)
    for row in range(3):
        alone = compiled(5)(values[row : row + 1])
        for one, all_ in zip(alone, found, strict=True):
            np.testing.assert_allclose(one[0], all_[row], rtol=1e-2, atol=1e-3 * np.abs(all_).max())
    for space in ((48,), (2, 4, 6)):
        reshaped = compiled(5)(values.reshape(3, *space, 12))
        assert reshaped.maps.shape == (3, 5, *space)
        np.testing.assert_allclose(reshaped.error, found.error, rtol=1e-4)
    together = compiled(5)(values[None])
    assert together.maps.shape == (1, 5, 3, 6, 8)
    assert together.error[0] > found.error.max()  # the same concepts for all pictures


def test_dtypes_and_sizes():
    values = activations(1, 6, 8, 12)
    expected = compiled(5)(jnp.asarray(values))
    rounded = jnp.asarray(values, jnp.bfloat16)
    found = compiled(5)(rounded)
    assert {leaf.dtype for leaf in found} == {np.dtype(np.float32)}
    for one, other in zip(found, compiled(5)(rounded.astype(jnp.float32)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert relative_error(found.maps, expected.maps) < 0.05
    for scale in (1e-25, 1e25):
        scaled = compiled(5)(jnp.asarray(scale * values, jnp.float32))
        assert relative_error(scaled.maps / np.float32(scale), expected.maps) < 1e-2
        np.testing.assert_allclose(scaled.error, expected.error, rtol=1e-3)
    with jax.enable_x64(True):
        found = jax.jit(functools.partial(factorise, concepts=5))(jnp.asarray(values, jnp.float64))
        assert {leaf.dtype for leaf in found} == {np.dtype(np.float64)}
        assert relative_error(found.maps, expected.maps) < 1e-2


def test_where_there_is_nothing_and_where_there_is_too_little():
    found = compiled(5)(jnp.zeros((1, 6, 8, 12)))
    for leaf in found:
        np.testing.assert_array_equal(leaf, 0)
    # One concept and four that are nowhere.
    values = jnp.asarray(activations(1, 6, 8, 12, rank=1, noise=0))
    found = compiled(5)(values)
    assert found.error[0] < 1e-4
    assert all(np.isfinite(leaf).all() for leaf in found)
    assert np.isnan(compiled(5)(values.at[0, 0, 0, 0].set(jnp.nan)).error[0])


@pytest.mark.parametrize(
    ("concepts", "words"),
    [
        (0, "positive whole number, not 0"),
        (True, "positive whole number, not True"),
        (2.5, r"positive whole number, not 2\.5"),
        (13, r"in 1\.\.12 at a layer of 48 places and 12 channels, not 13"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_a_wrong_number_of_concepts_is_named(concepts, words):
    with pytest.raises(MethodError, match=words):
        factorise(jnp.zeros((1, 6, 8, 12)), concepts)
