"""Guided backpropagation: the gradient by hand, through every wrapping, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camjax import LayerError
from camjax.core.relu import guided

RNG = np.random.default_rng(0)
INNER, OUTER, X = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 7), (7, 3), (6, 4)))

RELUS = {
    "relu": jax.nn.relu,
    "jitted": jax.jit(jax.nn.relu),
    "remat": jax.checkpoint(jax.nn.relu),
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum the other way": lambda x: jnp.maximum(0.0, x),
    "relu6": jax.nn.relu6,
}


def network(relu, x):
    return (jnp.sin(relu(x @ INNER)) @ OUTER).sum()


def by_hand(relu, x):
    before = x @ INNER
    most = 6 if relu is jax.nn.relu6 else np.inf
    back = np.cos(np.clip(before, 0, most)) * OUTER.sum(1)
    return np.where((before > 0) & (before < most), np.maximum(back, 0), 0) @ INNER.T


@pytest.mark.parametrize("name", RELUS)
def test_only_what_is_positive_goes_back(name):
    relu, x = RELUS[name], 3 * X  # some above 6
    function = guided(lambda x: network(relu, x))

    @jax.jit
    def program(x):
        plain, gradient = jax.value_and_grad(lambda x: network(relu, x))(x)
        return function(x), plain, gradient, jax.grad(function)(x), jax.vmap(jax.grad(function))(x)

    value, plain, plain_gradient, gradient, one_by_one = program(x)
    np.testing.assert_allclose(value, plain, rtol=1e-6)
    expected = by_hand(relu, x)
    assert np.abs(expected - plain_gradient).max() > 0.1
    for found in (gradient, one_by_one, jax.grad(function)(x)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_has_no_relu_or_hides_it_is_refused():
    with pytest.raises(LayerError, match="there is no ReLU here"):
        guided(jax.nn.gelu)(X)
    with pytest.raises(LayerError, match="there is no ReLU here"):
        guided(lambda x: jnp.maximum(x, 1))(X)
    with pytest.raises(LayerError, match="a ReLU stands inside 'scan'"):
        guided(lambda x: jax.lax.fori_loop(0, 2, lambda _, x: jax.nn.relu(x), x))(X)
    bounded = jax.custom_jvp(lambda x: jnp.maximum(x, 1))
    bounded.defjvps(lambda tangent, _, x: tangent * (x > 1))
    with pytest.raises(LayerError, match="there is no ReLU here"):
        guided(bounded)(X)
    doubled = jax.custom_jvp(lambda x: 2 * jax.nn.relu(x))
    doubled.defjvps(lambda tangent, _, x: 2 * tangent * (x > 0))
    with pytest.raises(LayerError, match="a ReLU stands inside 'custom_jvp_call'"):
        guided(doubled)(X)
