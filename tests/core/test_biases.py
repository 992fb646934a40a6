"""A network's biases, found in its program: each of them, and the sum that they complete."""

import jax
import jax.numpy as jnp
import numpy as np

from camjax.core.biases import biased

RNG = np.random.default_rng(0)
SHAPES = {"first": (4, 7), "shift": (7,), "mean": (7,), "second": (7, 3), "last": (3,)}
PARAMS = {name: jnp.asarray(RNG.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}
X = jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32)


def network(params, x):
    """Two biases that are added, one that is taken away, one in a jit, and sums of what depends on the input."""
    x = x @ params["first"] + params["shift"][None]
    x = x + jax.nn.relu(x - params["mean"][None])
    jax.debug.callback(lambda _: None, x)  # an operation without a result
    return jax.jit(lambda x: 1.5 + x @ params["second"] + params["last"][None])(x)


def test_every_bias_is_found_and_none_twice():
    found = biased(lambda x: network(PARAMS, x), X)
    expected = [PARAMS["shift"], -PARAMS["mean"], jnp.full(3, 1.5), PARAMS["last"]]
    assert len(found.biases) == 4
    for bias, known in zip(found.biases, expected, strict=True):
        np.testing.assert_array_equal(bias, jnp.broadcast_to(known[None], bias.shape))


def test_the_input_and_the_biases_make_the_whole_score():
    @jax.jit
    def parts(params, x):
        found = biased(lambda x: network(params, x), x)
        zeros = [jnp.zeros_like(bias) for bias in found.biases]
        outputs, backward = jax.vjp(found.run, x, zeros)
        slope, slopes = backward(jnp.ones_like(outputs))
        terms = [x * slope, *(bias * each for bias, each in zip(found.biases, slopes, strict=True))]
        return outputs.sum(), sum(term.sum() for term in terms), terms

    whole, together, terms = parts(PARAMS, X)
    np.testing.assert_allclose(together, whole, rtol=1e-5)
    np.testing.assert_allclose(whole, network(PARAMS, X).sum(), rtol=1e-5)
    assert all(np.abs(term).max() > 0.1 for term in terms)
