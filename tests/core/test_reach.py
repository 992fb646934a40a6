"""The default layer is the last on whose positions the scores depend; a named one on which they do not is refused."""

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from toys import drawn, uint8_images

from camjax import LayerError, Model, Preprocess, TokenGrid, from_function, from_linen, from_nnx, make_explainer
from camjax.core.names import named_array

PREPROCESS = Preprocess(input_size=(16, 24))
GRID = TokenGrid(prefix=1, patch=(4, 4))
PICTURES = uint8_images(1, 16, 24)


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)


def blocks(params, images, count=2):
    """A transformer's tokens after some blocks, each named, and normalised at the end."""
    b, h, w, _ = images.shape
    x = images.reshape(b, h // 4, 4, w // 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, 48) @ params["embed"]
    x = named_array(jnp.concatenate([jnp.broadcast_to(params["class"], (b, 1, 8)), x], 1), "tokens")
    for number in range(count):
        y = normalised(x)
        x = x + jax.nn.softmax(y @ params["query"] @ y.swapaxes(1, 2)) @ y
        x = named_array(x + jax.nn.relu(normalised(x) @ params["query"]), f"block{number}")
    return named_array(normalised(x) * params["scale"], "norm")


SHAPES = {"embed": (48, 8), "class": (1, 1, 8), "query": (8, 8), "scale": (1, 1, 8), "head": (8, 5)}
PARAMS = drawn(0, SHAPES)
READ = {
    "token": lambda x: x[:, 0],
    "mean": lambda x: x[:, 1:].mean(1),
    "all": lambda x: x.mean(1),
    "both": lambda x: (x[:, 0] + x[:, 1:].mean(1)) / 2,
}
EXPECTED = {"token": "block0", "mean": "norm", "all": "norm", "both": "norm"}


@functools.cache
def transformer(pool):
    """The same function for all parameters, whose programs are compiled once."""
    return lambda params, images: READ[pool](blocks(params, images)) @ params["head"]


def adapted(pool, params=PARAMS, **about):
    return from_function(transformer(pool), params, preprocess=PREPROCESS, tokens=GRID, **about)


@pytest.mark.parametrize(
    "pool", ["token", "mean", *(pytest.param(pool, marks=pytest.mark.slow) for pool in ("all", "both"))]
)
def test_the_default_of_a_transformer_is_the_last_that_its_head_hears_of(pool):
    model = adapted(pool)
    for method in ("grad-cam", "layer-cam"):
        explain = make_explainer(model, method=method, top_k=2, size=None)
        assert explain.layer == EXPECTED[pool]
        assert np.abs(np.asarray(explain(PICTURES).maps)).max((2, 3)).min() > 0


@pytest.mark.parametrize("layer", ["block1", "norm"])
def test_a_layer_of_which_the_class_token_alone_is_read_is_refused(layer):
    words = f"scores of model do not depend on layer '{layer}' at any position on the image; they depend on layer="
    with pytest.raises(LayerError, match=words + "'block0'"):
        make_explainer(adapted("token"), method="grad-cam", layer=layer)
    with pytest.raises(LayerError, match=f"do not depend on layer '{layer}' at any"):
        adapted("token", layer=layer)
    with pytest.raises(LayerError, match=f"do not depend on layer '{layer}' at any"):
        make_explainer(Model(PARAMS, transformer("token"), PREPROCESS, layer=layer, tokens=GRID), method="grad-cam")
    for named in ("tokens", "block0", "input"):
        assert make_explainer(adapted("token"), method="grad-cam", layer=named).layer == named
    assert make_explainer(adapted("mean"), method="grad-cam", layer=layer).layer == layer


def zeros(params):
    return jax.tree.map(np.zeros_like, params)


def on_a_mesh(axes, spec):
    mesh = jax.make_mesh((2,), ("model",), devices=jax.devices()[:2], axis_types=(axes,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    return lambda params: jax.device_put(
        params, jax.tree.map(lambda leaf: sharding if leaf.ndim == 2 else None, params)
    )


KINDS = {
    "a head that begins with zeros": lambda params: {**params, "head": zeros(params["head"])},
    "zeros": zeros,
    "NaN": lambda params: jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), params),
    "shapes": lambda params: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params),
    "on every device": on_a_mesh(jax.sharding.AxisType.Auto, ()),
    "on every device, explicitly": on_a_mesh(jax.sharding.AxisType.Explicit, ()),
    "divided": on_a_mesh(jax.sharding.AxisType.Auto, ("model",)),
    "divided, explicitly": on_a_mesh(jax.sharding.AxisType.Explicit, ("model",)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_does_not_go_by_the_values_of_the_parameters(kind):
    params = KINDS[kind](PARAMS)
    for pool in ("token", "mean"):
        model = adapted(pool, params)
        assert make_explainer(model, method="grad-cam").layer == EXPECTED[pool]
    with pytest.raises(LayerError, match="do not depend on layer 'norm'"):
        make_explainer(adapted("token", params), method="grad-cam", layer="norm")


def test_parameters_that_are_being_traced():
    @jax.jit
    def maps(params, pictures):
        explain = make_explainer(adapted("token", params), method="grad-cam", top_k=1, size=None)
        assert explain.layer == "block0"
        return explain(pictures).maps

    expected = make_explainer(adapted("token"), method="grad-cam", top_k=1, size=None)(PICTURES).maps
    np.testing.assert_allclose(maps(PARAMS, PICTURES), expected, rtol=1e-4, atol=1e-5)


class Encoder(nnx.Module):
    """As Flax's users write one."""

    def __init__(self, rngs):
        self.patch = nnx.Conv(3, 8, (4, 4), strides=4, rngs=rngs)
        self.token = nnx.Param(jnp.ones((1, 1, 8)))
        self.norm1, self.norm2, self.norm = (nnx.LayerNorm(8, rngs=rngs) for _ in range(3))
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.mlp = nnx.Linear(8, 8, rngs=rngs)
        self.head = nnx.Linear(8, 5, rngs=rngs, kernel_init=nnx.initializers.zeros)

    def __call__(self, images):
        x = self.patch(images).reshape(len(images), -1, 8)
        x = jnp.concatenate([jnp.broadcast_to(self.token[...], (len(x), 1, 8)), x], 1)
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm(x)[:, 0])


def test_an_encoder_in_flax_is_explained_where_its_last_attention_reads():
    """Queries, keys and values by heads are no layers of the image, though they come later."""
    module = Encoder(nnx.Rngs(0))
    module.eval()
    model = from_nnx(module, preprocess=PREPROCESS, tokens=GRID)
    assert make_explainer(model, method="grad-cam").layer == "norm1"
    for layer in ("norm", "norm2", "mlp", "attention"):
        with pytest.raises(LayerError, match=f"do not depend on layer '{layer}' at any position on the image"):
            make_explainer(model, method="grad-cam", layer=layer)


class TwoHeads(linen.Module):
    """Gives its logits, and a second head's, as some networks do in evaluation, too."""

    @linen.compact
    def __call__(self, images):
        x = linen.relu(linen.Conv(4, (3, 3), name="trunk")(images))
        logits = linen.Dense(5, name="fc")(x.mean((1, 2)))
        beside = linen.Conv(4, (3, 3), name="beside")(x)
        return logits, linen.Dense(5, name="other")(beside.mean((1, 2)))


def test_a_branch_beside_the_logits_is_no_default_and_refused():
    module = TwoHeads()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 16, 24, 3)))

    class First(linen.Module):
        @linen.compact
        def __call__(self, images):
            return TwoHeads(name="net")(images)[0]

    model = from_linen(First(), {"params": {"net": variables["params"]}}, preprocess=PREPROCESS)
    assert make_explainer(model, method="grad-cam").layer == "net/trunk"
    words = re.escape("scores of model do not depend on layer 'net/beside'; they depend on layer='net/trunk'")
    with pytest.raises(LayerError, match=words):
        make_explainer(model, method="grad-cam", layer="net/beside")

    def nothing(params, images):
        named_array(images, "lost")
        return images.mean((1, 2)) @ params

    with pytest.raises(LayerError, match=r"scores of model depend on none of its layers that lie on the image.*'lost'"):
        from_function(nothing, np.ones((3, 5), np.float32), preprocess=PREPROCESS)


def chain(after, name="last"):
    """A network whose last layer is followed by something."""

    def forward(params, images):
        x = named_array(images @ params["mix"], "first")
        x = named_array(jax.nn.relu(x), name)
        return after(x).mean((1, 2)) @ params["head"]

    return forward


CHAIN = drawn(1, {"mix": (3, 6), "head": (6, 5)})


def looped(x):
    return jax.lax.while_loop(lambda state: state[0] < 2, lambda state: (state[0] + 1, state[1] * 2), (0, x))[1]


def test_a_network_without_gradients_is_asked_by_changes():
    model = from_function(chain(looped), CHAIN, preprocess=PREPROCESS)
    assert make_explainer(model, method="eigen-cam").layer == "last"

    def token(params, images):
        x = looped(blocks(params, images))
        return x[:, 0] @ params["head"]

    model = from_function(token, PARAMS, preprocess=PREPROCESS, tokens=GRID)
    assert make_explainer(model, method="eigen-cam").layer == "block0"
    with pytest.raises(LayerError, match="do not depend on layer 'norm'"):
        make_explainer(model, method="eigen-cam", layer="norm")


@pytest.mark.parametrize("stops", [jnp.round, jax.lax.stop_gradient])
def test_a_layer_without_a_gradient_is_warned_of(stops):
    def forward(params, images):
        x = named_array(100 * images @ params["mix"], "first")
        return named_array(stops(x), "last").mean((1, 2)) @ params["head"]

    model = from_function(forward, CHAIN, preprocess=PREPROCESS)
    assert make_explainer(model, method="grad-cam").layer == "last"
    with pytest.warns(UserWarning, match="have no gradient at layer 'first', though they depend on it"):
        make_explainer(model, method="recipro-cam", layer="first")

    def ends(params, images):
        return stops(100 * named_array(images @ params["mix"], "only").mean((1, 2)) @ params["head"])

    with pytest.warns(UserWarning, match="have no gradient at layer 'only'"):
        model = from_function(ends, CHAIN, preprocess=PREPROCESS)


BENT = {
    "saturates": lambda x: jax.nn.relu(0.02 - jnp.abs(x - 0.1)),
    "begins late": lambda x: jax.nn.relu(x - 50),
}


@pytest.mark.parametrize("bend", BENT)
@pytest.mark.parametrize("kind", [lambda params: params, KINDS["shapes"]], ids=["values", "shapes"])
def test_what_has_no_gradient_almost_everywhere_is_tried_again(bend, kind):
    """Of random features of another size, some lie where it has one."""

    def forward(params, images):
        x = named_array(images @ params["mix"], "last")[:, :2, :2]  # few positions
        return BENT[bend](x).mean((1, 2)) @ params["head"]

    model = from_function(forward, kind(CHAIN), preprocess=PREPROCESS)
    assert make_explainer(model, method="grad-cam").layer == "last"


def test_the_layers_of_several_sizes_reach_the_scores_too():
    def forward(params, images):
        x = named_array(images @ params["mix"], "large")
        y = named_array(x[:, ::2, ::2], "small")
        named_array(x * 2, "beside")
        named_array(y * 2, "beside too")
        return y.mean((1, 2)) @ params["head"]

    model = from_function(forward, CHAIN, preprocess=PREPROCESS)
    explain = make_explainer(model, method="refine-cam")
    assert (*explain.plan.above, explain.layer) == ("large", "small")
    named = from_function(forward, CHAIN, preprocess=PREPROCESS, layer="large")
    explain = make_explainer(named, method="refine-cam")
    assert (*explain.plan.above, explain.layer) == ("large", "small")
    with pytest.raises(LayerError, match="do not depend on layer 'beside'"):
        make_explainer(model, method="layer-cam", layer=("beside", "small"))


def test_an_early_layer_is_not_compiled_for(caplog):
    """What leads to the default layer, which is known to reach the scores, is told by the program alone."""
    function = lambda params, images: transformer("token")(params, images)  # noqa: E731  (nothing is compiled of it yet)
    model = from_function(function, PARAMS, preprocess=PREPROCESS, tokens=GRID)
    make_explainer(model, method="grad-cam")
    with jax.log_compiles():
        make_explainer(model, method="grad-cam", layer="tokens")
    assert not [record.args for record in caplog.records if record.msg.startswith("Compiling")]


def test_hires_cam_right_before_a_layer_normalisation_is_nearly_zero():
    """As docs/networks.md says: what normalises a token does not change when that is scaled."""

    def forward(params, images):
        x = named_array(images @ params["mix"], "before")
        return normalised(x).mean((1, 2)) @ params["head"]

    model = from_function(forward, CHAIN, preprocess=PREPROCESS)
    hires, layer = (make_explainer(model, method=one, size=None)(PICTURES).maps for one in ("hires-cam", "layer-cam"))
    assert np.abs(hires).max() < 1e-4 * np.abs(layer).max()


def test_nothing_is_warned_of_usually():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapted("token")
