"""The compiled function from pictures to a layer's concepts, and what the network sees in each."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import relative_error
from toys import convolutional, uint8_images

from camjax import LayerError, MethodError, from_function, make_factoriser
from camjax.core.model import Model, TokenGrid
from camjax.core.names import named_array
from camjax.explain import explainer as explainers
from camjax.explain import program
from camjax.explain.factoriser import Factoriser
from camjax.images.preprocess import normalize_images
from camjax.methods.factorise import factorise

PICTURES = uint8_images(2, 16, 12)


@functools.cache
def at(layer):
    return make_factoriser(convolutional(), concepts=3, layer=layer, top_k=2, size=None)


@functools.cache
def found(layer):
    return at(layer)(PICTURES)


def layer_of(name, pictures=PICTURES):
    model = convolutional()
    images = normalize_images(jnp.asarray(pictures), model.preprocess)
    return jax.jit(lambda images: model.features(model.params, images)[name])(images)


@pytest.mark.parametrize("layer", ["middle", "last"])
def test_the_factors_are_those_of_the_layer(layer):
    result = found(layer)
    expected = jax.jit(functools.partial(factorise, concepts=3))(layer_of(layer))
    assert relative_error(result.maps, expected.maps) < 1e-2
    assert relative_error(result.vectors, expected.vectors) < 1e-2
    np.testing.assert_allclose(result.error, expected.error, rtol=1e-3)
    assert result.classes.shape == result.probabilities.shape == (2, 3, 2)
    assert (np.diff(result.probabilities, axis=-1) <= 0).all()
    logits = convolutional().forward(
        convolutional().params, normalize_images(jnp.asarray(PICTURES), convolutional().preprocess)
    )
    np.testing.assert_allclose(result.logits, logits, rtol=1e-4, atol=1e-5)


def assert_seen(result, logits):
    """The classes and probabilities are those of these logits, `(b, concepts, n)`."""
    logits = np.asarray(logits, np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    count = result.classes.shape[-1]
    np.testing.assert_array_equal(result.classes, np.argsort(-logits)[..., :count])
    np.testing.assert_allclose(result.probabilities, -np.sort(-shares)[..., :count], rtol=1e-3)


def test_at_a_pooled_head_a_concept_speaks_for_the_classes_of_the_mean_over_its_places():
    result = found("last")
    assert at("last").explainer.plan.pooled
    shares = result.maps / result.maps.sum((2, 3), keepdims=True)
    means = np.einsum("bkhw,bhwc->bkc", shares, layer_of("last"))
    assert_seen(result, means @ np.asarray(convolutional().params["head"]))
    plan = dataclasses.replace(at("last").explainer.plan, pooled=False)
    general = Factoriser(explainers.Explainer(at("last").explainer.params, plan))(PICTURES)
    np.testing.assert_array_equal(general.classes, result.classes)
    np.testing.assert_allclose(general.probabilities, result.probabilities, rtol=1e-3)


def test_elsewhere_the_network_sees_the_layer_by_the_concepts_map():
    result, model = found("middle"), convolutional()
    shares = result.maps / result.maps.mean((2, 3), keepdims=True)
    logits = []
    for concept in range(3):
        layer = layer_of("middle") * shares[:, concept, ..., None]
        last = jax.lax.conv_general_dilated(
            layer, model.params["last"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        logits.append(jax.nn.relu(last).mean((1, 2)) @ model.params["head"])
    assert_seen(result, np.stack(logits, 1))


def test_maps_are_as_large_as_the_pictures_and_not_negative():
    factoriser = make_factoriser(convolutional(), concepts=3, layer="middle", top_k=2)
    result = factoriser(PICTURES)
    assert factoriser.layer == "middle"
    assert result.maps.shape == (2, 3, 16, 12)
    assert result.maps.min() >= 0
    expected = jax.image.resize(found("middle").maps, (2, 3, 16, 12), "bilinear")
    np.testing.assert_allclose(result.maps, expected, rtol=1e-3, atol=1e-4)
    shape = jax.eval_shape(jax.jit(lambda make, pictures: make(pictures).vectors), factoriser, PICTURES).shape
    assert shape == (2, 3, 6)  # a pytree of the network's weights


def test_a_sharded_batch_stays_sharded_and_a_second_call_is_not_compiled(monkeypatch):
    traces = []
    explain = program.explained
    monkeypatch.setattr(program, "explained", lambda *a, **k: traces.append(1) or explain(*a, **k))
    program.compiled.cache_clear()
    pictures = uint8_images(8, 16, 12)
    mesh = jax.make_mesh((8,), ("data",))  # of explicit axes
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    factoriser = at("middle")
    expected = factoriser(pictures)
    sharded = factoriser(jax.device_put(pictures, rows))
    assert all(leaf.sharding.is_equivalent_to(rows, leaf.ndim) for leaf in sharded)
    count = len(traces)
    factoriser(uint8_images(8, 16, 12, seed=1))
    assert len(traces) == count
    for one, other in zip(sharded, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3 * np.abs(other).max())
    program.compiled.cache_clear()


def test_bfloat16_networks_have_concepts_in_float32():
    factoriser = make_factoriser(convolutional(), concepts=3, layer="middle", top_k=2, size=None, dtype=jnp.bfloat16)
    result = factoriser(PICTURES)
    assert {leaf.dtype for leaf in result} == {np.dtype(np.float32), np.dtype(np.int32)}
    assert relative_error(result.maps, found("middle").maps) < 0.1


def test_tokens_of_no_place_stay():
    keys = jax.random.split(jax.random.key(1), 2)
    params = {"embed": jax.random.normal(keys[0], (3, 6)), "head": jax.random.normal(keys[1], (6, 5))}

    def forward(params, images):
        cells = images.reshape(-1, 4, 4, 3, 4, 3).mean((2, 4)).reshape(-1, 12, 3) @ params["embed"]
        x = named_array(jnp.concatenate([jnp.full_like(cells[:, :1], -0.5), cells], 1), "tokens")
        return (x[:, 0] * jnp.tanh(x[:, 1:].mean(1))) @ params["head"]

    model = Model(params, forward, convolutional().preprocess, tokens=TokenGrid(prefix=1, patch=(4, 4)))
    result = make_factoriser(model, concepts=2, layer="tokens", top_k=1, size=None)(PICTURES)
    assert result.maps.shape == (2, 2, 4, 3)
    images = normalize_images(jnp.asarray(PICTURES), model.preprocess)
    tokens = model.features(params, images)["tokens"]
    shares = result.maps.reshape(2, 2, 12) / result.maps.mean((2, 3))[..., None]
    means = np.einsum("bkp,bpc->bkc", shares, tokens[:, 1:]) / 12  # signed
    assert_seen(result, -0.5 * np.tanh(means) @ np.asarray(params["head"]))


@pytest.mark.usefixtures("untyped")
def test_what_cannot_be_is_named():
    for wrong in (0, -1, 1.5, "5", True):
        with pytest.raises(MethodError, match="concepts must be a positive whole number"):
            make_factoriser(convolutional(), concepts=wrong)
    with pytest.raises(MethodError, match=r"in 1\.\.6 at a layer of 48 places and 6 channels, not 7"):
        make_factoriser(convolutional(), concepts=7)(PICTURES)
    with pytest.raises(LayerError, match="did you mean middle"):
        make_factoriser(convolutional(), layer="midle")
    with pytest.raises(ValueError, match="top_k"):
        make_factoriser(convolutional(), top_k=6)
    with pytest.raises(ValueError, match="images must be uint8"):
        at("middle")(PICTURES[0])


def test_any_score_can_rank_the_classes_and_one_that_is_no_class_has_no_probability():
    def forward(params, images):
        return named_array(jax.nn.relu(images @ params), "last")

    model = from_function(forward, jnp.eye(3, 4), preprocess=convolutional().preprocess)
    factoriser = make_factoriser(model, concepts=2, target=lambda x: x.mean((1, 2, 3)), top_k=1)
    result = factoriser(PICTURES)
    assert np.isnan(result.probabilities).all()
    np.testing.assert_array_equal(result.classes, 0)
