"""What is checked of a network once, when it is adapted: each image's outputs are its own, and no probabilities."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from toys import drawn, uint8_images

from camjax import Preprocess, TokenGrid, from_function, from_linen, from_nnx, make_explainer
from camjax.core.adapters import checks
from camjax.core.names import named_array

PREPROCESS = Preprocess(input_size=(8, 12))
PARAMS = drawn(0, {"mix": (3, 6), "head": (6, 5), "one": (6, 1)})


def network(params, images, normalise=lambda x: x, end=lambda logits: logits, head="head"):
    x = named_array(jax.nn.relu(normalise(images @ params["mix"])), "layer")
    return end(x.mean((1, 2)) @ params[head])


def adapted(params=PARAMS, adapt=from_function, **changes):
    about = {name: changes.pop(name) for name in ("activation", "tokens") if name in changes}
    return adapt(lambda params, images: network(params, images, **changes), params, preprocess=PREPROCESS, **about)


def by_batch(x):
    """Batch normalisation written by hand, in training mode."""
    return (x - x.mean((0, 1, 2), keepdims=True)) / jnp.sqrt(x.var((0, 1, 2), keepdims=True) + 1e-5)


def by_image(x):
    return (x - x.mean((1, 2), keepdims=True)) / jnp.sqrt(x.var((1, 2), keepdims=True) + 1e-5)


MIXES = {
    "statistics of the batch": by_batch,
    "a little of its mean": lambda x: x + 0.05 * x.mean(0, keepdims=True),
    "a trace of its mean": lambda x: x + 0.003 * x.mean((0, 1, 2), keepdims=True),
    "its largest": lambda x: x / (1 + jnp.abs(x).max()),
    "another order": lambda x: x[::-1],
    "attention among images": lambda x: jnp.einsum(
        "bc,bhwk->chwk", jax.nn.softmax(x.mean((1, 2)) @ x.mean((1, 2)).T), x
    ),
}
WORDS = "outputs of model for one image depend on the other images of the batch"
SHAPED = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), PARAMS)
NEW_HEAD = {**PARAMS, "head": np.zeros((6, 5), np.float32)}


@pytest.mark.parametrize("kind", MIXES)
def test_outputs_that_depend_on_other_images_are_refused(kind):
    with pytest.raises(ValueError, match=WORDS + r".*is_training=False"):
        adapted(normalise=MIXES[kind])


def test_statistics_of_the_batch_behind_the_pooling_are_the_reason():
    """One image alone, normalised by itself, leaves nothing of any layer."""
    with pytest.raises(ValueError, match=WORDS):
        adapted(end=lambda x: (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5))


@pytest.mark.parametrize("params", [SHAPED, NEW_HEAD], ids=["shapes", "a head that begins with zeros"])
def test_parameters_do_not_hide_it(params):
    with pytest.raises(ValueError, match=WORDS):
        adapted(params, normalise=by_batch)
    assert adapted(params, normalise=by_image).layer is None


AUTO, EXPLICIT = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit


@pytest.mark.parametrize(
    ("axes", "name", "spec"),
    [
        (AUTO, "mix", ()),
        (AUTO, "mix", (None, "model")),
        (EXPLICIT, "mix", (None, "model")),
        (EXPLICIT, "head", ("model",)),
    ],
)
def test_parameters_on_several_devices(axes, name, spec):
    mesh = jax.make_mesh((2,), ("model",), devices=jax.devices()[:2], axis_types=(axes,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    params = {**PARAMS, name: jax.device_put(PARAMS[name], sharding)}
    with pytest.raises(ValueError, match=WORDS):
        adapted(params, normalise=by_batch)
    assert adapted(params, normalise=by_image).layer is None


def test_large_networks_without_values_are_not_tried(monkeypatch):
    monkeypatch.setattr(checks, "LARGEST", 100)
    assert adapted(SHAPED, normalise=by_batch).layer is None
    with pytest.raises(ValueError, match=WORDS):
        adapted(normalise=by_batch)


class OwnNorm(linen.Module):
    @linen.compact
    def __call__(self, images):
        x = linen.Conv(4, (3, 3), name="conv")(images)
        return linen.Dense(5)(linen.relu(by_batch(x)).mean((1, 2)))


class OwnNNXNorm(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.fc = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, images):
        return self.fc(nnx.relu(by_batch(self.conv(images))).mean((1, 2)))


def test_every_adapter_refuses_it():
    module = OwnNorm()
    with pytest.raises(ValueError, match=WORDS):
        from_linen(module, module.init(jax.random.key(0), jnp.zeros((1, 8, 12, 3))), preprocess=PREPROCESS)
    with pytest.raises(ValueError, match=WORDS):
        from_nnx(OwnNNXNorm(nnx.Rngs(0)), preprocess=PREPROCESS)


def sharpened(logits):
    """A softmax written by hand."""
    x = jnp.exp(3 * logits - (3 * logits).max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


ENDS = {
    "softmax": (jax.nn.softmax, "head"),
    "by hand": (sharpened, "head"),
    "in bfloat16": (lambda logits: jax.nn.softmax(logits.astype(jnp.bfloat16)), "head"),
    "sigmoid": (jax.nn.sigmoid, "head"),
    "of one output": (lambda logits: jax.nn.sigmoid(logits)[:, :1], "one"),
    "inside jit": (lambda logits: jax.jit(lambda x: jax.nn.sigmoid(x).T.reshape(5, -1).T)(logits), "head"),
}


@pytest.mark.parametrize(("activation", "end"), [*((None, end) for end in ENDS), ("softmax", "softmax")])
def test_outputs_that_are_probabilities_already_are_warned_of(activation, end):
    function, head = ENDS[end]
    words = "outputs of model look like probabilities, not logits; pass activation='none' if they are"
    with pytest.warns(UserWarning, match=words):
        adapted(end=function, head=head, activation=activation)
    model = adapted(end=function, head=head, activation="none")  # warnings are errors here
    result = make_explainer(model, method="grad-cam", top_k=1, size=None)(uint8_images(1, 8, 12))
    expected = np.asarray(result.logits, np.float32).max(1, keepdims=True)
    np.testing.assert_allclose(result.probabilities, expected, rtol=5e-3)  # what is bfloat16 may be more, inside


def test_probabilities_are_known_by_their_shapes_only_too():
    with pytest.warns(UserWarning, match="look like probabilities"):
        adapted(SHAPED, end=jax.nn.softmax)
    with pytest.warns(UserWarning, match="look like probabilities"):
        adapted(NEW_HEAD, end=jax.nn.softmax)


@pytest.mark.parametrize(
    "end",
    [
        lambda logits: logits,
        jax.nn.relu,
        jax.nn.log_softmax,
        lambda logits: logits / logits.sum(-1, keepdims=True),  # rows of signed numbers
        lambda logits: 2 * jax.nn.sigmoid(logits) - 1,
        lambda logits: logits.mean(-1, keepdims=True) ** 2,
    ],
)
def test_other_outputs_are_not(end):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert adapted(end=end).activation is None


def test_what_is_not_a_number_is_no_batch_that_mixes():
    broken = {**PARAMS, "mix": np.full((3, 6), np.nan, np.float32)}
    assert adapted(broken).layer is None
    with pytest.raises(ValueError, match=WORDS):
        adapted(broken, normalise=by_batch)


def test_it_is_tried_once_and_by_one_program(caplog):
    forward = lambda params, images: network(params, images)  # noqa: E731
    from_function(forward, PARAMS, preprocess=PREPROCESS)
    with jax.log_compiles():
        from_function(forward, PARAMS, preprocess=PREPROCESS)
    assert not [record.args for record in caplog.records if record.msg.startswith("Compiling")]


class Switched:
    """A network that its user changes in place."""

    def __init__(self, normalise, factor=1):
        self.normalise, self.factor = normalise, factor

    def __call__(self, params, images):
        return network(params, images, normalise=self.normalise, end=lambda logits: self.factor * logits)


class SwitchedModule(linen.Module):
    """A Linen module with such an attribute."""

    network: Switched

    @linen.compact
    def __call__(self, images):
        params = {name: self.param(name, lambda _, name=name: jnp.asarray(PARAMS[name])) for name in PARAMS}
        return self.network(params, images)


@pytest.mark.parametrize("adapt", [from_function, from_linen])
def test_a_network_is_seen_as_it_is_when_it_is_adapted(adapt):
    net = Switched(by_batch)
    module, params = (net, PARAMS) if adapt is from_function else (SwitchedModule(net), {"params": PARAMS})
    with pytest.raises(ValueError, match=WORDS):
        adapt(module, params, preprocess=PREPROCESS)
    net.normalise = by_image
    images = uint8_images(1, 8, 12)
    once, twice = [], []
    for factor, results in ((1, once), (2, twice)):
        net.factor = factor
        model = adapt(module, params, preprocess=PREPROCESS)
        results.extend(make_explainer(model, method="grad-cam", top_k=1, size=None)(images)[i] for i in (0, 3))
    for first, second in zip(once, twice, strict=True):
        np.testing.assert_allclose(2 * first, second, rtol=1e-5)


def test_arrays_that_a_function_holds_are_seen_too():
    held = {"head": jnp.asarray(PARAMS["head"])}

    def forward(params, images):
        return network({**params, **held}, images)

    def logits():
        model = from_function(forward, PARAMS, preprocess=PREPROCESS)
        return make_explainer(model, method="grad-cam", top_k=1, size=None)(uint8_images(1, 8, 12)).logits

    first = logits()
    held["head"] = 2 * held["head"]
    np.testing.assert_allclose(logits(), 2 * first, rtol=1e-5)


def test_no_batch_in_the_outputs_for_one_image_is_refused():
    with pytest.raises(ValueError, match=r"gives \(5,\) for \(1, 8, 12, 3\) images, not logits \(b, n\)"):
        adapted(end=jnp.squeeze)


def test_rows_of_tokens_are_each_images_own():
    def tokens(params, images):
        x = images.reshape(len(images), 2, 4, 3, 4, 3).mean((2, 4)).reshape(len(images), 6, 3)
        x = named_array(x @ params["mix"], "tokens")
        mean = x.mean((0, 1), keepdims=True) if params["mixes"] else x.mean(1, keepdims=True)
        return (x - mean)[:, 0] @ params["head"]

    grid = TokenGrid(patch=(4, 4))
    for mixes in (False, True):
        function = lambda params, images, mixes=mixes: tokens({**params, "mixes": mixes}, images)  # noqa: E731
        if mixes:
            with pytest.raises(ValueError, match=re.escape(WORDS)):
                from_function(function, PARAMS, preprocess=PREPROCESS, tokens=grid)
        else:
            assert from_function(function, PARAMS, preprocess=PREPROCESS, tokens=grid).tokens == grid
