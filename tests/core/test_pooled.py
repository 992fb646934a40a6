"""A linear head is verified, never assumed: what looks like one and is none is refused, whoever says so."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import relative_error

from camjax import LinearHead, MethodError, Model, Preprocess, make_explainer
from camjax.core.names import named_array
from camjax.core.pooled import LeafHead, verified
from camjax.models.registry import ARCHITECTURES

RNG = np.random.default_rng(0)
PREPROCESS = Preprocess(input_size=(8, 12))


def network(tail, channels=6, classes=5, transposed=False, bias=True):
    """Pixels mixed into channels, and whatever makes logits of them."""
    kernel = RNG.normal(size=(channels, classes))
    params = {
        "mix": jnp.asarray(RNG.normal(size=(3, channels)), jnp.float32),
        "other": jnp.asarray(RNG.normal(size=(channels, classes)), jnp.float32),  # of the same shape
        "kernel": jnp.asarray(kernel.T if transposed else kernel, jnp.float32),
    }
    if bias:
        params |= {name: jnp.asarray(RNG.normal(size=classes), jnp.float32) for name in ("offset", "spare")}

    def forward(params, images):
        x = named_array(jax.nn.relu(images @ params["mix"]), "layer")
        kernel = params["kernel"].T if transposed else params["kernel"]
        offset = params["offset"][None, :] if bias else 0
        return tail(x, kernel, images) + offset

    return Model(params, forward, PREPROCESS)


def pooled(x, kernel, images):
    return x.mean((1, 2)) @ kernel


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 5), st.integers(2, 5), st.booleans(), st.booleans())
def test_found_among_the_parameters_whatever_their_shapes(channels, classes, transposed, bias):
    model = network(pooled, channels, classes, transposed, bias)
    found = verified(model, "layer")
    head = found.head(model.params)
    expected = model.params["kernel"].T if transposed else model.params["kernel"]
    np.testing.assert_array_equal(head.kernel, expected)
    if bias:
        np.testing.assert_array_equal(head.bias, model.params["offset"])
    else:
        assert head.bias is None


NOT_LINEAR = {
    "relu": lambda x, kernel, images: jax.nn.relu(x - 0.1).mean((1, 2)) @ kernel,
    "maximum": lambda x, kernel, images: x.max((1, 2)) @ kernel,
    "sum": lambda x, kernel, images: x.sum((1, 2)) @ kernel,
    "centre": lambda x, kernel, images: x[:, 2:6, 2:8].mean((1, 2)) @ kernel,
    "path around": lambda x, kernel, images: pooled(x, kernel, images) + images.mean((1, 2, 3))[:, None],
    "other columns": lambda x, kernel, images: pooled(x, kernel[:, ::-1], images),
    "normalised": lambda x, kernel, images: pooled(x, kernel, images) / (1 + x.mean((1, 2, 3)))[:, None],
    "soft cap": lambda x, kernel, images: 30 * jnp.tanh(pooled(x, kernel, images) / 30),
    "hidden layer": lambda x, kernel, images: jnp.tanh(x.mean((1, 2))) @ kernel,
}


@pytest.mark.parametrize("tail", NOT_LINEAR)
def test_what_is_no_pooled_linear_head_is_refused_with_the_methods_that_fit(tail):
    model = network(NOT_LINEAR[tail])
    said = dataclasses.replace(model, head=lambda params: LinearHead(params["kernel"], params["offset"]))
    for one in (model, said):
        assert verified(one, "layer") is None
        with pytest.raises(MethodError, match=r"not end in global average pooling of 'layer'.*use one of .*grad-cam"):
            make_explainer(one)
        assert make_explainer(one, method="grad-cam")(np.zeros((1, 8, 12, 3), np.uint8)).maps.shape == (1, 5, 8, 12)


def test_a_wrong_head_that_its_user_says_is_refused_though_another_fits():
    model = dataclasses.replace(network(pooled), head=LeafHead(2, 1, transposed=False))
    names = sorted(model.params)  # the order of the leaves
    assert (names[2], names[1]) == ("offset", "mix")
    wrong = dataclasses.replace(model, head=lambda params: LinearHead(params["other"], params["offset"]))
    assert verified(wrong, "layer") is None


def test_an_inner_layer_has_no_linear_head_and_the_last_one_has():
    architecture = ARCHITECTURES["resnet18"]
    config = dataclasses.replace(architecture.config, widths=(8, 8, 8, 16), stem_width=8, num_classes=7)
    model = dataclasses.replace(architecture.family.initialise(config), preprocess=Preprocess(input_size=(64, 96)))
    assert {name: verified(model, name) is not None for name in ("layer3", "layer4.1.bn2", "layer4.1", "layer4")} == {
        "layer3": False,
        "layer4.1.bn2": False,
        "layer4.1": True,
        "layer4": True,
    }


def test_verified_where_parameters_have_no_values_yet():
    model = network(pooled)

    @jax.jit
    def maps(params, images):
        return make_explainer(dataclasses.replace(model, params=params), top_k=2)(images).maps

    images = RNG.integers(0, 256, (2, 8, 12, 3), np.uint8)
    expected = make_explainer(model, top_k=2)(images).maps
    assert relative_error(maps(model.params, images), expected) < 1e-5


def test_zeros_of_a_new_head_hide_nothing():
    model = network(lambda x, kernel, images: jax.nn.gelu(x.mean((1, 2))) @ kernel)
    zeros = jax.tree.map(jnp.zeros_like, model.params)
    assert verified(dataclasses.replace(model, params=zeros), "layer") is None
    found = verified(dataclasses.replace(network(pooled), params=zeros), "layer")
    assert found.head == verified(network(pooled), "layer").head
