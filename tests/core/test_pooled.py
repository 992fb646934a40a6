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
from camjax import (
    LinearHead,
    MethodError,
    Model,
    Preprocess,
    TokenGrid,
    from_function,
    make_explainer,
    normalize_images,
)
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
    "a tenth more": lambda x, kernel, images: pooled(x, kernel, images) * jnp.asarray(1.1, x.dtype),
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


@pytest.mark.parametrize(
    ("tail", "runs"), [("soft cap", 0), ("normalised", 0), ("softmax", 0), ("maximum", 1), ("linear", 8)]
)
def test_start_up_runs_no_more_of_the_network_than_shows_that_the_head_is_not_linear(tail, runs):
    tails = {
        "linear": pooled,
        "softmax": lambda x, kernel, images: pooled(x * jax.nn.softmax(x, (1, 2)), kernel, images),
    }
    counted = []

    def counting(x, kernel, images):
        jax.debug.callback(lambda: counted.append(1))
        return (NOT_LINEAR | tails)[tail](x, kernel, images)

    model = dataclasses.replace(network(counting), layer="layer")
    assert (verified(model, "layer") is not None) == (tail == "linear")
    jax.effects_barrier()
    assert len(counted) == runs


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


def mixer(dtype, prefix=0, read=None):
    """Tokens, the last of them `prefix` and then a grid of 3 x 4, and a linear head of what is read of them."""
    params = {"mix": drawn(12, 6).astype(dtype), "kernel": drawn(6, 5).astype(dtype), "bias": drawn(5).astype(dtype)}

    def forward(params, images):
        x = images.reshape(len(images), 3, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(len(images), 12, 12)
        x = x.astype(dtype) @ params["mix"]
        x = jnp.concatenate([jnp.ones((len(x), prefix, 6), dtype), x], 1)
        x = named_array(jax.nn.relu(x), "tokens")
        return (read or (lambda x: x[:, prefix:].mean(1)))(x) @ params["kernel"] + params["bias"][None, :]

    preprocess = Preprocess(input_size=(6, 8))
    return Model(jax.device_put(params), forward, preprocess, tokens=TokenGrid(prefix, shape=(3, 4)))


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_cam_over_tokens_is_the_logit_in_their_places(prefix, dtype):
    model = mixer(dtype, prefix)
    images = RNG.integers(0, 256, (2, 6, 8, 3), np.uint8)
    result = make_explainer(model, top_k=2, size=None, dtype=dtype)(images)
    assert result.maps.shape == (2, 2, 3, 4)
    bias = np.asarray(model.params["bias"], np.float32)[result.classes]
    chosen = np.take_along_axis(np.asarray(result.logits), np.asarray(result.classes), 1)
    np.testing.assert_allclose(np.asarray(result.maps).mean((2, 3)) + bias, chosen, rtol=1e-4, atol=1e-5)
    logits = model.forward(model.params, normalize_images(jnp.asarray(images), model.preprocess, dtype))
    assert relative_error(result.logits, np.asarray(logits, np.float32)) < (1e-5 if dtype == np.float32 else 2e-2)
    tokens = model.features(model.params, normalize_images(jnp.asarray(images), model.preprocess, dtype))["tokens"]
    kernel = np.asarray(model.params["kernel"], np.float32)[:, result.classes]
    by_hand = jnp.einsum("bnc,cbk->bkn", tokens[:, prefix:].astype(jnp.float32), kernel).reshape(2, 2, 3, 4)
    assert relative_error(result.maps, by_hand) < (1e-5 if dtype == np.float32 else 2e-2)
    gradient = make_explainer(model, method="grad-cam", top_k=2, size=None, dtype=dtype)
    assert gradient.plan.pooled
    assert relative_error(gradient(images).maps, result.maps) < 1e-5


@pytest.mark.parametrize(
    "read",
    [lambda x: x.mean(1), lambda x: x[:, 0], lambda x: (x[:, 0] + x[:, 1:].mean(1)) / 2, lambda x: x[:, 1:].max(1)],
    ids=["all", "the class token", "both", "largest"],
)
def test_what_is_not_the_mean_of_the_tokens_on_the_image_has_no_cam(read):
    model = mixer(np.float32, 1, read)
    assert verified(model, "tokens") is None
    unplaced = dataclasses.replace(mixer(np.float32), tokens=None)
    assert verified(unplaced, "tokens") is None


def in_bfloat16(tail):
    """A network that computes in bfloat16 and gives logits of it."""
    model = network(lambda x, kernel, images: tail(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), images))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model.params)
    return dataclasses.replace(
        model, params=half, forward=lambda params, images: model.forward(params, images.astype(jnp.bfloat16))
    )


def test_a_network_that_computes_in_bfloat16_has_its_head():
    model = in_bfloat16(pooled)
    assert verified(model, "layer") is not None
    images = RNG.integers(0, 256, (1, 8, 12, 3), np.uint8)
    result = make_explainer(model, dtype=jnp.bfloat16, top_k=5)(images)
    logits = model.forward(model.params, normalize_images(jnp.asarray(images), PREPROCESS))
    assert relative_error(result.logits, np.asarray(logits, np.float32)) < 2e-2
    assert result.maps.dtype == np.float32


@pytest.mark.parametrize("tail", [name for name in NOT_LINEAR if name != "path around"])
def test_its_rounding_hides_no_other_function(tail):
    model = in_bfloat16(NOT_LINEAR[tail])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), model.params)
    for params in (model.params, shapes):
        assert verified(dataclasses.replace(model, params=params), "layer") is None


def test_a_network_of_float16_is_told_which_dtypes_there_are():
    model = network(pooled)
    half = dataclasses.replace(model, forward=lambda params, images: network_in(params, images, jnp.float16))
    with pytest.raises(ValueError, match=r"in float16 whatever its input is; build it to compute in float32: camjax"):
        make_explainer(half)
    with pytest.raises(ValueError, match=r"computes in float32 or bfloat16"):
        make_explainer(half, dtype=jnp.bfloat16)


@pytest.mark.parametrize(
    ("own", "given", "held", "hint"),
    [
        (jnp.float16, jnp.float32, False, "float16 .* compute in float32: camjax computes in float32 or bfloat16"),
        (jnp.bfloat16, jnp.float32, False, "bfloat16 .* compute in float32, or give dtype=bfloat16"),
        (jnp.float32, jnp.bfloat16, False, "float32 .* compute in bfloat16, or give dtype=float32"),
        (jnp.float32, jnp.bfloat16, True, "float32 .* compute in bfloat16, or give dtype=float32"),
    ],
)
def test_a_convolution_of_one_dtype_alone_is_told_which_dtype_fits(own, given, held, hint):
    kernel = np.ones((1, 1, 3, 4), own)

    def forward(params, images):
        x = images if held else images.astype(own)
        x = jax.lax.conv_general_dilated(
            x, kernel if held else params["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return named_array(x, "layer").mean((1, 2))

    model = from_function(forward, {"k": jax.device_put(kernel)}, preprocess=PREPROCESS)
    with pytest.raises(ValueError, match=f"model computes 'layer' in {hint}"):
        make_explainer(model, method="grad-cam", dtype=given)


def network_in(params, images, dtype):
    x = named_array(jax.nn.relu(images.astype(dtype) @ params["mix"].astype(dtype)), "layer")
    return (x.mean((1, 2)) @ params["kernel"].astype(dtype)).astype(jnp.float32)
