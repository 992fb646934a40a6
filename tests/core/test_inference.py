"""Models made ready for inference equal those they were made from.

Tolerance: relative error 1e-5 in float32; the deepest network shows 4e-6 (Winograd's sums, and kernels scaled before
instead of after the convolution).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import images, relative_error
from toys import toy_model

from benchmarks.random_weights import random_model
from camjax.core import inference
from camjax.core.inference import features_of, for_inference
from camjax.core.names import named_arrays, tap
from camjax.explain.explainer import make_explainer
from camjax.models.registry import ARCHITECTURES

TOLERANCE = 1e-5


def computed(model, x):
    """The logits, and every named layer's array."""
    names = named_arrays(model.forward, model.params, x)
    return jax.jit(tap(model.forward, read=names))(model.params, x)


@functools.cache
def as_it_is(name, shape, **changes):
    """A network and what it computes, the same for all that it is made ready for."""
    model = random_model(name, num_classes=10, **changes)
    return model, jax.tree.map(np.asarray, computed(model, images(*shape)))


def assert_same_features(ready, model, x, expected=None):
    (logits, ours), (expected_logits, expected) = computed(ready, x), expected or computed(model, x)
    assert {stage.name for stage in model.stages} <= ours.keys() < expected.keys()
    for name, features in ours.items():
        assert relative_error(features, expected[name]) < TOLERANCE, name
    assert relative_error(logits, expected_logits) < TOLERANCE


def repeats(name):
    """Whether it is another's layers, only more of them or wider."""
    return "wide" in name or name.endswith(("34", "101", "152"))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if repeats(name) else [])
        for name in sorted(ARCHITECTURES)
        if "resnet" in name or "lite0" in name
    ],
)
def test_every_architecture(name):
    """Those of the other families are large, and made ready in small in the families' own tests (`tests/parity`)."""
    # At its own width, where it is not the same layers once more, or wider.
    narrow = {"widths": (16, 32, 64, 128)} if name.endswith(("50", "101", "152")) and "wide" not in name else {}
    model = random_model(name, num_classes=10, **narrow)
    assert_same_features(for_inference(model), model, images(1, 51, 70))


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
@pytest.mark.parametrize(
    ("name", "depths"),
    [("resnet50", (2, 1, 1, 1)), ("resnetv2_18", (2, 1, 1, 1)), ("efficientnet_lite0", (1, 2, 1, 1, 1, 1, 1))],
)
def test_what_other_platforms_compute(name, depths, platform):
    model, expected = as_it_is(name, (2, 40, 33), depths=depths)
    ready = for_inference(model, platform=platform)
    assert_same_features(ready, model, images(2, 40, 33), expected)
    pictures = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    count = jax.jit(ready.features).lower(ready.params, pictures).as_text().count("convolution(")
    assert count == sum(leaf.ndim == 4 for leaf in jax.tree.leaves(model.params))


@pytest.mark.parametrize(
    ("platform", "kernels"), [("cpu", {"direct": (3, 3, 32, 128)}), ("gpu", {"cudnn": (128, 3, 3, 4)})]
)
def test_groups_of_few_channels_are_merged_on_a_cpu(platform, kernels):
    model, expected = as_it_is("resnext50_32x4d", (1, 40, 33), depths=(1, 1, 1, 1))
    ready = for_inference(model, platform=platform)
    found = ready.params["layer1"]["0"]["conv2"]["kernels"]
    assert {name: kernel.shape for name, kernel in found.items()} == kernels
    assert_same_features(ready, model, images(1, 40, 33), expected)


def test_resnets_have_no_normalisation_left_and_pre_activation_keeps_what_it_must():
    def normalisations(params):
        paths = [[key.key for key in path] for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        return sum(path[-1] == "var" for path in paths)

    kept = {name: normalisations(for_inference(random_model(name)).params) for name in ("resnet18", "resnetv2_18")}
    assert kept == {"resnet18": 0, "resnetv2_18": 9}  # the first of each of 8 blocks, and the last


def test_the_model_it_was_made_from_is_unchanged():
    model = random_model("resnet18", widths=(8, 8, 8, 8))
    before = jax.tree.map(np.array, model.params)
    for_inference(model)
    jax.tree.map(np.testing.assert_array_equal, before, model.params)


def energy(model, params):
    return (model.features(params, images(2, 40, 33))[model.layer] ** 2).sum()


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@functools.cache
def energys_gradient(name):
    """The network, and its gradient as it is, the same for all that it is made ready for."""
    model = random_model(name, widths=(16, 16, 16, 16), stem_width=16, num_classes=4)
    return model, flat(jax.jit(jax.grad(functools.partial(energy, model)))(model.params))


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnetv2_18", marks=pytest.mark.slow)])
def test_gradients_pass_through_the_folding(name, platform):
    model, expected = energys_gradient(name)

    def folded(params):
        ready = for_inference(dataclasses.replace(model, params=params), platform=platform)
        return energy(ready, ready.params)

    ours = flat(jax.jit(jax.grad(folded))(model.params))
    assert np.linalg.norm(expected) > 1
    assert relative_error(ours, expected) < 1e-4  # gradients of sums of squares add more rounding


def test_parameters_given_anew_are_the_ones_used():
    model = random_model("resnet18", widths=(8, 8, 8, 8))
    twice = jax.device_put(jax.tree.map(lambda leaf: 2 * np.asarray(leaf), model.params))
    doubled = dataclasses.replace(model, params=twice)
    assert_same_features(for_inference(doubled), doubled, images(1, 40, 40))


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_bfloat16_holds_kernels_and_biases_in_it_and_the_head_in_float32(platform):
    model, (_, exact) = as_it_is("resnet18", (2, 64, 64), widths=(16, 32, 64, 128))
    ready = for_inference(model, dtype=jnp.bfloat16, platform=platform)
    dtypes = {path[0].key: leaf.dtype for path, leaf in jax.tree_util.tree_leaves_with_path(ready.params)}
    assert dtypes.pop("fc") == jnp.float32
    assert set(dtypes.values()) == {jnp.dtype(jnp.bfloat16)}
    ours = jax.jit(ready.features)(ready.params, images(2, 64, 64).astype(jnp.bfloat16))["layer4"]
    assert ours.dtype == jnp.bfloat16
    assert relative_error(ours, exact["layer4"]) < 0.03  # 8 bits, eighteen layers of them


@pytest.mark.parametrize("batch", [0, 1, 2, 6, 7])
def test_parts_of_a_batch_equal_the_whole(batch, monkeypatch):
    ready = for_inference(random_model("resnet18", widths=(8, 16, 16, 16), stem_width=8))
    x = images(batch, 32, 48)

    def run(in_parts):
        def features(params, x):
            return features_of(dataclasses.replace(ready, params=params), "layer4", x, in_parts=in_parts)

        return jax.jit(features).lower(ready.params, x).compile()

    whole = run(False)
    monkeypatch.setattr(inference, "CACHE_BYTES", 4 * 32 * 48 * 3)  # one of the pictures, the largest arrays
    parts = run(True)
    assert (" while(" in parts.as_text()) == (batch > 1)
    np.testing.assert_allclose(parts(ready.params, x), whole(ready.params, x), rtol=1e-4, atol=1e-6)


def test_pictures_are_normalised_part_by_part():
    ready = for_inference(random_model("resnet18", widths=(8, 16, 16, 16), stem_width=8))

    @jax.jit
    def program(params, x):
        given = dataclasses.replace(ready, params=params)
        halves = features_of(given, "layer4", 2 * x, normalise=lambda x: x / 2, in_parts=True)
        return halves, given.features(params, x)["layer4"]

    np.testing.assert_allclose(*program(ready.params, images(16, 32, 32)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "most", "rows"),
    [(8, 2, 2), (8, 3, 4), (7, 2, 1), (7, 4, 7), (32, 10, 8), (5, 100, 5), (0, 2, 0), (1, 4, 1)],
)
def test_parts_divide_the_batch(batch, most, rows):
    assert inference._rows(batch, most) == rows


def test_a_network_of_ones_own_is_left_as_it_is():
    model = toy_model()
    assert for_inference(model, dtype=jnp.bfloat16) is model


def test_a_sharded_batch_is_not_gathered():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    explainer = make_explainer(random_model("resnet18", widths=(16, 16, 16, 16), num_classes=10), top_k=2)
    pictures = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    result = explainer(jax.device_put(pictures, rows))
    assert all(leaf.sharding.is_equivalent_to(rows, leaf.ndim) for leaf in result)
    np.testing.assert_allclose(result.maps, explainer(pictures).maps, rtol=1e-4, atol=1e-4)
