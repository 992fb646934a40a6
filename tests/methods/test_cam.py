"""`cam_fn`'s invariants, options, errors and transformations."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import random_head

from camjax.core.maps import INTERPOLATIONS, normalize_maps, upsample
from camjax.methods import cam
from camjax.methods.cam import cam_fn

SIDES = st.integers(1, 9)
resized = jax.jit(upsample, static_argnums=(1, 2))
normalized = jax.jit(normalize_maps)


def zeros(*shape, dtype=np.float32):
    return jax.device_put(np.zeros(shape, dtype))  # for which JAX compiles nothing


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 3), max_size=2), SIDES, SIDES, st.integers(1, 8), st.integers(1, 6), st.integers(0, 99))
def test_mean_of_raw_map_and_bias_is_the_logit(batch, height, width, channels, top_k, seed):
    features, kernel, bias = random_head(*batch, height, width, channels, num_classes=6, seed=seed)
    result = jax.tree.map(np.asarray, cam_fn(features, kernel, bias, top_k=top_k))
    means = result.maps.mean((-2, -1)) + np.asarray(bias)[result.classes]
    logits = np.take_along_axis(result.logits, result.classes, -1)
    # float32 sums of up to 81 x 8 products of order 1.
    np.testing.assert_allclose(means, logits, atol=2e-5)


def test_maps_and_probabilities_by_hand():
    features, kernel, bias = random_head(3, 4, 5, 6)
    result = cam_fn(features, kernel, bias, top_k=2)
    f, w, b = (np.asarray(array, np.float64) for array in (features, kernel, bias))
    logits = f.mean((1, 2)) @ w + b
    classes = np.argsort(-logits, axis=-1)[:, :2]
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_array_equal(result.classes, classes)
    np.testing.assert_allclose(result.logits, logits, rtol=1e-5, atol=1e-6)
    softmax = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(result.probabilities, np.take_along_axis(softmax, classes, -1), rtol=1e-5)
    every = np.einsum("bhwc,cn->bnhw", f, w)
    np.testing.assert_allclose(result.maps, every[np.arange(3)[:, None], classes], rtol=1e-4, atol=1e-5)


def test_only_the_wanted_columns_touch_the_pixels():
    features, kernel, bias = random_head(7, 7, 64, num_classes=1000)
    text = jax.jit(functools.partial(cam_fn, top_k=3)).lower(features, kernel, bias).as_text()
    assert "7x7x1000" not in text
    assert "1000x7x7" not in text
    assert "3x7x7" in text or "7x7x3" in text


def test_one_image_a_batch_and_two_batch_axes_agree():
    features, kernel, bias = random_head(2, 3, 5, 4, 6)
    call = functools.partial(cam_fn, top_k=4, size=(11, 8), normalize=True)
    whole = call(features, kernel, bias)
    images = np.asarray(features)
    by_vmap = jax.vmap(lambda image: call(image, kernel, bias))(jax.device_put(images.reshape(6, 5, 4, 6)))
    one = call(jax.device_put(images[1, 2]), kernel, bias)
    assert whole.maps.shape == (2, 3, 4, 11, 8)
    for all_, mapped, single in zip(jax.tree.map(np.asarray, whole), by_vmap, one, strict=True):
        np.testing.assert_allclose(all_.reshape(mapped.shape), mapped, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(all_[1, 2], single, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("classes", [[4, 0, 4], [[4, 0, 1], [12, 11, 10]]])
def test_given_classes_keep_their_order(classes):
    features, kernel, bias = random_head(2, 5, 4, 6)
    result = cam_fn(features, kernel, bias, classes=jax.device_put(np.asarray(classes)))
    wanted = np.broadcast_to(classes, (2, 3))
    every = jax.tree.map(np.asarray, cam_fn(features, kernel, bias, classes=np.arange(13)))
    np.testing.assert_array_equal(result.classes, wanted)
    np.testing.assert_allclose(result.maps, np.asarray(every.maps)[np.arange(2)[:, None], wanted], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(result.probabilities, np.take_along_axis(every.probabilities, wanted, -1), rtol=1e-6)


def test_classes_may_be_a_list():
    features, kernel, bias = random_head(2, 5, 4, 6)
    assert cam_fn(features, kernel, bias, classes=[3, 1]).classes.tolist() == [[3, 1], [3, 1]]


def test_equal_logits_come_in_the_order_of_their_classes():
    ones, bias = (np.ones(shape, np.float32) for shape in ((3, 3, 4), (4, 7))), np.float32([0, 1, 0, 1, 0, 1, 0])
    result = cam_fn(*jax.device_put((*ones, bias)), top_k=5)
    assert result.classes.tolist() == [1, 3, 5, 0, 2]


def test_an_empty_batch_and_all_classes():
    features, kernel, bias = random_head(0, 3, 4, 6)
    result = cam_fn(features, kernel, bias, top_k=13, size=8)
    assert [leaf.shape for leaf in result] == [(0, 13), (0, 13), (0, 13), (0, 13, 8, 8)]


def test_a_class_that_does_not_exist_is_nan_not_another_class():
    result = jax.tree.map(np.asarray, cam_fn(*random_head(5, 4, 6), classes=jax.device_put(np.asarray([3, 13]))))
    assert np.isfinite(result.maps[0]).all()
    assert np.isnan(result.maps[1]).all()
    assert np.isnan(result.probabilities[1])


def test_bias_is_optional():
    features, kernel, bias = random_head(5, 4, 6)
    without, logits = (np.asarray(cam_fn(features, kernel, *more).logits) for more in ((), (bias,)))
    np.testing.assert_allclose(without, logits - np.asarray(bias), rtol=1e-5, atol=1e-6)


def test_bfloat16_features_are_mapped_in_float32():
    features, kernel, bias = random_head(7, 7, 32)
    rounded = np.asarray(features).astype(jnp.bfloat16)
    result = cam_fn(jax.device_put(rounded), kernel, bias, size=(56, 40))
    exact = cam_fn(jax.device_put(rounded.astype(np.float32)), kernel, bias, size=(56, 40))
    assert result.maps.dtype == jnp.float32
    np.testing.assert_array_equal(result.maps, exact.maps)


def test_an_axis_that_keeps_its_size_is_left_as_it_is():
    maps = np.zeros((3, 3), np.float32)
    maps[1, 1] = np.inf
    maps = jax.device_put(maps)
    np.testing.assert_array_equal(upsample(maps, 3), maps)
    assert np.isfinite(np.asarray(upsample(maps, (3, 9)))[::2]).all()


def test_bfloat16_maps_are_resized_in_float32():
    maps = np.moveaxis(np.asarray(random_head(7, 7, 3)[0]).astype(jnp.bfloat16), -1, 0)
    found = resized(maps, (56, 40))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, resized(maps.astype(np.float32), (56, 40)))


@pytest.mark.parametrize("method", INTERPOLATIONS)
def test_every_method_keeps_a_constant_and_the_shape(method):
    found = resized(np.full((2, 3, 5), -1.75, np.float32), (13, 7), method)
    assert found.shape == (2, 13, 7)
    np.testing.assert_allclose(found, -1.75, rtol=1e-6)


@jax.jit
@jax.grad
def slopes_of_normalized(maps):
    return normalize_maps(maps).sum()


@pytest.mark.parametrize("value", [0.0, -3.0, 7.5])
def test_a_constant_map_normalises_to_zeros(value):
    constant = np.full((2, 4, 5), value, np.float32)
    assert not np.any(np.asarray(normalized(constant)))
    assert np.isfinite(slopes_of_normalized(constant)).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999), st.floats(1e-3, 1e3))
def test_normalised_maps_span_zero_to_one(seed, scale):
    maps = (np.random.default_rng(seed).normal(size=(3, 6, 5)) * scale).astype(np.float32)
    normal = np.asarray(normalized(maps))
    np.testing.assert_allclose(normal.max((1, 2)), 1)
    np.testing.assert_allclose(normal.min((1, 2)), 0)
    assert (normal[maps < 0] == 0).all()


def test_normalisation_comes_after_the_resize():
    features, kernel, bias = random_head(4, 4, 3)
    result = cam_fn(features, kernel, bias, size=64, normalize=True)
    raw = cam_fn(features, kernel, bias, size=64)
    np.testing.assert_allclose(result.maps, normalized(raw.maps), atol=1e-6)
    np.testing.assert_allclose(np.asarray(result.maps).max((-2, -1)), 1)


@pytest.mark.parametrize(
    "options", [{}, {"size": (9, 13)}, {"size": 12, "normalize": True}, {"interpolation": "bilinear"}]
)
def test_gradients_are_finite_and_right(options):
    features, kernel, bias = random_head(3, 4, 5)
    step = 1e-2

    @jax.jit
    def program(features, kernel):
        def loss(features, kernel):
            result = cam_fn(features, kernel, bias, **options)
            weights = jax.random.normal(jax.random.key(1), result.maps.shape)
            return (result.maps * weights).sum() + result.probabilities[0]

        gradients = jax.grad(loss, argnums=(0, 1))(features, kernel)
        direction = jax.random.normal(jax.random.key(2), features.shape)
        ahead, behind = (loss(features + sign * step * direction, kernel) for sign in (1, -1))
        return gradients, jnp.vdot(gradients[0], direction), (ahead - behind) / (2 * step)

    gradients, along, slope = program(features, kernel)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    # A central difference in float32 with a step of 1e-2 holds two to three digits.
    np.testing.assert_allclose(along, slope, rtol=2e-2, atol=2e-2)


def test_no_recompilation_for_the_same_shapes():
    cam._cam.clear_cache()
    for seed in range(3):
        cam_fn(*random_head(2, 7, 7, 16, seed=seed), top_k=3, size=(28, 28))
        cam_fn(*random_head(2, 7, 7, 16, seed=seed), top_k=3, size=[28, 28])
    assert cam._cam._cache_size() == 1


@pytest.mark.parametrize("axes", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
@pytest.mark.parametrize("classes", [None, np.asarray([[1, 2]] * 8)])
def test_sharding_of_the_batch_passes_through(classes, axes):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axes,))
    spec = jax.sharding.PartitionSpec
    rows = jax.sharding.NamedSharding(mesh, spec("data"))
    everywhere = jax.sharding.NamedSharding(mesh, spec())
    features, kernel, bias = random_head(8, 7, 6, 5)
    placed = jax.device_put(features, rows), *jax.device_put((kernel, bias), everywhere)
    expected = cam_fn(features, kernel, bias, classes=classes, size=(14, 12))
    classes = None if classes is None else jax.device_put(classes, rows)
    result = cam_fn(*placed, classes=classes, size=(14, 12))
    for ours, single in zip(result, expected, strict=True):
        assert ours.sharding.is_equivalent_to(rows, ours.ndim)
        np.testing.assert_allclose(ours, single, rtol=1e-6, atol=1e-6)
    text = jax.jit(functools.partial(cam_fn, classes=classes, size=(14, 12))).lower(*placed).compile().as_text()
    assert "all-gather" not in text
    assert "all-reduce" not in text


def test_features_that_are_sharded_by_channel_have_results_that_are_sharded_by_image():
    explicit = (jax.sharding.AxisType.Explicit,) * 2
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=explicit)
    features, kernel, bias = random_head(2, 3, 2, 4)
    spec = jax.sharding.PartitionSpec("data", None, None, "model")
    result = cam_fn(jax.device_put(features, jax.sharding.NamedSharding(mesh, spec)), kernel, bias, classes=[1, 2])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    for ours, single in zip(result, cam_fn(features, kernel, bias, classes=[1, 2]), strict=True):
        assert ours.sharding.is_equivalent_to(rows, ours.ndim)
        np.testing.assert_allclose(ours, single, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": zeros(4, 6)}, ["(..., h, w, c)", "(4, 6)"]),
        ({"features": zeros(3, 4, 7)}, ["(3, 4, 7)", "channels", "(6, 13)"]),
        ({"kernel": zeros(6)}, ["(c, n)", "(6,)"]),
        ({"bias": zeros(12)}, ["(13,)", "(12,)"]),
        ({"top_k": 14}, ["1..13", "14"]),
        ({"top_k": 0}, ["1..13", "0"]),
        ({"top_k": True}, ["1..13", "True"]),
        ({"size": "foo"}, ["size", "'foo'"]),
        ({"size": True}, ["size", "True"]),
        ({"size": (0, 5)}, ["0 x 5"]),
        ({"size": 8, "interpolation": "lanczos3"}, ["lanczos3", "bilinear"]),
        ({"classes": zeros(3)}, ["integers", "float32"]),
        ({"classes": zeros(4, 3, dtype=int), "features": zeros(2, 3, 4, 6)}, ["(4, 3)", "(2, 3, 4, 6)"]),
    ],
)
def test_wrong_arguments_name_their_shapes(change, words):
    features, kernel, bias = random_head(3, 4, 6)
    arguments = {"features": features, "kernel": kernel, "bias": bias, **change}
    with pytest.raises(ValueError, match=".*".join(re.escape(word) for word in words)):
        cam_fn(arguments.pop("features"), arguments.pop("kernel"), arguments.pop("bias"), **arguments)


@pytest.mark.parametrize(
    "wanted", [[-1], [-13], [13], [2**32 + 3], np.asarray([2**40]), jax.device_put(np.asarray([-2]))]
)
def test_numbers_that_would_wrap_round_are_no_classes(wanted):
    features, kernel, bias = random_head(3, 4, 6)
    result = cam_fn(features, kernel, bias, classes=wanted)
    assert np.isnan(result.maps).all()
    assert np.isnan(result.probabilities).all()


def test_nan_maps_stay_nan_when_normalised():
    maps = np.float32([[[1, np.nan], [0, 2]], [[1, 1], [1, 1]], [[0, 2], [1, -1]]])
    maps = np.asarray(normalize_maps(jax.device_put(maps)))
    assert np.isnan(maps[0]).all()
    np.testing.assert_array_equal(maps[1], np.zeros((2, 2)))
    np.testing.assert_array_equal(maps[2], [[0, 1], [0.5, 0]])


def test_bicubic_overshoots_by_up_to_45_per_cent_in_two_dimensions():
    worst = np.zeros((8, 8), np.float32)
    worst[2:6, 2:6] = [[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]
    most = float(resized(worst, 241).max()) - 1
    assert most == pytest.approx(57 / 128, rel=1e-5)
    assert f"up to {most:.0%} of it".replace("%", " %") in upsample.__doc__
    weights = np.asarray(resized(np.eye(8, dtype=np.float32), (8, 241)))
    ones, minus_ones = weights.clip(min=0).sum(0), weights.clip(max=0).sum(0)  # no map of zeros and ones gives more
    assert (np.outer(ones, ones) + np.outer(minus_ones, minus_ones)).max() - 1 < most + 1e-5
