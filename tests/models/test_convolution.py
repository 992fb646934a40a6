"""Every way to compute a convolution against PyTorch's in float64.

Tolerance: 1e-6 relative where sums only run in another order. Winograd's F(4x4, 3x3) multiplies by up to 8 on its way
and shows 1e-6 to 3e-6; 1e-5 is asked.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from compare import images, relative_error
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from camjax.models.conv_shape import Shape
from camjax.models.convolution import WAYS, algorithms, choose, merge_groups, merged_groups
from camjax.models.layers import symmetric


def pixels(batch, height, width, channels, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, height, width, channels)).astype(np.float32)


def random_kernel(shape, seed=1):
    size = (*shape.window, shape.inputs // shape.groups, shape.outputs)
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def expected(x, kernel, shape):
    """PyTorch's convolution in float64, on input padded by hand."""
    (top, bottom), (left, right) = shape.pads(jax.device_put(x))
    nchw = torch.from_numpy(np.moveaxis(x, -1, 1).astype(np.float64))
    padded = torch.nn.functional.pad(nchw, (left, right, top, bottom))
    weight = torch.from_numpy(np.transpose(kernel, (3, 2, 0, 1)).astype(np.float64))
    y = torch.nn.functional.conv2d(padded, weight, stride=shape.stride, groups=shape.groups)
    return np.moveaxis(y.numpy(), 1, -1)


@functools.partial(jax.jit, static_argnums=(0, 3))
def compute(algorithm, x, kernel, shape):
    way = WAYS[algorithm]
    return way.compute(x, way.kernel(kernel, shape), shape)


@functools.partial(jax.jit, static_argnums=(0, 3))
def gradients(algorithm, x, kernel, shape):
    return jax.grad(lambda *arrays: (compute(algorithm, *arrays, shape) ** 2).sum(), argnums=(0, 1))(x, kernel)


merge = jax.jit(merge_groups, static_argnums=(1, 2))


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 3), st.integers(3, 17), st.integers(3, 17)),
    st.sampled_from([1, 2, 3]),
    st.sampled_from(["SAME", "symmetric"]),
    st.sampled_from(
        [
            ("direct", 1, 1),
            ("direct", 5, 2),
            ("direct", (3, 1), 1),
            ("shifted", 3, 4),
            ("shifted", (1, 3), 4),
            ("shifted", 5, 4),
            ("cudnn", 1, 1),
            ("cudnn", 5, 2),
            ("cudnn", (3, 1), 1),
        ]
    ),
)
def test_equals_pytorch_for_odd_sizes_strides_and_groups(size, stride, padding, case):
    algorithm, side, groups = case
    outputs = 4 if algorithm == "shifted" else 6
    shape = Shape(side, stride, padding if padding == "SAME" else symmetric(side), groups, 4, outputs)
    x, kernel = pixels(*size, 4), random_kernel(shape)
    assert relative_error(compute(algorithm, x, kernel, shape), expected(x, kernel, shape)) < 1e-6


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 17), st.integers(1, 17)),
    st.integers(1, 9),
    st.sampled_from(["SAME", symmetric(3), ((0, 2), (1, 0)), ((2, 2), (2, 2))]),
)
def test_winograd_equals_pytorch(size, channels, padding):
    shape = Shape(3, 1, padding, 1, channels, 5)
    x, kernel = pixels(*size, channels), random_kernel(shape)
    assume(all(side + sum(pad) >= 3 for side, pad in zip(size[1:], shape.pads(jax.device_put(x)), strict=True)))
    assert relative_error(compute("winograd", x, kernel, shape), expected(x, kernel, shape)) < 1e-5


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 3), st.integers(7, 20), st.integers(7, 20)),
    st.sampled_from([2, 3, 4]),
    st.sampled_from(
        [(7, "symmetric"), (3, "symmetric"), ((2, 5), "symmetric"), (4, ((0, 0), (0, 0))), (3, ((0, 1), (2, 0)))]
    ),
)
def test_blocks_equal_pytorch(size, stride, case):
    side, padding = case
    shape = Shape(side, stride, symmetric(side) if padding == "symmetric" else padding, 1, 3, 5)
    x, kernel = pixels(*size, 3), random_kernel(shape)
    assert relative_error(compute("blocks", x, kernel, shape), expected(x, kernel, shape)) < 1e-6


@pytest.mark.parametrize(("dtype", "channels"), [(jnp.float32, 12), (jnp.bfloat16, 16)])
def test_blocks_have_channels_for_tensor_cores(dtype, channels):
    shape = Shape(7, 2, symmetric(7), 1, 3, 5)
    kernel = jax.eval_shape(lambda kernel: WAYS["blocks"].kernel(kernel, shape), random_kernel(shape).astype(dtype))
    assert (kernel.shape, kernel.dtype) == ((5, 4, 4, channels), dtype)


@pytest.mark.parametrize("algorithm", sorted(WAYS))
def test_gradients_are_those_of_the_direct_convolution(algorithm):
    shape = Shape(3, 2 if algorithm == "blocks" else 1, symmetric(3), 4 if algorithm == "shifted" else 1, 4, 4)
    x, kernel = pixels(2, 7, 6, 4), random_kernel(shape)
    ours, theirs = (gradients(way, x, kernel, shape) for way in (algorithm, "direct"))
    for one, other in zip(ours, theirs, strict=True):
        assert relative_error(one, other) < 1e-5


@pytest.mark.parametrize(
    ("shape", "tiles", "dtype", "platform", "algorithm"),
    [
        (Shape(3, 1, "SAME", 1, 64, 64), 196, jnp.float32, "cpu", "winograd"),
        (Shape(3, 1, "SAME", 1, 512, 512), 32, jnp.float32, "cpu", "winograd"),
        (Shape(3, 1, "SAME", 1, 512, 512), 4, jnp.float32, "cpu", "direct"),
        (Shape(3, 1, "SAME", 1, 64, 64), 196, jnp.bfloat16, "cpu", "direct"),
        (Shape(3, 2, "SAME", 1, 64, 64), 196, jnp.float32, "cpu", "direct"),
        (Shape(1, 2, "SAME", 1, 64, 64), 196, jnp.float32, "cpu", "direct"),
        (Shape(5, 2, "SAME", 96, 96, 96), 196, jnp.float32, "cpu", "shifted"),
        (Shape(3, 1, "SAME", 32, 128, 128), 196, jnp.float32, "cpu", "direct"),
        (Shape(7, 2, "SAME", 1, 3, 64), 196, jnp.float32, "cpu", "direct"),
        (Shape((1, 3), 1, "SAME", 1, 64, 64), 196, jnp.float32, "cpu", "direct"),
        (Shape(3, 1, "SAME", 1, 64, 64), 196, jnp.float32, "gpu", "cudnn"),
        (Shape(1, 2, "SAME", 1, 64, 64), 196, jnp.float32, "gpu", "cudnn"),
        (Shape(5, 2, symmetric(5), 96, 96, 96), 196, jnp.bfloat16, "gpu", "cudnn"),
        (Shape(7, 2, symmetric(7), 1, 3, 64), 196, jnp.bfloat16, "gpu", "blocks"),
        (Shape(7, 2, "SAME", 1, 3, 64), 196, jnp.bfloat16, "gpu", "cudnn"),  # its padding depends on the size
        (Shape(3, 1, symmetric(3), 1, 3, 64), 196, jnp.bfloat16, "gpu", "cudnn"),
        (Shape(5, 2, "SAME", 96, 96, 96), 196, jnp.float32, "tpu", "direct"),
    ],
)
def test_choice(shape, tiles, dtype, platform, algorithm):
    assert choose(shape, tiles, dtype, platform) == algorithm
    assert algorithm in algorithms(shape, dtype, platform)


@pytest.mark.parametrize(
    ("size", "shape", "tiles"),
    [
        ((2, 8, 9), Shape(3, 1, symmetric(3), 1, 4, 4), 2 * 2 * 3),
        ((1, 8, 9), Shape(3, 1, ((0, 0), (0, 0)), 1, 4, 4), 1 * 2 * 2),
        ((3, 9, 8), Shape(3, 2, "SAME", 1, 4, 4), 3 * 2 * 1),
    ],
)
def test_tiles_of_four_by_four_outputs(size, shape, tiles):
    assert shape.tiles(jax.device_put(pixels(*size, 4))) == tiles


def test_winograd_keeps_its_precision_where_values_are_large():
    shape = Shape(3, 1, symmetric(3), 1, 3, 8)
    x, kernel = 1e4 * images(1, 56, 56) + 1e4, random_kernel(shape)
    assert relative_error(compute("winograd", x, kernel, shape), expected(x, kernel, shape)) < 1e-5


@pytest.mark.parametrize(
    ("platform", "inputs", "groups", "fewer"),
    [
        ("cpu", 128, 32, 4),  # of ResNeXt: 4 channels each, then 32
        ("cpu", 1024, 32, 32),
        ("cpu", 48, 2, 2),  # of RegNetY: 24 channels each, and 48 would be too many
        ("cpu", 120, 30, 5),
        ("cpu", 112, 7, 7),  # 16 channels each, and 7 groups can only be joined to one
        ("cpu", 64, 64, 64),  # depthwise is another way
        ("cpu", 64, 1, 1),
        ("gpu", 128, 32, 32),
    ],
)
def test_groups_of_few_channels_are_merged_on_a_cpu(platform, inputs, groups, fewer):
    assert merged_groups(Shape(3, 1, "SAME", groups, inputs, 2 * inputs), platform) == fewer


@pytest.mark.parametrize("stride", [1, 2])
def test_merged_groups_compute_the_same(stride):
    shape = Shape(3, stride, "SAME", 6, 12, 18)
    x, kernel = pixels(2, 7, 9, 12), random_kernel(shape)
    for fewer in (1, 2, 3, 6):
        merged = merge(kernel, 6, fewer)
        assert merged.shape == (3, 3, 12 // fewer, 18)
        assert np.count_nonzero(merged) == kernel.size
        found = compute("direct", x, merged, dataclasses.replace(shape, groups=fewer))
        assert relative_error(found, expected(x, kernel, shape)) < 1e-6


@pytest.mark.parametrize("algorithm", ["direct", "cudnn"])
def test_a_kernel_as_large_as_the_features_is_a_product_also_backwards(algorithm):
    shape = Shape((3, 5), 1, ((0, 0), (0, 0)), 1, 4, 6)
    x, kernel = pixels(2, 3, 5, 4), random_kernel(shape)

    def squares(x, kernel):
        y = WAYS[algorithm].compute(x, WAYS[algorithm].kernel(kernel, shape), shape)
        return (y**2).sum(), y

    program = jax.jit(jax.grad(squares, argnums=(0, 1), has_aux=True)).lower(x, kernel)
    assert "convolution" not in program.as_text()
    gradients, y = program.compile()(x, kernel)
    exact = expected(x, kernel, shape)
    assert relative_error(y, exact) < 1e-6
    by_hand = (
        np.einsum("bo,hwio->bhwi", 2 * exact[:, 0, 0], kernel.astype(np.float64)),
        np.einsum("bo,bhwi->hwio", 2 * exact[:, 0, 0], x.astype(np.float64)),
    )
    for ours, theirs in zip(gradients, by_hand, strict=True):
        assert relative_error(ours, theirs) < 1e-6
    padded = dataclasses.replace(shape, padding=((1, 0), (0, 0)))
    for other, at in [(pixels(2, 3, 6, 4), shape), (pixels(2, 4, 5, 4), shape), (x, padded)]:  # two places
        assert relative_error(compute(algorithm, other, kernel, at), expected(other, kernel, at)) < 1e-6


def test_blocks_of_no_pictures():
    shape = Shape(7, 2, symmetric(7), 1, 3, 5)
    assert compute("blocks", pixels(0, 20, 21, 3), random_kernel(shape), shape).shape == (0, 10, 11, 5)
