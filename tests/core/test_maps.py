"""Resizing keeps constants and ties to the bit, and scaling tells rounding from a signal of any size."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_material import write_pictures
from compare import relative_error
from toys import toy_model, uint8_images

from camjax import make_explainer, normalize_maps, upsample
from camjax.core.maps import INTERPOLATIONS, is_flat, min_max_scaled, resize_space
from camjax.explain.boxes import picture_boxes
from camjax.explain.explanation import explain_pictures
from camjax.images.geometry import KINDS, Geometry, to_picture
from camjax.methods.condition import CONSTANT
from camjax.metrics.box_accuracy import as_bytes
from camjax.metrics.faithfulness import deletion, insertion

SMOOTH = [interpolation for interpolation in INTERPOLATIONS if interpolation != "nearest"]
SIZES = [((7, 7), (224, 224)), ((5, 7), (48, 31)), ((1, 1), (6, 9)), ((14, 9), (5, 9)), ((7, 7), (7, 224))]
PLATEAUS = np.kron(np.float32([[0.1, 7.3, 0.1], [7.3, 1e-3, 7.3]]), np.ones((8, 8), np.float32))


@functools.cache
def resized_constants(interpolation):
    """Of all sizes, by one program."""
    values = np.float32([7.3, 0.1, -0.3, 1e-20, 3e30]).reshape(-1, 1, 1)

    @jax.jit
    def program(values):
        return [upsample(jnp.broadcast_to(values, (5, *size)), to, interpolation) for size, to in SIZES]

    return values, program(values)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_constant_stays_constant_to_the_bit(interpolation):
    values, resized = resized_constants(interpolation)
    for maps, (_, size) in zip(resized, SIZES, strict=True):
        np.testing.assert_array_equal(maps, np.broadcast_to(values, (len(values), *size)))
    volume = jax.jit(resize_space, static_argnums=(1, 2))(
        np.full((2, 3, 4), 0.7, np.float32), (5, 9, 11), interpolation
    )
    assert np.unique(volume).tolist() == [np.float32(0.7)]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_ties_are_not_broken(interpolation):
    """Where all values that a pixel is made of are equal, it has that value, in whichever plateau it lies."""
    found = np.asarray(jax.jit(upsample, static_argnums=(1, 2))(PLATEAUS, (16 * 9, 24 * 7), interpolation))
    inner = np.kron(np.ones((2, 3), bool), np.pad(np.ones((2, 2), bool), 3))  # three from any edge
    inner = np.kron(inner, np.ones((9, 7), bool))
    np.testing.assert_array_equal(found[inner], np.kron(PLATEAUS, np.ones((9, 7), np.float32))[inner])


@pytest.mark.parametrize("interpolation", SMOOTH)
def test_the_weights_are_those_of_jax(interpolation):
    maps = np.random.default_rng(0).normal(size=(3, 7, 5)).astype(np.float32)
    for size in ((224, 96), (6, 4)):
        found = jax.jit(upsample, static_argnums=(1, 2))(maps, size, interpolation)
        expected = jax.image.resize(maps, (3, *size), interpolation, antialias=False)
        assert relative_error(found, expected) < 1e-6


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_resized_constant_normalises_to_zeros(interpolation):
    @jax.jit
    def program(maps):
        return [normalize_maps(upsample(maps, side, interpolation)) for side in (7, 10, 224, 300)]

    assert not any(map(np.any, program(jnp.full((1, 7, 7), 7.3))))


def ramp(offset, height, dtype=np.float32):
    return (offset + height * np.arange(12.0).reshape(1, 3, 4) / 11).astype(dtype)


@pytest.mark.parametrize(
    "maps",
    [
        ramp(0, 1e-20),
        ramp(1e-20, 1e-21),
        ramp(0, 1e30),
        ramp(1, 1e-4),
        ramp(-1, 1.001),
        ramp(1, 0.1, jnp.bfloat16),
        ramp(1, 0.01, np.float16),
    ],
)
def test_a_signal_of_any_size_is_scaled(maps):
    found = np.asarray(normalize_maps(jnp.asarray(maps)), np.float32)
    assert (found.min(), found.max()) == (0, 1)
    if maps.dtype == np.float32:
        positive = np.maximum(maps.astype(np.float64), 0)
        expected = (positive - positive.min()) / np.ptp(positive)
        np.testing.assert_allclose(found, expected, atol=1e-3)  # an offset leaves three digits of 1e-4


@pytest.mark.parametrize(
    "maps",
    [
        ramp(7.3, 1e-5),
        ramp(1e-20, 1e-26),
        ramp(3e38, 3e32),
        ramp(1, 0.007, jnp.bfloat16),
        ramp(1, 9e-4, np.float16),
        ramp(-3, 1e-6),
    ],
)
def test_rounding_is_no_signal(maps):
    assert np.ptp(maps.astype(np.float64)) > 0
    assert not np.any(np.asarray(normalize_maps(jnp.asarray(maps)), np.float32))


def test_float64_has_a_finer_tolerance():
    assert is_flat(np.float64(1), np.float64(1) + 2e-14)
    assert not is_flat(np.float64(1), np.float64(1) + 1e-6)
    assert is_flat(np.float32(1), np.float32(1) + np.float32(1e-5))
    assert not is_flat(np.float32(1), np.float32(1) + np.float32(1.4e-5))
    assert not is_flat(np.float32(-3e38), np.float32(3e38))
    with np.errstate(invalid="ignore"):
        assert not any(is_flat(np.float32(low), np.float32(high)) for low, high in ((0, np.inf), (np.nan, 1)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_has_no_scale_and_its_neighbour_does(bad):
    maps = np.stack([ramp(1, 1)[0]] * 2)
    maps[0, 1, 2] = bad
    for found in (normalize_maps(jnp.asarray(maps)), min_max_scaled(jnp.asarray(maps), (1, 2))):
        assert np.isnan(found[0]).all()
        np.testing.assert_allclose(found[1], ramp(0, 1)[0], atol=1e-6)


def with_zero_head(bias):
    model = toy_model()
    params = {**model.params, "kernel": 0 * model.params["kernel"], "bias": 0 * model.params["bias"] + np.float32(bias)}
    return dataclasses.replace(model, params=params)


@pytest.mark.parametrize("name", ["recipro-cam", "rise"])
def test_a_network_with_a_zero_head_has_maps_of_zeros(name, tmp_path):
    """Also in figures, and without boxes."""
    explain = make_explainer(with_zero_head(7.3), method=name, top_k=2, normalize=True)
    assert not np.any(explain(uint8_images(2, 32, 32)).maps)
    path = write_pictures(tmp_path, 1) / "000.png"
    for geometry in KINDS:
        (found,) = explain_pictures(with_zero_head(7.3), [path], method=name, top_k=2, geometry=geometry)
        assert found.conditions.tolist() == [CONSTANT, CONSTANT]
        assert np.isnan(picture_boxes(found)).all()
        for cut in (0.0, 0.005):
            heats = found.heats((40, 50), cut)
            assert np.nanmax(np.abs(heats)) == 0
            # Only what lies outside the centre crop was not seen.
            assert np.isnan(heats).any() == (geometry == "crop")


def test_heats_tell_rounding_from_a_signal(tmp_path):
    path = write_pictures(tmp_path, 1) / "000.png"
    (found,) = explain_pictures(toy_model(), [path], classes=[0, 1], geometry="squash")
    rng = np.random.default_rng(0)
    noise = (1 + 1e-7 * rng.normal(size=(32, 32))).astype(np.float32)
    peak = noise.copy()
    peak[3, 4] = 2  # one pixel, less than the part that is cut off
    heats = dataclasses.replace(found, maps=np.stack([noise, peak])).heats((32, 32), 0.005)
    assert not heats[0].any()
    assert (heats[1] > 1e-5).sum() == 1
    for bad in (np.nan, np.inf):
        maps = np.stack([noise * 1e-20, np.where(peak == 2, np.float32(bad), ramp(0, 1, np.float32)[0, 0, 1])])
        assert np.isnan(dataclasses.replace(found, maps=maps).heats((32, 32), 0.005)[1]).all()
    small = np.abs(rng.normal(size=(2, 32, 32)) * 1e-20).astype(np.float32)
    assert dataclasses.replace(found, maps=small).heats((32, 32)).max() == 1
    assert not as_bytes(noise).any()
    assert as_bytes(small[0]).max() == 255


@pytest.mark.parametrize("kind", KINDS)
def test_maps_over_the_picture_keep_constants_and_ties(kind):
    geometry = Geometry(kind, (97, 61), (16, 24))
    for value in np.float32([7.3, 0.1, 1e-20]):
        placed = to_picture(geometry, np.full((1, 16, 24), value, np.float32))
        assert np.unique(placed[~np.isnan(placed)]).tolist() == [value]
    placed = to_picture(geometry, PLATEAUS[None])
    close = [np.isclose(placed, value, rtol=1e-6, atol=0) for value in np.unique(PLATEAUS)]
    assert np.any(close, 0).sum() > 0.05 * placed.size  # pixels inside of a plateau
    for value, near in zip(np.unique(PLATEAUS), close, strict=True):
        assert (placed[near] != value).sum() <= 0.02 * near.sum()  # those beside an edge, whose weight is tiny


def test_an_equal_map_at_another_resolution_deletes_the_same_pixels():
    """With weights of 0.99999994, the ranks of a constant map of 7 x 7 were those of rounding."""
    weights = np.random.default_rng(0).normal(size=(224 * 224, 3)).astype(np.float32) / 224
    images = jnp.asarray(np.random.default_rng(1).normal(size=(1, 224, 224, 1)), jnp.float32)

    def score(images):
        return jax.nn.softmax(images.reshape(len(images), -1) @ weights)

    classes = jnp.asarray([[0, 1]])
    small, large = (np.full((1, 2, side, side), 0.3, np.float32) for side in (7, 224))
    for curve in (deletion, insertion):
        areas = jax.jit(lambda maps, curve=curve: curve(score, images, maps, classes).area)
        np.testing.assert_array_equal(areas(small), areas(large))
