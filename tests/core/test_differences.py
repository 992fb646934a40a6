"""DeepLIFT's rescale rule: that nothing is left over, what its slopes are, and what it refuses."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camjax.core.differences import change_along
from camjax.errors import LayerError
from camjax.models.layers import max_pool

RNG = np.random.default_rng(0)


def drawn(*shape, scale=1.0):
    return jax.device_put(RNG.normal(scale=scale, size=shape).astype(np.float32))  # for which JAX compiles nothing


X = drawn(2, 8, 6, 4)
REFERENCE = drawn(2, 8, 6, 4, scale=0.3)
KERNEL = drawn(3, 3, 4, 4, scale=0.25)
SQUARE = drawn(4, 4)
BIAS = drawn(1, 1, 1, 4)


def convolved(x):
    return jax.lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + BIAS


def attention(x):
    tokens = x.reshape(2, 48, 4)
    weights = jax.nn.softmax(jnp.einsum("bic,bjc->bij", tokens @ SQUARE, tokens))
    return jnp.einsum("bij,bjc->bic", weights, tokens)


def normalised(x):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * BIAS


def squeezed(x):
    return x * jax.nn.sigmoid(jax.nn.relu(x.mean((1, 2), keepdims=True) @ SQUARE))


def nested(x):
    return jax.checkpoint(jax.jit(lambda x: jax.nn.relu(convolved(x))))(x)


FUNCTIONS = {
    "convolution": convolved,
    "relu": lambda x: jax.nn.relu(convolved(x)),
    "relu6": lambda x: jax.nn.relu6(4 * convolved(x)),
    "clip": lambda x: jnp.clip(convolved(x), -0.5, 0.5),
    "leaky": lambda x: jnp.maximum(convolved(x), 0.1 * convolved(x)),
    "abs": lambda x: jnp.abs(convolved(x)),
    "gelu": lambda x: jax.nn.gelu(convolved(x), approximate=False),
    "tanh gelu": lambda x: jax.nn.gelu(convolved(x)),
    "silu": lambda x: jax.nn.silu(convolved(x)),
    "hard swish": lambda x: jax.nn.hard_swish(convolved(x)),
    "max pool": lambda x: nn.max_pool(convolved(x), (3, 3), (2, 2), "SAME"),
    "mean pool": lambda x: (
        jax.lax.reduce_window(convolved(x), 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    ),
    "global max": lambda x: convolved(x).max((1, 2)),
    "global min": lambda x: convolved(x).min((1, 2)),
    "softmax": lambda x: jax.nn.softmax(3 * convolved(x)),
    "log softmax": lambda x: jax.nn.log_softmax(3 * convolved(x)),
    "attention": attention,
    "normalised": normalised,
    "squeezed": squeezed,
    "quotient": lambda x: 1 / (2 + x**2) + x / (1 + jnp.exp(x)),
    "pieces": lambda x: jnp.concatenate([jax.nn.relu(part) for part in jnp.split(convolved(x), 2, axis=-1)], -1),
    "unstacked": lambda x: jnp.multiply(*jnp.unstack(convolved(x).reshape(*x.shape[:3], 2, -1), axis=3)),
    "by platform": lambda x: max_pool(convolved(x), 3, stride=2),
    "constant on some platform": lambda x: jax.lax.platform_dependent(x, cpu=jnp.tanh, default=jnp.ones_like),
    "nested": nested,
    "constant": lambda x: jnp.ones((2, 3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_left_over(name):
    function = FUNCTIONS[name]

    @jax.jit
    def program(x, reference):
        change = change_along(function, x, reference)
        twice = change(2 * (x - reference))
        return change(x - reference), function(x) - function(reference), twice, jax.vjp(change, x)[1](twice)[0]

    found, expected, twice, back = program(X, REFERENCE)
    scale = 1e-5 * max(np.abs(expected).max(), 1)
    np.testing.assert_allclose(found, expected, atol=10 * scale)
    np.testing.assert_allclose(twice, 2 * found, rtol=1e-4, atol=scale)
    # The transpose: what is pulled back is as long along the change as what was pushed.
    np.testing.assert_allclose((back * (X - REFERENCE)).sum(), (twice * found).sum(), rtol=1e-3, atol=1e-4)


def slopes(function, x, reference):
    change = change_along(function, x, reference)
    return jax.vjp(change, x)[1](jnp.ones_like(function(x)))[0]


def test_slopes_are_those_of_the_line_through_both_values():
    x, reference = jnp.asarray([3.0, -1.0, 2.0, -2.0, 1.0]), jnp.asarray([-1.0, 3.0, 1.0, -1.0, 1.0])
    np.testing.assert_allclose(slopes(jax.nn.relu, x, reference), [3 / 4, 3 / 4, 1, 0, 1], rtol=1e-6)
    expected = (np.tanh(x) - np.tanh(reference))[:4] / (x - reference)[:4]
    np.testing.assert_allclose(slopes(jnp.tanh, x, reference)[:4], expected, rtol=1e-5)
    np.testing.assert_allclose(slopes(jnp.tanh, x, reference)[4], 1 - np.tanh(1) ** 2, rtol=1e-5)
    near = slopes(jnp.tanh, x, x + 1e-7)  # the difference of both values is rounding
    np.testing.assert_allclose(near, 1 - np.tanh(x) ** 2, rtol=1e-5, atol=1e-6)


def test_a_maximum_is_of_the_one_that_is_largest_where_it_is_larger():
    def largest(x):
        return x.max(-1)

    x, reference = jnp.asarray([[1.0, 5.0, 2.0], [1.0, 0.5, 0.0]]), jnp.asarray([[3.0, 1.0, 0.0], [3.0, 4.0, 0.0]])
    # From 3 to 5, and it is the second, which goes up by 4; from 4 to 1, and it was the second, which falls by 3.5.
    np.testing.assert_allclose(slopes(largest, x, reference), [[0, 2 / 4, 0], [0, 3 / 3.5, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: jnp.where(x > 0, x, 0), "'select_n' of a condition"),
        (jnp.sort, "operation 'sort'"),
        (lambda x: jax.lax.scan(lambda total, row: (total + row, None), x[0], x)[0], "operation 'scan'"),
    ],
)
def test_what_has_no_rule_is_named(function, words):
    with pytest.raises(LayerError, match=f"DeepLIFT has no rule for (the )?{words}"):
        change_along(function, X, REFERENCE)(X)
