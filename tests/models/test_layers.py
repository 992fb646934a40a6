"""The layers against PyTorch, where PyTorch's rule is not the obvious one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from references import relative_error, to_nhwc, to_torch

from camjax.models import layers
from camjax.models.registry import ARCHITECTURES, FAMILIES


def slices(x):
    return layers.max_pool(x, 3, stride=2)


def windows(x):
    """What other platforms compute; a CPU can, too."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return layers._max_of_windows(padded, size=3, stride=2)


@functools.partial(jax.jit, static_argnums=0)
def with_gradient(pool, x, weights):
    """What is pooled, and the gradient of its sum by those weights."""
    pooled, pullback = jax.vjp(pool, x)
    return pooled, pullback(weights)[0]


def tied(shape, seed=0):
    """Few values, most of them negative: nearly every window has ties, and a border of zeros would win."""
    return np.random.default_rng(seed).integers(-3, 1, shape).astype(np.float32)


def torch_pool(x, weights, size=3, stride=2):
    inputs = to_torch(x).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(inputs, size, stride, padding=(size - 1) // 2)
    (gradient,) = torch.autograd.grad(pooled, inputs, to_torch(weights))
    return to_nhwc(pooled), to_nhwc(gradient)


@functools.cache
def _weights(shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("pool", [slices, windows])
@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 7, 11, 3), (1, 12, 5, 4), (1, 1, 2, 2)])
@pytest.mark.parametrize("kind", ["ties", "all the same", "negative"])
def test_max_pooling_and_its_gradient_are_pytorchs(pool, shape, kind):
    x = {"ties": tied(shape), "all the same": np.full(shape, -1, np.float32), "negative": -abs(_weights(shape))}[kind]
    expected, _ = torch_pool(x, np.zeros((shape[0], -(-shape[1] // 2), -(-shape[2] // 2), shape[3]), np.float32))
    weights = _weights(expected.shape)
    pooled, gradient = with_gradient(pool, x, weights)
    np.testing.assert_array_equal(pooled, expected)
    assert relative_error(gradient, torch_pool(x, weights)[1]) < 1e-6


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 1), (5, 3)])
def test_other_windows_and_strides(size, stride):
    x = tied((2, 11, 14, 3))
    pool = functools.partial(layers.max_pool, size=size, stride=stride)
    weights = _weights(jax.eval_shape(pool, x).shape)
    pooled, gradient = with_gradient(pool, x, weights)
    expected, expected_gradient = torch_pool(x, weights, size, stride)
    np.testing.assert_array_equal(pooled, expected)
    assert relative_error(gradient, expected_gradient) < 1e-6


@pytest.mark.parametrize("edges", ["whole", "ceil"])
@pytest.mark.parametrize("shape", [(1, 11, 14, 3), (1, 12, 9, 3), (1, 2, 3, 3)])
def test_pooling_without_a_border(edges, shape):
    if edges == "whole":
        shape = (shape[0], max(shape[1], 3), *shape[2:])  # only "ceil" has a window that is larger than the picture
    x = tied(shape)
    inputs = to_torch(x).requires_grad_()
    expected = torch.nn.functional.max_pool2d(inputs, 3, 2, ceil_mode=edges == "ceil")
    weights = _weights(to_nhwc(expected).shape)
    (expected_gradient,) = torch.autograd.grad(expected, inputs, to_torch(weights))
    pooled, gradient = with_gradient(functools.partial(layers.max_pool, size=3, stride=2, edges=edges), x, weights)
    np.testing.assert_array_equal(pooled, to_nhwc(expected))
    assert relative_error(gradient, to_nhwc(expected_gradient)) < 1e-6


def test_nan_comes_through_with_its_gradient():
    x = tied((1, 9, 9, 2))
    x[0, 4, 3:6] = np.nan
    weights = _weights((1, 5, 5, 2))
    expected, expected_gradient = torch_pool(x, weights)
    pooled, gradient = with_gradient(slices, x, weights)
    np.testing.assert_array_equal(pooled, expected)
    assert np.isnan(expected).any()
    assert relative_error(gradient, expected_gradient) < 1e-6


@pytest.mark.parametrize("pool", [slices, windows])
def test_max_pooling_is_differentiated_forwards_and_twice(pool):
    x, weights, direction = tied((2, 7, 8, 3)), _weights((2, 4, 4, 3)), _weights((2, 7, 8, 3))

    @jax.jit
    def derivatives(x, weights, direction):
        _, forwards = jax.jvp(pool, (x,), (direction,))
        _, pullback = jax.vjp(pool, x)
        _, second = jax.jvp(jax.grad(lambda x: (pool(x) ** 2).sum() / 2), (x,), (direction,))
        each = jax.vmap(jax.grad(lambda x, w: (pool(x[None])[0] * w).sum()))(x, weights)
        return forwards, pullback(forwards)[0], second, each

    forwards, back, second, each = derivatives(x, weights, direction)
    _, expected = torch_pool(x, weights)
    np.testing.assert_allclose(np.vdot(forwards, weights), np.vdot(direction, expected), rtol=1e-5)
    # Pooling is a fixed choice of pixels, so the second derivative of half its square is that choice and back.
    assert relative_error(second, back) < 1e-6
    assert relative_error(each, expected) < 1e-6


def test_max_pooling_in_bfloat16():
    x = tied((1, 7, 8, 3)).astype(jnp.bfloat16)
    pooled, gradient = jax.jit(jax.value_and_grad(lambda x: slices(x).sum()))(x)
    assert pooled.dtype == gradient.dtype == jnp.bfloat16
    _, expected = torch_pool(tied((1, 7, 8, 3)), np.ones((1, 4, 4, 3), np.float32))
    np.testing.assert_array_equal(np.asarray(gradient, np.float32), expected)


FIRST = [next(name for name, one in ARCHITECTURES.items() if one.family.name == family) for family in FAMILIES]
OTHERS = [  # whose parameters are of other kinds than those of their family's first
    "deit_tiny_distilled_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "convnextv2_atto",
    "swinv2_tiny_window8_256",
]


@pytest.mark.parametrize("name", [*FIRST, *OTHERS])
def test_parameters_are_float32_in_x64_mode_too(name):
    architecture = ARCHITECTURES[name]
    with jax.enable_x64(True):
        classifier = jax.eval_shape(lambda: architecture.family.initialise(architecture.config).params)
    assert {leaf.dtype for leaf in jax.tree.leaves(classifier)} == {jnp.dtype(jnp.float32)}


def test_undrawn_parameters_are_float32_in_x64_mode_too():
    with jax.enable_x64(True):
        linear = jax.eval_shape(lambda: layers.Linear(2, 3, rngs=layers.Undrawn(0)).kernel[...])
    assert linear.dtype == np.float32
