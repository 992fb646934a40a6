"""Which axes of a layer are rows and columns: told by how they follow the image's sides, or asked for."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import drawn, uint8_images

from camjax import LayerError, Preprocess, TokenGrid, from_equinox, from_function, layers, make_explainer
from camjax.core.axes import Views, reading
from camjax.core.layers import default_layer
from camjax.core.names import named_array

CHANNELS_FIRST = "channels first as far as its shape tells"
OUT_OF_PROPORTION = "whose axes are not in proportion to the image's"


def adapted(forward, params, size, **about):
    return from_function(forward, params, preprocess=Preprocess(input_size=size), **about)


def convolved(order, fixed):
    """Cells of 4 x 4 pixels, which a network of one size reads with a weight for each place."""

    def forward(params, images):
        b, h, w, c = images.shape
        x = images.reshape(b, h // 4, 4, w // 4, 4, c).mean((2, 4)) @ params["mix"]
        x = x * params["places"] if fixed else x
        return jnp.einsum(f"b{order}->bc", named_array(jnp.einsum(f"bhwc->b{order}", x), "layer")) @ params["head"]

    return forward


def params_of(size, channels=16):
    return drawn(0, {"mix": (3, channels), "head": (channels, 5), "places": (1, size[0] // 4, size[1] // 4, 1)})


SIZES = [(32, 32), (32, 48), (48, 32)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fixed", [False, True])
def test_rows_columns_channels_is_what_is_read(size, fixed):
    model = adapted(convolved("hwc", fixed), params_of(size), size)
    explain = make_explainer(model, method="grad-cam", size=None, top_k=1)
    assert explain(uint8_images(1, *size)).maps.shape == (1, 1, size[0] // 4, size[1] // 4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fixed", [False, True])
def test_channels_first_is_refused_and_says_how_to_name_it(size, fixed):
    """The function of one size with a layer (1, 16, 8, 8) was accepted, with maps of 16 x 8."""
    shape = (1, 16, size[0] // 4, size[1] // 4)
    words = re.escape(f"layer 'layer' of model is {shape}, {CHANNELS_FIRST}; camjax reads (b, h, w, c)")
    for about in ({}, {"layer": "layer"}):
        with pytest.raises(LayerError, match=words + r".*jnp\.moveaxis\(x, 1, -1\)"):
            adapted(convolved("chw", fixed), params_of(size), size, **about)


@pytest.mark.parametrize("size", SIZES)
def test_columns_before_rows_are_refused_where_they_can_be_told(size):
    with pytest.raises(LayerError, match="columns before rows as far as its shape tells"):
        adapted(convolved("whc", False), params_of(size), size)
    if size[0] != size[1]:  # else a network of one size looks the same
        with pytest.raises(LayerError, match="columns before rows as far as its shape tells"):
            adapted(convolved("whc", True), params_of(size), size)


def test_as_many_channels_as_rows_and_columns_is_asked_for():
    params = params_of((32, 32), channels=8)
    with pytest.raises(LayerError, match=rf"\(1, 8, 8, 8\), {OUT_OF_PROPORTION} 32 x 32; .*say so by its own name"):
        adapted(convolved("hwc", True), params, (32, 32))
    model = adapted(convolved("hwc", True), params, (32, 32), layer="layer")
    assert make_explainer(model, method="grad-cam").layer == "layer"
    assert adapted(convolved("hwc", False), params, (32, 32)).layer is None  # which shows it at other sizes


def views(base, tall=None, wide=None, size=(32, 32), before=()):
    def layers_of(shape):
        found = [*before, shape]
        return {str(number): jax.ShapeDtypeStruct(shape, jnp.float32) for number, shape in enumerate(found)}

    return Views(size, *(None if shape is None else layers_of(shape) for shape in (base, tall, wide)))


@pytest.mark.parametrize(
    ("base", "tall", "wide", "size", "before", "expected"),
    [
        # At any size.
        ((1, 8, 8, 8), (1, 16, 8, 8), (1, 8, 16, 8), (32, 32), (), "map"),
        ((1, 8, 8, 8), (1, 8, 16, 8), (1, 8, 8, 16), (32, 32), (), "channels first"),
        ((1, 8, 8, 8), (1, 8, 16, 8), (1, 16, 8, 8), (32, 32), (), "transposed"),
        ((1, 3, 64, 8), (1, 3, 128, 8), (1, 3, 128, 8), (32, 32), (), "heads"),
        ((1, 64, 3, 8), (1, 128, 3, 8), (1, 128, 3, 8), (32, 32), (), "heads"),
        ((1, 1, 64, 8), (1, 1, 128, 8), (1, 1, 128, 8), (32, 32), (), "heads"),
        ((1, 3, 65, 65), (1, 3, 129, 129), (1, 3, 129, 129), (32, 32), (), "attention"),
        ((1, 65, 65, 3), (1, 129, 129, 3), (1, 129, 129, 3), (32, 32), (), "attention"),
        ((1, 4, 4, 16), (1, 8, 4, 32), (1, 4, 8, 32), (32, 32), (), "map"),  # a channel for each position
        ((1, 7, 7, 16), (1, 7, 7, 16), (1, 7, 7, 16), (224, 224), (), "map"),  # pooled to one size
        ((1, 16, 7, 7), (1, 16, 7, 7), (1, 16, 7, 7), (224, 224), (), "channels first"),
        # Of one height, as networks are that read text.
        ((1, 4, 64, 8), None, (1, 4, 128, 8), (32, 256), (), "map"),
        ((1, 8, 4, 64), None, (1, 8, 4, 128), (32, 256), (), "channels first"),
        ((1, 64, 4, 8), None, (1, 128, 4, 8), (32, 256), (), "transposed"),
        ((1, 2, 64, 4), None, (1, 2, 128, 4), (32, 256), [(1, 64, 8)], "heads"),
        # Of one size.
        ((1, 16, 8, 8), None, None, (32, 32), (), "channels first"),
        ((1, 8, 8, 16), None, None, (32, 32), (), "map"),
        ((1, 5, 7, 16), None, None, (20, 28), (), "map"),
        ((1, 2, 6, 16), None, None, (16, 24), (), "map"),  # two convolutions of 5 x 5 and a pooling, without padding
        ((1, 16, 2, 6), None, None, (16, 24), (), "channels first"),
        ((1, 6, 2, 16), None, None, (16, 24), (), "transposed"),
        ((1, 1, 6, 16), None, None, (16, 24), (), "unclear"),
        ((1, 4, 24, 3), None, None, (16, 24), (), "unclear"),
        ((1, 8, 10, 3), None, None, (16, 24), (), "unclear"),  # a stride of 4 leaves at most four rows
        ((1, 1, 24, 3), None, None, (16, 24), (), "map"),  # pooled over all rows
        ((1, 1, 8, 8), None, None, (32, 32), (), "channels first"),
        ((1, 64, 64, 2), None, None, (32, 32), (), "unclear"),  # larger than the image
        ((1, 197, 197, 3), None, None, (224, 224), [(1, 197, 64)], "attention"),
        ((1, 3, 197, 197), None, None, (224, 224), [(1, 197, 64)], "attention"),
        ((1, 197, 3, 16), None, None, (224, 224), [(1, 197, 48)], "heads"),
    ],
)
def test_what_shapes_tell(base, tall, wide, size, before, expected):
    given = views(base, tall, wide, size, before)
    assert reading(given, str(len(before))) == expected


@pytest.mark.parametrize(
    ("base", "expected"), [((1, 2, 65, 65), "attention"), ((1, 65, 65, 2), "attention"), ((1, 65, 2, 8), "heads")]
)
def test_a_known_number_of_tokens_is_known_again(base, expected):
    assert reading(views(base), "0", tokens=65) == expected


def test_the_doubled_toys_are_what_is_said_of_them():
    """How a toy's layer follows the image's sides."""
    model = adapted(convolved("hwc", False), params_of((32, 48)), (32, 48))
    assert [layers(model, size)["layer"].shape for size in ((32, 48), (64, 48), (32, 96))] == [
        (1, 8, 12, 16),
        (1, 16, 12, 16),
        (1, 8, 24, 16),
    ]


class Softmax(eqx.Module):
    def __call__(self, x):
        return jax.nn.softmax(x, -1)


class Transformer(eqx.Module):
    """As Equinox's users write one: its attention `(heads, n, n)` comes out of a module of its own."""

    patch: eqx.nn.Conv2d
    places: jax.Array
    project: eqx.nn.Linear
    softmax: Softmax
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.patch = eqx.nn.Conv2d(3, 6, 4, 4, key=keys[0])
        self.places = jax.random.normal(keys[1], (16, 6))
        self.project = eqx.nn.Linear(6, 18, key=keys[2])
        self.softmax = Softmax()
        self.head = eqx.nn.Linear(6, 5, key=keys[3])

    def __call__(self, image):
        x = self.patch(image).reshape(6, -1).T + self.places
        query, key, value = jnp.moveaxis(jax.vmap(self.project)(x).reshape(16, 3, 2, 3), (1, 2), (0, 1))
        weights = self.softmax(jnp.einsum("hqc,hkc->hqk", query, key))
        return self.head((x + jnp.einsum("hqk,hkc->qhc", weights, value).reshape(16, 6)).mean(0))


def test_attention_of_equinox_is_no_default_and_keeps_its_axes():
    module = eqx.nn.inference_mode(Transformer(jax.random.key(0)))
    preprocess = Preprocess(input_size=(16, 16))
    model = from_equinox(module, preprocess=preprocess, tokens=TokenGrid(patch=(4, 4)))
    assert layers(model)["softmax"].shape == (1, 2, 16, 16)
    assert layers(model)["patch"].shape == (1, 4, 4, 6)
    assert make_explainer(model, method="grad-cam").layer == "project"
    with pytest.raises(LayerError, match="is attention"):
        make_explainer(model, method="grad-cam", layer="softmax")
    words = re.escape("layer 'softmax' of model is (1, 2, 16, 16), attention, tokens by tokens")
    with pytest.raises(LayerError, match=words + r".*tokens=TokenGrid"):
        from_equinox(module, preprocess=preprocess)
    assert from_equinox(module, preprocess=preprocess, layer="patch").layer == "patch"


def attending(named, mapped=True):
    """A convolutional network with attention among its positions inside, as BoTNet has it."""

    def forward(params, images):
        b, h, w, c = images.shape
        x = images.reshape(b, h // 4, 4, w // 4, 4, c).mean((2, 4)) @ params["mix"]
        x = named_array(x, "map") if mapped else x
        tokens = x.reshape(b, -1, 2, 8)
        weights = named_array(jax.nn.softmax(jnp.einsum("bqhc,bkhc->bhqk", tokens, tokens)), "attention")
        read = jnp.einsum("bhqk,bkhc->bqhc", weights, tokens)
        read = named_array(read, "heads") if named else read
        return (x + read.reshape(x.shape)).mean((1, 2)) @ params["head"]

    return forward


@pytest.mark.parametrize("named", [False, True])
def test_attention_inside_a_convolutional_network_is_passed_over(named):
    model = adapted(attending(named), params_of((32, 48)), (32, 48))
    explain = make_explainer(model, method="grad-cam", size=None, top_k=1)
    assert (explain.layer, explain(uint8_images(1, 32, 48)).maps.shape) == ("map", (1, 1, 8, 12))
    with pytest.raises(LayerError, match=r"is \(1, .*no rows and columns; give another by layer=NAME$"):
        adapted(attending(named, mapped=False), params_of((32, 48)), (32, 48))


def test_a_square_map_of_a_transformer_is_a_map():
    """As wide as it has channels, where a model has tokens too."""

    def forward(params, images):
        x = named_array(images.reshape(len(images), 4, 4, 4, 4, 3).mean((2, 4)) @ params["mix"], "map")
        return x.reshape(len(x), 16, 4).mean(1) @ params["head"]

    params = drawn(0, {"mix": (3, 4), "head": (4, 5)})
    model = adapted(forward, params, (16, 16), tokens=TokenGrid(patch=(4, 4)), layer="map")
    assert np.asarray(make_explainer(model, method="grad-cam")(uint8_images(1, 16, 16)).maps).any()


def one_token(params, images):
    """The class token alone, after the tokens of a grid."""
    patches = images.reshape(len(images), 2, 4, 3, 4, 3).mean((2, 4)).reshape(len(images), 6, 3)
    tokens = named_array(jnp.concatenate([patches[:, :1], patches], 1) @ params["mix"], "tokens")
    first = named_array(jnp.tanh(tokens.mean(1, keepdims=True)), "first")
    return first[:, 0] @ params["head"]


def test_the_class_token_alone_does_not_lie_on_the_image():
    params = {"mix": np.eye(3, 8, dtype=np.float32), "head": np.ones((8, 2), np.float32)}
    preprocess = Preprocess(input_size=(8, 12))
    model = from_function(one_token, params, preprocess=preprocess, tokens=TokenGrid(prefix=1, patch=(4, 4)))
    assert default_layer(model) == "tokens"
    with pytest.raises(LayerError, match="1 tokens are not 1 and a grid of 2 x 3"):
        make_explainer(model, method="grad-cam", layer="first", top_k=1)(uint8_images(1, 8, 12))
    bare = from_function(one_token, params, preprocess=preprocess, layer="tokens")
    with pytest.raises(LayerError, match=r"layer 'tokens' .* has tokens, .* tokens=TokenGrid\(prefix=1"):
        make_explainer(bare, method="grad-cam", top_k=1)(uint8_images(1, 8, 12))
