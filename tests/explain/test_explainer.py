"""The compiled function from pictures to explanations."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import toy_model, uint8_images

from camjax.core.inference import features_of
from camjax.explain import explainer as explainers
from camjax.explain.explainer import make_explainer
from camjax.images.preprocess import Preprocess, normalize_images
from camjax.methods.cam import cam_fn
from camjax.models.registry import ARCHITECTURES


def small_resnet():
    """A ResNet-18 a quarter as wide, with random weights."""
    architecture = ARCHITECTURES["resnet18"]
    config = dataclasses.replace(architecture.config, widths=(16, 32, 64, 128), stem_width=16, num_classes=10)
    return architecture.family.initialise(config)


def test_equals_the_steps_one_by_one():
    model, pictures = toy_model(), uint8_images(3, 32, 24)
    result = make_explainer(model, top_k=4)(pictures)
    scaled = (pictures / 255.0 - np.asarray(model.preprocess.mean)) / np.asarray(model.preprocess.std)
    features = model.features(model.params, jnp.asarray(scaled, jnp.float32))
    kernel, bias = model.params["kernel"], model.params["bias"]
    expected = cam_fn(features["last"], kernel, bias, top_k=4, size=(32, 24))
    np.testing.assert_array_equal(result.classes, expected.classes)
    np.testing.assert_allclose(result.maps, expected.maps, rtol=1e-4, atol=1e-5)
    logits = model.forward(model.params, jnp.asarray(scaled, jnp.float32))
    np.testing.assert_allclose(result.logits, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "shape"), [("input", (32, 24)), (None, (8, 6)), (10, (10, 10)), ((5, 17), (5, 17))])
def test_sizes(size, shape):
    result = make_explainer(toy_model(), top_k=2, size=size)(uint8_images(2, 32, 24))
    assert result.maps.shape == (2, 2, *shape)


def test_inside_a_program_of_ones_own():
    explainer = make_explainer(small_resnet(), top_k=2)
    pictures = uint8_images(4, 64, 64)
    expected = explainer(pictures)
    jitted = jax.jit(lambda pictures: explainer(pictures).maps)(pictures)
    mapped = jax.vmap(lambda picture: explainer(picture[None]).maps[0])(jnp.asarray(pictures))
    chosen = jax.jit(lambda classes: explainer(pictures, classes).maps)(expected.classes)
    for maps in (jitted, mapped, chosen):
        np.testing.assert_allclose(maps, expected.maps, rtol=1e-3, atol=1e-4)


def test_given_classes():
    explainer = make_explainer(toy_model(), size=None)
    pictures = uint8_images(2, 32, 24)
    assert explainer(pictures, jnp.asarray([7, 1])).classes.tolist() == [[7, 1], [7, 1]]
    assert explainer(pictures, np.asarray([[7], [2]])).classes.tolist() == [[7], [2]]


def test_no_recompilation_and_no_constants():
    traces = []
    model = toy_model()

    def counted(params, images):
        traces.append(images.shape)
        assert isinstance(params["mix"], jax.core.Tracer), "a parameter is a constant of the program"
        return model.forward(params, images)

    explainer = make_explainer(dataclasses.replace(model, forward=counted))
    explainer(uint8_images(2, 32, 24))
    traces.clear()
    for seed in range(3):
        explainer(uint8_images(2, 32, 24, seed=seed))
    assert not traces
    explainer(uint8_images(1, 32, 24))
    assert traces == [(1, 32, 24, 3)]


def test_bfloat16_is_near_and_its_maps_are_float32():
    model = small_resnet()
    pictures = uint8_images(2, 64, 64)
    exact = make_explainer(model)(pictures)
    rounded = make_explainer(model, dtype=jnp.bfloat16)(pictures, exact.classes)
    assert rounded.maps.dtype == rounded.logits.dtype == jnp.float32
    # bfloat16 keeps 8 bits; eighteen layers of it.
    error = np.linalg.norm(rounded.maps - exact.maps) / np.linalg.norm(exact.maps)
    assert 1e-6 < error < 0.05


def test_sharded_batch_stays_sharded():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    pictures = uint8_images(8, 32, 24)
    explainer = make_explainer(toy_model())
    result = explainer(jax.device_put(pictures, rows))
    assert all(leaf.sharding.is_equivalent_to(rows, leaf.ndim) for leaf in result)
    np.testing.assert_allclose(result.maps, explainer(pictures).maps, rtol=1e-5, atol=1e-5)


def test_only_a_batch_on_one_device_is_taken_in_parts(monkeypatch):
    asked = []

    def spy(*arguments, in_parts, **options):
        asked.append(in_parts)
        return features_of(*arguments, in_parts=in_parts, **options)

    monkeypatch.setattr(explainers, "features_of", spy)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    explain = make_explainer(toy_model())
    pictures = uint8_images(8, 32, 24)
    explain(pictures)
    explain(jax.device_put(pictures, jax.devices()[0]))
    explain(jax.device_put(pictures, rows))
    assert asked == [True, False]  # traced once for each, as the first two are one program


def test_one_layer_keeps_no_other_alive():
    model = small_resnet()

    def convolutions(name):
        program = jax.jit(lambda params, images: model.features(params, images)[name])
        return program.lower(model.params, jnp.zeros((1, 32, 32, 3))).compile().as_text().count(" convolution(")

    names = ("conv1", "stem", "layer1", "layer2", "layer3.0.conv1", "layer3.0", "layer3", "layer4")
    assert [convolutions(name) for name in names] == [1, 1, 5, 10, 11, 13, 15, 20]


@pytest.mark.parametrize(
    "pictures",
    [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 3, 8, 8), np.uint8)],
)
@pytest.mark.usefixtures("untyped")
def test_wrong_pictures_are_named(pictures):
    with pytest.raises(ValueError, match=re.escape(f"not {pictures.dtype} {pictures.shape}")):
        make_explainer(toy_model())(pictures)


def test_normalisation_equals_torchvision():
    import torch
    from torchvision.transforms.functional import normalize, to_tensor

    pictures = uint8_images(1, 5, 7)
    preprocess = Preprocess()
    expected = normalize(to_tensor(pictures[0]), preprocess.mean, preprocess.std)
    ours = normalize_images(jnp.asarray(pictures), preprocess)[0]
    np.testing.assert_allclose(ours, torch.permute(expected, (1, 2, 0)), atol=1e-6)
