"""What a head reads of each token, from gradients: of every pooling by hand, exactly where its weights are exact."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camjax.methods.reading import reading_weights

PATCHES, WIDTH, CLASSES = 6, 5, 4
RNG = np.random.default_rng(0)
FIRST, SECOND = (RNG.normal(size=(WIDTH, CLASSES)).astype(np.float32) for _ in range(2))
QUERY = RNG.normal(size=WIDTH).astype(np.float32)
SHARES = np.float32([3, 1, 0, 1, 2, 1])


def attention_pooled(x):
    return jnp.einsum("bn,bnc->bc", jax.nn.softmax(x @ QUERY), x)


def ahead(number):
    """That token alone."""
    return np.eye(2 + PATCHES)[number]


def each(prefix, patches):
    """A part for each token of the prefix, and one for all patches together."""
    return np.r_[prefix, np.full(PATCHES, patches / PATCHES)]


# Heads of two tokens before six patches, and the parts by hand.
HEADS = {
    "class token": (lambda x: x[:, 0] @ FIRST, ahead(0)),
    "class token, a head that bends": (lambda x: jnp.tanh(x[:, 0] @ FIRST) @ FIRST.T @ SECOND, ahead(0)),
    "one patch": (lambda x: x[:, 4] @ FIRST, ahead(4)),
    "two tokens with a head each": (lambda x: (100 * x[:, 0] @ FIRST + x[:, 1] @ SECOND) / 2, each([0.5, 0.5], 0)),
    "two tokens with one head": (lambda x: (x[:, 0] + x[:, 1]) @ FIRST / 2, each([0.5, 0.5], 0)),
    "two tokens, one more than the other": (lambda x: (3 * x[:, 0] - x[:, 1]) @ FIRST, each([0.75, 0.25], 0)),
    "mean of the patches": (lambda x: x[:, 2:].mean(1) @ FIRST, each([0, 0], 1)),
    "mean of all tokens": (lambda x: x.mean(1) @ FIRST, np.full(8, 1 / 8)),
    "mean of patches and the class token": (lambda x: x[:, [0, *range(2, 8)]].mean(1) @ FIRST, each([1 / 7, 0], 6 / 7)),
    "class token beside the mean": (lambda x: x[:, 0] @ FIRST + 9 * x[:, 2:].mean(1) @ SECOND, each([0.5, 0], 0.5)),
    "two tokens beside the mean": (
        lambda x: x[:, 0] @ FIRST + x[:, 1] @ SECOND + x[:, 2:].mean(1) @ (FIRST * SECOND),
        each([1 / 3, 1 / 3], 1 / 3),
    ),
    "mean that is normalised": (lambda x: jax.nn.standardize(x[:, 2:].mean(1)) @ FIRST, each([0, 0], 1)),
    "patches by fixed shares": (lambda x: jnp.einsum("n,bnc->bc", SHARES, x[:, 2:]) @ FIRST, np.r_[0, 0, SHARES / 8]),
    "no token": (lambda x: 0 * x[:, 0] @ FIRST, np.zeros(8)),
}


def slopes_of(head, x):
    """Of a random sum of the scores."""
    mixture = np.random.default_rng(1).normal(size=CLASSES).astype(np.float32)
    return jax.grad(lambda x: (head(x) @ mixture).sum())(x)


@functools.cache
def parts(dtype):
    """Of every head, by one program."""
    x = np.random.default_rng(2).normal(size=(3, 8, WIDTH)).astype(np.float32)
    program = jax.jit(
        lambda x: {name: reading_weights(slopes_of(head, x).astype(dtype), 2) for name, (head, _) in HEADS.items()}
    )
    return jax.tree.map(np.asarray, program(x))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", HEADS)
def test_parts_are_those_by_hand(name, dtype):
    found, expected = parts(dtype)[name], HEADS[name][1]
    assert found.dtype == np.float32
    weighted = any(word in name for word in ("shares", "more"))
    for row in found:
        np.testing.assert_array_equal(row == 0, expected == 0)
        for value in set(expected):  # what is equal by hand is equal to the bit
            assert weighted or len(np.unique(row[expected == value])) == 1
        # bfloat16 rounds the gradients of a pool that weighs its tokens; all else is exact but for a sum's rounding.
        rtol = 4e-3 if weighted and dtype == jnp.bfloat16 else 3e-7
        np.testing.assert_allclose(row, expected, rtol=rtol, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_gradients_does_not_matter(scale):
    slopes = np.random.default_rng(3).normal(size=(2, 8, WIDTH)).astype(np.float32)
    expected = reading_weights(jnp.asarray(slopes), 2)
    np.testing.assert_allclose(reading_weights(jnp.asarray(slopes * np.float32(scale)), 2), expected, rtol=1e-5)


def test_a_pool_that_depends_on_what_stands_in_it_weighs_by_the_gradients_norm():
    x = np.random.default_rng(4).normal(size=(2, 8, WIDTH)).astype(np.float32)
    for head, read in (
        (lambda x: attention_pooled(x) @ FIRST, slice(0, 8)),
        (lambda x: attention_pooled(x[:, 2:]) @ FIRST, slice(2, 8)),
        (lambda x: x.max(1) @ FIRST, slice(0, 8)),
    ):
        slopes = slopes_of(head, x)
        norms = np.linalg.norm(np.asarray(slopes, np.float64), axis=-1)
        assert not norms[:, : read.start].any()
        np.testing.assert_allclose(reading_weights(slopes, 2), norms / norms.sum(1, keepdims=True), rtol=1e-5)


def test_classes_may_be_read_from_other_tokens():
    """As with a query for each class."""

    def score(x, number):
        weights = jax.nn.softmax(30 * x[:, 2:] @ FIRST[:, number])
        return jnp.einsum("bn,bnc->bc", weights, x[:, 2:]) @ SECOND[:, number]

    x = np.random.default_rng(5).normal(size=(1, 8, WIDTH)).astype(np.float32)
    slopes = jax.jit(lambda x: [jax.grad(lambda x, n=n: score(x, n).sum())(x) for n in range(CLASSES)])(x)
    for number in range(CLASSES):
        found = reading_weights(slopes[number], 2)
        assert int(found.argmax()) == 2 + int((x[0, 2:] @ FIRST[:, number]).argmax())


def test_without_tokens_before_the_patches_and_one_image_by_itself():
    slopes = np.random.default_rng(6).normal(size=(3, 6, WIDTH)).astype(np.float32)
    slopes[1] = 0.25
    slopes[2, 3] = np.nan
    found = np.asarray(reading_weights(jnp.asarray(slopes), 0))
    np.testing.assert_allclose(found[:2].sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[1], 1 / 6, rtol=1e-6)
    assert np.isnan(found[2]).all()
    mapped = jax.jit(jax.vmap(lambda slopes: reading_weights(slopes[None], 0)[0]))(slopes)
    np.testing.assert_allclose(mapped, found, rtol=1e-6)


def test_they_are_constants():
    slopes = np.random.default_rng(7).normal(size=(2, 8, WIDTH)).astype(np.float32)
    gradient = jax.grad(lambda slopes: (reading_weights(slopes, 2) ** 2).sum())(jnp.asarray(slopes))
    np.testing.assert_array_equal(gradient, 0)
