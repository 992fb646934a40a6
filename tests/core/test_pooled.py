"""A linear head is verified, never assumed: what looks like one and is none is refused, whoever says so."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.random_weights import random_model
from camjax import LinearHead, MethodError, Model, Preprocess, make_explainer, normalize_images
from camjax.core.names import named_array
from camjax.core.pooled import LeafHead, verified

RNG = np.random.default_rng(0)
PREPROCESS = Preprocess(input_size=(8, 12))


def drawn(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def network(tail, channels=6, classes=5, transposed=False, bias=True):
    """Pixels mixed into channels, and whatever makes logits of them."""
    kernel = drawn(channels, classes)
    params = {
        "mix": drawn(3, channels),
        "other": drawn(channels, classes),  # of the same shape
        "kernel": kernel.T if transposed else kernel,
    }
    if bias:
        params |= {name: drawn(classes) for name in ("offset", "spare")}

    def forward(params, images):
        x = named_array(jax.nn.relu(images @ params["mix"]), "layer")
        kernel = params["kernel"].T if transposed else params["kernel"]
        offset = params["offset"][None, :] if bias else 0
        return tail(x, kernel, images) + offset

    return Model(jax.device_put(params), forward, PREPROCESS)  # for which JAX compiles nothing


def pooled(x, kernel, images):
    return x.mean((1, 2)) @ kernel


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 5), st.integers(2, 5), st.booleans(), st.booleans())
def test_found_among_the_parameters_whatever_their_shapes(channels, classes, transposed, bias):
    model = network(pooled, channels, classes, transposed, bias)
    found = verified(model, "layer")
    head = found.head(model.params)
    kernel = np.asarray(model.params["kernel"])
    np.testing.assert_array_equal(head.kernel, kernel.T if transposed else kernel)
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


def test_a_network_of_camjaxs_is_tried_where_its_head_or_forward_function_was_replaced():
    model = random_model("resnet18", depths=(1, 1, 1, 1), widths=(4, 6, 8, 8), stem_width=4, num_classes=3)
    model = dataclasses.replace(model, preprocess=Preprocess(input_size=(32, 32)))
    assert verified(model, model.layer).head is model.head

    def doubled(params):
        kernel, bias = model.head(params)
        return LinearHead(2 * kernel, bias)

    assert verified(dataclasses.replace(model, head=doubled), model.layer) is None
    bent = functools.wraps(model.forward)(lambda *given: jnp.tanh(model.forward(*given)))
    for forward in (bent, lambda *given: bent(*given)):
        assert verified(dataclasses.replace(model, forward=forward), model.layer) is None
    assert verified(model, "layer3") is None


def test_an_inner_layer_has_no_linear_head_and_the_last_one_has():
    model = random_model("resnet18", widths=(8, 8, 8, 16), stem_width=8, num_classes=7)
    model = dataclasses.replace(model, preprocess=Preprocess(input_size=(64, 96)))
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


WINDOWS = {
    "window": lambda x, kernel, images: (
        jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 8, 12, 1), (1, 1, 1, 1), "VALID").mean((1, 2)) @ kernel / 96
    ),
    "first places": lambda x, kernel, images: x[:, :8, :12].mean((1, 2)) @ kernel,
}


@pytest.mark.parametrize("tail", WINDOWS)
def test_a_head_that_reads_a_window_is_one_at_its_own_size_alone(tail):
    model = network(WINDOWS[tail])
    small, large = (RNG.integers(0, 256, (2, *size, 3), np.uint8) for size in ((8, 12), (16, 20)))
    explain = make_explainer(model, top_k=2)
    assert explain(small).maps.shape == (2, 2, 8, 12)
    refused = r"pooling of 'layer' for pictures of 8 x 12, not of 16 x 20.*use one of grad-cam"
    with pytest.raises(MethodError, match=refused):
        explain(large)
    with pytest.raises(MethodError, match=refused):
        explain.lower(large)
    with pytest.raises(MethodError, match=refused):
        jax.jit(lambda explain: explain(large).maps)(explain)
    gradient = make_explainer(model, method="hires-cam", top_k=2, size=None)
    result = gradient(large)

    @jax.jit
    def by_hand(params, pictures, classes):
        scaled = normalize_images(pictures, PREPROCESS)
        features = jax.nn.relu(scaled @ params["mix"])

        def score(features):
            logits = WINDOWS[tail](features, params["kernel"], None) + params["offset"][None, :]
            return jnp.take_along_axis(logits, classes, 1).sum()

        maps = (jax.grad(score)(features) * features).sum(-1) * (16 * 20)
        return model.forward(params, scaled), maps

    logits, expected = by_hand(model.params, large, np.asarray(result.classes)[:, :1])
    assert relative_error(result.logits, logits) < 1e-5
    assert relative_error(np.asarray(result.maps)[:, 0], expected) < 1e-5
    jitted = jax.jit(lambda explain: explain(large).maps)(gradient)
    assert relative_error(jitted, result.maps) < 1e-5


def test_a_head_is_one_at_every_size():
    explain = make_explainer(network(pooled), top_k=2)
    assert explain(RNG.integers(0, 256, (2, 9, 5, 3), np.uint8)).maps.shape == (2, 2, 9, 5)


def test_equal_networks_are_verified_by_one_compiled_program():
    traces, model = [], network(pooled)

    def counted(params, images):
        traces.append(images.shape)
        return model.forward(params, images)

    other = jax.device_put(jax.tree.map(lambda leaf: 2 * np.asarray(leaf), model.params))
    first, second = (Model(params, counted, PREPROCESS) for params in (model.params, other))
    assert verified(first, "layer") is not None
    traces.clear()
    assert verified(second, "layer") is not None
    assert not traces
    larger = [make_explainer(one, top_k=2) for one in (first, second)]
    pictures = RNG.integers(0, 256, (1, 16, 12, 3), np.uint8)
    larger[0](pictures)
    traces.clear()
    larger[1](pictures)
    assert not traces


def test_a_transposed_head_of_traced_parameters():
    model = network(pooled, transposed=True)
    images = RNG.integers(0, 256, (2, 8, 12, 3), np.uint8)

    @jax.jit
    def explained(params):
        return make_explainer(dataclasses.replace(model, params=params), top_k=3)(images)

    expected = make_explainer(model, top_k=3)(images)
    found = explained(model.params)
    np.testing.assert_array_equal(found.classes, expected.classes)
    assert relative_error(found.maps, expected.maps) < 1e-5
    assert relative_error(found.logits, expected.logits) < 1e-5


def test_zeros_of_a_new_head_hide_nothing():
    model = network(lambda x, kernel, images: jax.nn.gelu(x.mean((1, 2))) @ kernel)
    zeros = jax.device_put(jax.tree.map(np.zeros_like, model.params))
    assert verified(dataclasses.replace(model, params=zeros), "layer") is None
    found = verified(dataclasses.replace(network(pooled), params=zeros), "layer")
    assert found.head == verified(network(pooled), "layer").head


def test_what_the_end_of_a_network_does_not_read_is_not_drawn():
    """Weights as many as no memory holds, in front of the layer."""
    wide, kernel = jax.ShapeDtypeStruct((10**9, 3, 6), jnp.float32), jax.ShapeDtypeStruct((6, 5), jnp.float32)

    def forward(params, images):
        x = named_array(images @ params["wide"][0], "layer")
        return x.mean((1, 2)) @ params["kernel"]

    found = verified(Model({"wide": wide, "kernel": kernel}, forward, PREPROCESS), "layer")
    assert found.head({"wide": wide, "kernel": kernel}) == LinearHead(kernel, None)


def test_a_head_of_weights_that_the_network_does_not_read_is_none():
    model = network(lambda x, kernel, images: 0 * x.mean((1, 2)) @ kernel, bias=False)
    silent = dataclasses.replace(model, forward=lambda params, images: 0 * model.forward(params, images))
    unread = dataclasses.replace(silent, head=lambda params: LinearHead(params["other"], None))
    assert verified(unread, "layer") is None
