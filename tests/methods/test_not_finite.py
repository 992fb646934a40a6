"""NaN and infinities in a network: maps are NaN, by every method, and those of another picture in the batch are not."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods import test_attention_of_others as transformer
from methods.test_methods import few
from toys import drawn, random_head, uint8_images

from camjax import Preprocess, cam_fn, from_function, make_explainer
from camjax.core.names import named_array
from camjax.methods import rules
from camjax.methods.class_free import eigen_cam, fem, kpca_cam
from camjax.methods.full import FullGrad
from camjax.methods.fusion import FUSIONS, fuse
from camjax.methods.group import Group
from camjax.methods.poly import poly_mask
from camjax.methods.registry import METHODS
from camjax.methods.score import mask

SIZE = (8, 12)
VALUES = (np.nan, np.inf, -np.inf)
SHAPES = {"first": (3, 3, 3, 4), "last": (3, 3, 4, 4), "head": (4, 3)}
NONE = {"before": np.float32(0), "behind": np.float32(0)}
CONVOLUTIONS = {name: leaf / 2 for name, leaf in drawn(0, SHAPES).items()}


def spoiled(x, images, value):
    """A number added to one place, for a picture that is bright."""
    bright = images.mean((1, 2, 3)).reshape(-1, *(1,) * (x.ndim - 1)) > 1.5
    place = jnp.zeros((1, *x.shape[1:]), bool).at[(0,) * x.ndim].set(True)
    return x + jnp.where(bright & place, value, 0)


def convolutional(params, images, *, pooled=False):
    """Spoiled at its first layer, or at what the head reads."""
    weights, values = params

    def convolved(x, name):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.nn.relu(jax.lax.conv_general_dilated(x, weights[name], (1, 1), "SAME", dimension_numbers=dimensions))

    x = named_array(spoiled(convolved(images[:, ::2, ::2], "first"), images, values["before"]), "first")
    x = named_array(convolved(x, "last"), "last").mean((1, 2))
    return (x if pooled else spoiled(x, images, values["behind"])) @ weights["head"]


def attentive(params, images):
    """Spoiled at its tokens, before the first block or behind the last."""
    weights, values = params
    x = spoiled(transformer.embedded(weights, images), images, values["before"])
    for number in range(transformer.DEPTH):
        block = weights[f"block_{number}"]
        attention = named_array(transformer.attention_of(block, x), "attention")
        x = named_array(transformer.block_of(block, x, attention), "block")
    return transformer.head("both", weights, spoiled(x, images, values["behind"]))


PICTURES = np.stack([np.full((*SIZE, 3), 255, np.uint8), uint8_images(1, *SIZE)[0]])
AT_PLACES = [(name, place) for name, place in itertools.product(METHODS, NONE) if (name, place) != ("cam", "behind")]


@functools.cache
def program(name):
    """From the numbers that spoil it to the explanation, and the one without."""
    options = {"layer": ("first", "last") if METHODS[name].fusion else METHODS[name].layer or "first"}
    if name in transformer.METHODS:
        forward, weights, options = attentive, transformer.WEIGHTS, {"layer": None}
    else:
        forward, weights = convolutional, CONVOLUTIONS
    if name == "cam":
        forward, options = functools.partial(convolutional, pooled=True), {"layer": "last"}
    model = from_function(
        forward,
        (weights, NONE),
        preprocess=Preprocess(input_size=SIZE),
        tokens=transformer.TOKENS if forward is attentive else None,
    )
    explain = make_explainer(model, method=few(name), top_k=2, size=None, **options)
    explained = jax.jit(lambda values: explain.with_params((weights, values))(PICTURES))
    return explained, explained(NONE)


@pytest.mark.parametrize(("name", "place"), AT_PLACES)
def test_only_the_maps_of_the_picture_are_nan(name, place):
    explained, clean = program(name)
    assert np.isfinite(clean.maps).all()
    for value in VALUES:
        found = explained({**NONE, place: np.float32(value)})
        assert not np.isfinite(found.logits[0]).any()
        assert np.isnan(found.maps[0]).all(), value
        np.testing.assert_array_equal(found.maps[1], clean.maps[1])
        np.testing.assert_array_equal(found.classes[1], clean.classes[1])


@pytest.mark.parametrize("bad", VALUES)
def test_cam_of_a_logit_that_is_not_finite(bad):
    features, kernel, bias = jax.tree.map(np.array, random_head(2, 3, 4, 5))
    clean = cam_fn(*map(jnp.asarray, (features, kernel, bias)), classes=[0, 1])
    features[0, 1, 2, 3] = bias[1] = bad
    found = cam_fn(*map(jnp.asarray, (features, kernel, bias)), classes=[0, 1])
    np.testing.assert_array_equal(np.isfinite(found.maps).all((2, 3)), [[False, False], [True, False]])
    assert not np.isfinite(found.maps[0]).any()
    assert np.isnan(found.maps[1, 1]).all()
    np.testing.assert_array_equal(found.maps[1, 0], clean.maps[1, 0])


RULES = {
    "grad_cam": rules.grad_cam,
    "hires_cam": rules.hires_cam,
    "element_wise": rules.element_wise,
    "layer_cam": rules.layer_cam,
    "xgrad_cam": rules.xgrad_cam,
    "grad_cam_plus_plus": rules.grad_cam_plus_plus,
    "eigen_grad_cam": rules.eigen_grad_cam,
    "seg_eigen_cam": rules.seg_eigen_cam,
    "steepest": lambda activations, gradients: rules.steepest(gradients, activations),  # whose gradients alone count
    "eigen_cam": lambda activations, _: eigen_cam(activations),
    "kpca_cam": lambda activations, _: kpca_cam(activations),
    "fem": lambda activations, _: fem(activations),
    "mask": lambda activations, _: mask(activations[..., 0], (9, 12)),
    "poly_mask": lambda activations, _: poly_mask(activations[..., 0], (9, 12)),
    "full gradient": lambda activations, _: FullGrad().scaled(activations[None])[0],
    "full gradient by channel": lambda activations, _: FullGrad(by_channel=True).scaled(activations[None])[0],
    "group": lambda activations, _: Group().kept(activations[..., 0], 2),
    **{fusion: lambda activations, _, fusion=fusion: fuse([activations[..., 0]] * 2, fusion) for fusion in FUSIONS},
}


@functools.cache
def by_rules(channels):
    """One program: with fewer channels than places, and with more."""

    @jax.jit
    def every(activations, gradients):
        return {name: rule(activations, gradients) for name, rule in RULES.items()}

    rng = np.random.default_rng(0)
    activations, gradients = (np.abs(rng.normal(size=(3, 4, channels))).astype(np.float32) for _ in range(2))
    return every, activations, gradients


@pytest.mark.parametrize("channels", [5, 20])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_rule_makes_a_finite_map_of_what_is_not(bad, channels):
    every, activations, gradients = by_rules(channels)
    for name, map_ in every(activations, gradients).items():
        assert np.isfinite(map_).all(), name
    activations = activations.copy()
    activations[1, 2, 0] = bad
    for name, map_ in every(activations, gradients).items():
        assert not np.isfinite(map_).all(), name
