"""One toy network in NNX, Linen, Equinox and bare JAX: the same through every adapter as written out by hand.

Tolerance: relative error 1e-5 in float32; sums run in another order.
"""

import copy as copying
import dataclasses
import functools
import pickle
import re

import equimo.models
import equinox as eqx
import jax
import jax.numpy as jnp
import jax_resnet
import numpy as np
import pytest
from compare import relative_error
from flax import linen, nnx
from jax import lax
from toys import uint8_images

import camjax
from camjax import LayerError, Preprocess, TokenGrid, from_equinox, from_function, from_linen, from_nnx, layers, tap
from camjax.core.layers import default_layer
from camjax.core.names import named_array
from camjax.core.pooled import verified
from camjax.explain import program

TOLERANCE = 1e-5
SMALL = Preprocess(input_size=(16, 24))
RNG = np.random.default_rng(0)


def draw(*shape, low=None):
    drawn = RNG.normal(0, 0.4, shape) if low is None else RNG.uniform(low, 1.5, shape)
    return jnp.asarray(drawn, jnp.float32)


WEIGHTS = {
    "conv1": draw(3, 3, 3, 4),
    "scale": draw(4, low=0.5),
    "bias": draw(4),
    "mean": draw(4),
    "var": draw(4, low=0.5),
    "conv2": draw(3, 3, 4, 6),
    "kernel": draw(6, 5),
    "offset": draw(5),
}


def convolve(x, kernel):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=dimensions)


def spread(vector):
    return vector[None, None, None, :]


def tail(w, a):
    """From the output of the first block to the logits."""
    x = jax.nn.relu(convolve(a, w["conv2"]))
    return x.mean((1, 2)) @ w["kernel"] + w["offset"][None, :]


def first_block(w, images):
    x = convolve(images, w["conv1"])
    x = (x - spread(w["mean"])) * spread(w["scale"] * lax.rsqrt(w["var"] + 1e-5)) + spread(w["bias"])
    return jax.nn.relu(x)


def by_function():
    def forward(params, images):
        x = named_array(first_block(params, images), "block1")
        x = named_array(jax.nn.relu(convolve(x, params["conv2"])), "block2")
        return x.mean((1, 2)) @ params["kernel"] + params["offset"][None, :]

    return from_function(forward, WEIGHTS, preprocess=SMALL), "block1", "block2"


class NNXBlock(nnx.Module):
    def __init__(self, inputs, outputs, norm, rngs):
        self.conv = nnx.Conv(inputs, outputs, (3, 3), 2, padding=1, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(outputs, rngs=rngs) if norm else None

    def __call__(self, x):
        x = self.conv(x)
        return nnx.relu(x if self.norm is None else self.norm(x))


class NNXJit(NNXBlock):
    @nnx.jit
    def __call__(self, x):
        return super().__call__(x)


class NNXRemat(NNXBlock):
    @nnx.remat
    def __call__(self, x):
        return super().__call__(x)


class NNXToy(nnx.Module):
    def __init__(self, rngs, first=NNXBlock, second=NNXBlock):
        self.blocks = nnx.List([first(3, 4, True, rngs), second(4, 6, False, rngs)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.fc = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.fc(self.dropout(x.mean((1, 2))))


def nnx_toy(*blocks):
    module = NNXToy(nnx.Rngs(0), *blocks)
    first, second = module.blocks
    first.conv.kernel[...], second.conv.kernel[...] = WEIGHTS["conv1"], WEIGHTS["conv2"]
    norm = first.norm
    for ours, theirs in {"scale": norm.scale, "bias": norm.bias, "mean": norm.mean, "var": norm.var}.items():
        theirs[...] = WEIGHTS[ours]
    module.fc.kernel[...], module.fc.bias[...] = WEIGHTS["kernel"], WEIGHTS["offset"]
    return module


def by_nnx(*blocks):
    module = nnx_toy(*blocks)
    module.eval()
    return from_nnx(module, preprocess=SMALL), "blocks.0", "blocks.1"


class LinenBlock(linen.Module):
    outputs: int
    norm: bool

    @linen.compact
    def __call__(self, x, train):
        x = linen.Conv(self.outputs, (3, 3), 2, padding=1, use_bias=False, name="conv")(x)
        return linen.relu(linen.BatchNorm(use_running_average=not train, name="norm")(x) if self.norm else x)


class LinenToy(linen.Module):
    remat: bool = False

    @linen.compact
    def __call__(self, x, train=True):
        block = linen.remat(LinenBlock, static_argnums=2) if self.remat else LinenBlock
        x = block(4, True, name="block1")(x, train)
        x = block(6, False, name="block2")(x, train)
        x = linen.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return linen.Dense(5, name="fc")(x)


LINEN_VARIABLES = {
    "params": {
        "block1": {"conv": {"kernel": WEIGHTS["conv1"]}, "norm": {"scale": WEIGHTS["scale"], "bias": WEIGHTS["bias"]}},
        "block2": {"conv": {"kernel": WEIGHTS["conv2"]}},
        "fc": {"kernel": WEIGHTS["kernel"], "bias": WEIGHTS["offset"]},
    },
    "batch_stats": {"block1": {"norm": {"mean": WEIGHTS["mean"], "var": WEIGHTS["var"]}}},
}


def by_linen(remat=False):
    model = from_linen(LinenToy(remat), LINEN_VARIABLES, arguments={"train": False}, preprocess=SMALL)
    return model, "block1", "block2"


class EquinoxBlock(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm | None

    def __call__(self, x, state):
        x = self.conv(x)
        if self.norm is not None:
            x, state = self.norm(x, state)
        return jax.nn.relu(x), state


class EquinoxJit(EquinoxBlock):
    @eqx.filter_jit
    def __call__(self, x, state):
        return super().__call__(x, state)


class EquinoxRemat(EquinoxBlock):
    @eqx.filter_checkpoint
    def __call__(self, x, state):
        return super().__call__(x, state)


class EquinoxToy(eqx.Module):
    blocks: list
    dropout: eqx.nn.Dropout
    fc: eqx.nn.Linear

    def __init__(self, key, first=EquinoxBlock, second=EquinoxBlock):
        conv = functools.partial(eqx.nn.Conv2d, kernel_size=3, stride=2, padding=1, use_bias=False, key=key)
        norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
        self.blocks = [first(conv(3, 4), norm), second(conv(4, 6), None)]
        self.dropout = eqx.nn.Dropout(0.5)
        self.fc = eqx.nn.Linear(6, 5, key=key)

    def __call__(self, x, state):
        for block in self.blocks:
            x, state = block(x, state)
        return self.fc(self.dropout(x.mean((1, 2)))), state


def equinox_toy(*blocks):
    module, state = eqx.nn.make_with_state(EquinoxToy)(jax.random.key(0), *blocks)
    norm = module.blocks[0].norm
    state = state.set(norm.batch_state_index, (WEIGHTS["mean"], WEIGHTS["var"]))
    places = {
        lambda m: m.blocks[0].conv.weight: WEIGHTS["conv1"].transpose(3, 2, 0, 1),
        lambda m: m.blocks[1].conv.weight: WEIGHTS["conv2"].transpose(3, 2, 0, 1),
        lambda m: m.blocks[0].norm.weight: WEIGHTS["scale"],
        lambda m: m.blocks[0].norm.bias: WEIGHTS["bias"],
        lambda m: m.fc.weight: WEIGHTS["kernel"].T,
        lambda m: m.fc.bias: WEIGHTS["offset"],
    }
    for where, value in places.items():
        module = eqx.tree_at(where, module, value)
    return module, state


def by_equinox(*blocks):
    module, state = equinox_toy(*blocks)
    return from_equinox(eqx.nn.inference_mode(module), state=state, preprocess=SMALL), "blocks.0", "blocks.1"


WAYS = {
    "function": by_function,
    "nnx": by_nnx,
    "nnx with jit and remat": functools.partial(by_nnx, NNXJit, NNXRemat),
    "linen": by_linen,
    "linen with remat": functools.partial(by_linen, remat=True),
    "equinox": by_equinox,
    "equinox with jit and remat": functools.partial(by_equinox, EquinoxJit, EquinoxRemat),
}


@pytest.fixture(scope="module", params=WAYS)
def way(request):
    return WAYS[request.param]()


@pytest.fixture(scope="module")
def images():
    return draw(3, 16, 24, 3)


def test_logits_activations_and_gradients_equal_those_by_hand(way, images):
    model, first, second = way

    @jax.jit
    def ours(params, images):
        logits, arrays = tap(model.forward, read=[first, second])(params, images)

        def score(d):
            return tap(model.forward, add={first: d})(params, images)[0][:, 2].sum()

        zeros = jnp.zeros_like(arrays[first])
        second_order = jax.jvp(jax.grad(lambda d: score(d) ** 2), (zeros,), (arrays[first],))[1]
        return logits, arrays, jax.grad(score)(zeros), second_order

    a = first_block(WEIGHTS, images)
    logits, arrays, gradient, second_order = ours(model.params, images)
    assert relative_error(logits, tail(WEIGHTS, a)) < TOLERANCE
    assert relative_error(jax.jit(model.forward)(model.params, images), logits) < TOLERANCE
    assert relative_error(arrays[first], a) < TOLERANCE
    assert relative_error(arrays[second], jax.nn.relu(convolve(a, WEIGHTS["conv2"]))) < TOLERANCE

    def by_hand(a):
        return tail(WEIGHTS, a)[:, 2].sum()

    assert relative_error(gradient, jax.grad(by_hand)(a)) < TOLERANCE
    expected = jax.jvp(jax.grad(lambda a: by_hand(a) ** 2), (a,), (a,))[1]
    assert relative_error(second_order, expected) < TOLERANCE


def test_replacing_and_mapping_equal_those_by_hand(way, images):
    model, first, _ = way
    a = first_block(WEIGHTS, images)

    @jax.jit
    def ablated(params):
        def one(channel):
            return tap(model.forward, replace={first: a.at[..., channel].set(0)})(params, images)[0]

        channels = jnp.arange(a.shape[-1])
        return lax.map(one, channels, batch_size=2), jax.vmap(one)(channels)

    expected = np.stack([tail(WEIGHTS, a.at[..., channel].set(0)) for channel in range(a.shape[-1])])
    for found in ablated(model.params):
        assert relative_error(found, expected) < TOLERANCE


def test_explained_by_cam_and_grad_cam_as_by_hand(way):
    model, first, second = way
    pictures = uint8_images(3, 16, 24)
    assert default_layer(model) == second
    result = camjax.make_explainer(model, top_k=2, size=None)(pictures)
    scaled = camjax.normalize_images(jnp.asarray(pictures), SMALL)
    a = first_block(WEIGHTS, scaled)
    x = jax.nn.relu(convolve(a, WEIGHTS["conv2"]))
    expected = camjax.cam_fn(x, WEIGHTS["kernel"], WEIGHTS["offset"], top_k=2)
    np.testing.assert_array_equal(result.classes, expected.classes)
    assert relative_error(result.maps, expected.maps) < TOLERANCE
    inner = camjax.make_explainer(model, method="grad-cam", layer=first, size=None)(pictures, [4])
    gradient = jax.grad(lambda a: tail(WEIGHTS, a)[:, 4].sum())(a)
    assert relative_error(inner.maps[:, 0], jnp.einsum("bhwc,bc->bhw", a, gradient.sum((1, 2)))) < TOLERANCE


@pytest.mark.parametrize(
    "axes", [jax.sharding.AxisType.Explicit, pytest.param(jax.sharding.AxisType.Auto, marks=pytest.mark.slow)]
)
def test_a_sharded_batch_stays_sharded(way, axes):
    model, first, _ = way
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4], axis_types=(axes,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    pictures = uint8_images(4, 16, 24)
    options = {} if axes is jax.sharding.AxisType.Auto else {"method": "grad-cam", "layer": first}
    explain = camjax.make_explainer(model, top_k=2, **options)
    result = explain(jax.device_put(pictures, rows))
    assert all(leaf.sharding.is_equivalent_to(rows, leaf.ndim) for leaf in result)
    np.testing.assert_allclose(result.maps, explain(pictures).maps, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", list(jax.sharding.AxisType)[:2])
def test_each_device_computes_its_own_inside_shard_map(way, axes):
    model, first, _ = way
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2], axis_types=(axes,))
    rows = jax.sharding.PartitionSpec("data")
    images = draw(2, 16, 24, 3)

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(None, rows), out_specs=rows)
    def ours(params, images):
        def squared(d):
            return (tap(model.forward, add={first: d})(params, images)[0][:, 2] ** 2).sum()

        logits, arrays = tap(model.forward, read=[first])(params, images)
        a = arrays[first]
        gradient, second_order = jax.jvp(jax.grad(squared), (a - a,), (a,))
        return logits, a, gradient, second_order

    def by_hand(a):
        return (tail(WEIGHTS, a)[:, 2] ** 2).sum()

    a = first_block(WEIGHTS, images)
    found = ours(model.params, jax.device_put(images, jax.sharding.NamedSharding(mesh, rows)))
    for one, expected in zip(found, (tail(WEIGHTS, a), a, *jax.jvp(jax.grad(by_hand), (a,), (a,))), strict=True):
        assert relative_error(one, expected) < TOLERANCE


def test_layers_are_named_by_their_paths():
    names = {way: list(layers(make()[0])) for way, make in WAYS.items()}
    assert names["function"] == ["block1", "block2"]
    blocks = ["blocks.0.conv", "blocks.0.norm", "blocks.0", "blocks.1.conv", "blocks.1"]
    for kind in ("nnx", "equinox"):
        assert names[kind] == names[f"{kind} with jit and remat"] == [*blocks, "dropout", "fc"]
    blocks = ["block1/conv", "block1/norm", "block1", "block2/conv", "block2"]
    assert names["linen"] == names["linen with remat"] == [*blocks, "Dropout_0", "fc"]


@pytest.mark.parametrize(
    ("image_shape", "expected"),
    [
        (None, (1, 8, 12, 4)),
        ((18, 10), (1, 9, 5, 4)),
        ((18, 10, 3), (1, 9, 5, 4)),
        ([2, 18, 10, 3], (2, 9, 5, 4)),
    ],
)
def test_layers_have_the_shapes_at_images_of_any_size(image_shape, expected):
    found = layers(by_function()[0], image_shape)["block1"]
    assert (found.shape, found.dtype) == (expected, np.float32)


@pytest.mark.parametrize("image_shape", [(), (18,), (1, 2, 18, 10, 3)])
def test_what_is_no_shape_of_images_has_no_layers(image_shape):
    with pytest.raises(ValueError, match=re.escape(f"with channels and a batch before it or not: {image_shape}")):
        layers(by_function()[0], image_shape)


def test_equal_modules_make_equal_functions_and_the_users_own_stay():
    module = nnx_toy()
    module.eval()
    kinds = [type(inner) for _, inner in nnx.iter_modules(module)]
    models = [from_nnx(module, preprocess=SMALL), by_nnx()[0]]
    assert [type(inner) for _, inner in nnx.iter_modules(module)] == kinds
    assert models[0].forward == models[1].forward
    assert by_linen()[0].forward == by_linen()[0].forward
    assert by_equinox()[0].forward == by_equinox()[0].forward


def test_models_and_explainers_are_pickled_and_copied(way):
    model, first, _ = way
    if "by_function" in getattr(model.forward.forward.value, "__qualname__", ""):
        pytest.skip("a function inside another has no name to be found by")
    pictures = uint8_images(2, 16, 24)
    explain = camjax.make_explainer(model, method="grad-cam", layer=first, top_k=2)
    expected = explain(pictures).maps
    for copy in (pickle.loads(pickle.dumps(model)), copying.deepcopy(model)):  # noqa: S301
        again = camjax.make_explainer(copy, method="grad-cam", layer=first, top_k=2)
        np.testing.assert_array_equal(again(pictures).maps, expected)
    for copy in (pickle.loads(pickle.dumps(explain)), copying.deepcopy(explain)):  # noqa: S301
        np.testing.assert_array_equal(copy(pictures).maps, expected)
        assert (copy.plan == explain.plan, hash(copy.plan) == hash(explain.plan)) == (True, True)


class LinenLists(linen.Module):
    """A module without a hash, which is called with an array."""

    widths: list

    @linen.compact
    def __call__(self, x, scale):
        for width in self.widths:
            x = linen.relu(linen.Conv(width, (3, 3))(x))
        return linen.Dense(5)(x.mean((1, 2)) * scale)


class Unhashable:
    """A function with an equality of its own and no hash."""

    def __init__(self, compute):
        self.compute = compute

    def __eq__(self, other):
        return isinstance(other, Unhashable)

    def __call__(self, *arguments):
        return self.compute(*arguments)


def test_what_has_no_hash_is_explained_and_compared_by_identity(monkeypatch):
    traces = []
    explain = program.explained
    monkeypatch.setattr(program, "explained", lambda *a, **k: traces.append(1) or explain(*a, **k))
    program.compiled.cache_clear()
    pictures, module = uint8_images(2, 16, 24), LinenLists([4, 6])
    for one in (module, LinenLists((4, 6))):
        with pytest.raises(TypeError):
            hash(dataclasses.replace(one, widths=[4]))
        for scale in (2.0, jnp.full((1, 6), 2.0), np.full((1, 6), 2.0, np.float32)):
            variables = one.init(jax.random.key(0), jnp.zeros((1, 16, 24, 3)), scale)
            model = from_linen(one, variables, arguments={"scale": scale}, preprocess=SMALL)
            traces.clear()
            results = [camjax.make_explainer(model, method="hires-cam", top_k=2)(pictures) for _ in range(2)]
            assert len(traces) == 1
            logits = one.apply(variables, camjax.normalize_images(jnp.asarray(pictures), SMALL), scale)
            assert relative_error(results[0].logits, logits) < TOLERANCE
    model = by_function()[0]
    wrapped = dataclasses.replace(model, forward=Unhashable(model.forward))
    expected = camjax.make_explainer(model, method="hires-cam", target=jax.nn.softmax)(pictures).maps
    found = camjax.make_explainer(wrapped, method="hires-cam", target=Unhashable(jax.nn.softmax))(pictures).maps
    assert relative_error(found, expected) < TOLERANCE
    program.compiled.cache_clear()


class OwnNorm(nnx.Module):
    """Trains whenever it is called, and has no flag."""

    def __init__(self):
        self.mean = nnx.BatchStat(jnp.zeros(3))
        self.fc = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        self.mean[...] = 0.9 * self.mean[...] + 0.1 * x.mean((0, 1, 2))
        return self.fc((x - spread(self.mean[...])).mean((1, 2)))


class CompiledOwnNorm(OwnNorm):
    @nnx.jit
    def __call__(self, x):
        return super().__call__(x)


class Wrapped(nnx.Module):
    """A layer before a network's rest."""

    def __init__(self, layer):
        self.layer = layer
        self.fc = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.fc(self.layer(x).mean((1, 2)))


class Doubled(nnx.BatchStat):
    """Gives another value than it holds."""

    def get_value(self, **options):
        return 2 * super().get_value(**options)


class Held(nnx.Module):
    """Holds something, with which it does something when it is called."""

    def __init__(self, value, call=lambda held, x: None, kind=nnx.BatchStat):
        self.value = kind(value)
        self.call = call

    def __call__(self, x):
        self.call(self, x)
        return x


class RematDropout(nnx.Dropout):
    @nnx.remat
    def __call__(self, x):
        return super().__call__(x)


class JitHeld(Held):
    @nnx.jit
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Held(None),
        lambda: Held((jnp.zeros(2), jnp.ones(3))),
        lambda: Held(jnp.ones(3), kind=Doubled),
        lambda: JitHeld(jnp.ones(3)),
        lambda: RematDropout(0.5, deterministic=True, rngs=nnx.Rngs(0)),
    ],
)
def test_a_layer_that_changes_nothing_may_hold_anything(layer):
    assert list(layers(from_nnx(Wrapped(layer()), preprocess=SMALL))) == ["layer", "fc"]


@pytest.mark.parametrize(
    ("value", "call", "kind"),
    [
        (None, lambda held, x: held.value.set_value(x), nnx.BatchStat),
        (jnp.ones(3), lambda held, x: delattr(held, "value"), nnx.BatchStat),
        (jnp.ones(3), lambda held, x: held.value.set_value(x.mean((0, 1, 2))), Doubled),
    ],
)
def test_a_layer_that_changes_what_it_holds_is_refused(value, call, kind):
    with pytest.raises(ValueError, match=r"changes layer\.value when it is called"):
        from_nnx(Wrapped(Held(value, call, kind)), preprocess=SMALL)


def nnx_with_dropout():
    module = nnx_toy()
    module.eval()
    module.dropout.train()
    return from_nnx(module, preprocess=SMALL)


def linen_in_training(**arguments):
    return from_linen(LinenToy(), LINEN_VARIABLES, arguments=arguments, preprocess=SMALL)


def linen_with_dropout():
    parts = [linen.Conv(4, (3, 3)), linen.Dropout(0.5, deterministic=False), lambda x: x.mean((1, 2))]
    variables = {"params": {"layers_0": {"kernel": WEIGHTS["conv1"], "bias": WEIGHTS["bias"]}}}
    return from_linen(linen.Sequential(parts), variables, preprocess=SMALL)


@pytest.mark.parametrize(
    ("adapt", "words"),
    [
        (lambda: from_nnx(nnx_toy(), preprocess=SMALL), "blocks.0.norm (BatchNorm) is in training mode"),
        (nnx_with_dropout, "dropout (Dropout) is in training mode (deterministic=False); call module.eval() first"),
        (lambda: from_nnx(OwnNorm(), preprocess=SMALL), "changes mean when it is called"),
        (lambda: from_nnx(CompiledOwnNorm(), preprocess=SMALL), "changes mean when it is called"),
        (linen_in_training, "LinenToy is called in training mode (a normalisation would change"),
        (linen_with_dropout, "Sequential is called in training mode (dropout would change or draw something)"),
        (lambda: from_equinox(equinox_toy()[0], state=equinox_toy()[1]), "use eqx.nn.inference_mode(module)"),
    ],
)
def test_a_network_in_training_mode_is_refused(adapt, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        adapt()


def function(forward, **about):
    return from_function(forward, {}, preprocess=SMALL, **about)


def channels_first(params, images):
    x = named_array(images.transpose(0, 3, 1, 2)[:, :, ::2, ::2], "layer")
    return x.mean((2, 3))


def tokens(params, images):
    x = images.reshape(len(images), 4, 4, 6, 4, 3).mean((2, 4)).reshape(len(images), 24, 3)
    x = named_array(jnp.concatenate([x[:, :1] * 0, x], 1), "tokens")
    return x[:, 1:].mean(1)


def heads(params, images, fixed=False):
    """Tokens of three heads, such as a transformer's queries are; at one size alone, or at any."""
    b, h, w, _ = images.shape
    x = images.reshape(b, h // 4, 4, w // 4, 4, 3).mean((2, 4)).reshape(b, h * w // 16, 3)
    x = named_array(x + params["places"] if fixed else x, "tokens")
    return named_array(x.reshape(b, h * w // 16, 3, 1).transpose(0, 2, 1, 3), "queries").mean((1, 2))


@pytest.mark.parametrize(
    ("adapt", "error", "words"),
    [
        (lambda: function(heads), LayerError, "'queries' of model is (1, 3, 24, 1), tokens by heads or groups"),
        (
            lambda: from_function(
                functools.partial(heads, fixed=True), {"places": jnp.ones((1, 24, 3))}, preprocess=SMALL
            ),
            LayerError,
            "'queries' of model is (1, 3, 24, 1), tokens by heads or groups",
        ),
        (lambda: function(channels_first), LayerError, "'layer' of model is (1, 3, 8, 12), channels first"),
        (lambda: function(tokens), LayerError, "tokens=TokenGrid(prefix=1, patch=(16, 16))"),
        (lambda: function(lambda p, x: x.mean((1, 2))), LayerError, "names none of its arrays"),
        (lambda: function(lambda p, x: (x, x)), ValueError, "wrap it in a function that gives one array"),
        (lambda: function(lambda p, x: x.mean((0, 1, 2))), ValueError, "not logits (b, n)"),
        (lambda: function(lambda p, x: x.argmax(-1)), ValueError, "gives int32, not floats"),
        (lambda: TokenGrid(prefix=1), ValueError, "either patch=(height, width) or shape=(rows, columns)"),
    ],
)
def test_what_is_no_classifier_of_images_is_refused(adapt, error, words):
    with pytest.raises(error, match=re.escape(words)):
        adapt()


def test_a_layer_that_is_asked_for_lies_on_the_image_too():
    def forward(params, images):
        named_array(images.transpose(0, 3, 1, 2)[:, :, ::2, ::2], "first")
        return heads(params, named_array(images, "last"))

    model = function(forward, layer="tokens", tokens=TokenGrid(patch=(4, 4)))
    for layer, words in {"first": "channels first", "queries": "tokens by heads or groups"}.items():
        with pytest.raises(LayerError, match=words):
            camjax.make_explainer(model, method="grad-cam", layer=layer, top_k=1)
    for layer in ("tokens", "last"):
        camjax.make_explainer(model, method="grad-cam", layer=layer, top_k=1)


class Attentive(nnx.Module):
    def __init__(self, places=None):
        rngs = nnx.Rngs(0)
        self.patch = nnx.Conv(3, 6, (4, 4), strides=4, rngs=rngs)
        self.places = None if places is None else nnx.Param(jnp.ones((1, places, 6)))
        self.norm = nnx.LayerNorm(6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 6, 6, out_features=4, decode=False, rngs=rngs)

    def __call__(self, x):
        x = self.patch(x).reshape(len(x), -1, 6)
        x = x if self.places is None else x + self.places[...]
        return self.attention(self.norm(x)).mean(1)


@pytest.mark.parametrize("places", [None, 24])
def test_flaxs_own_attention_has_its_heads_behind_the_tokens(places):
    words = "'attention.value' of model is (1, 24, 2, 3), tokens by heads or groups"
    with pytest.raises(LayerError, match=re.escape(words)):
        from_nnx(Attentive(places), preprocess=SMALL)
    assert from_nnx(Attentive(places), preprocess=SMALL, layer="patch").layer == "patch"


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_columns_that_are_joined_behind_a_map_leave_it_one(rows):
    """As a network has it that reads text, here at one size alone: of several rows, nothing but its user can tell."""

    def forward(params, images):
        x = named_array(images.reshape(len(images), rows, 16 // rows, 24, 3).mean(2), "map")
        x = named_array(x.transpose(0, 2, 1, 3).reshape(len(x), 24, rows * 3), "columns")
        return x.reshape(len(x), -1) @ params

    params = jnp.ones((24 * rows * 3, 4))
    if rows > 1:
        words = f"'map' of model is (1, {rows}, 24, 3), whose axes are not in proportion to the image's 16 x 24"
        with pytest.raises(LayerError, match=re.escape(words)):
            from_function(forward, params, preprocess=SMALL)
    model = from_function(forward, params, preprocess=SMALL, layer="map" if rows > 1 else None)
    assert default_layer(model) == "map"
    camjax.make_explainer(model, method="grad-cam", layer="map", top_k=1)


def test_columns_that_become_one_row_are_a_map():
    def forward(params, images):
        x = named_array(images.mean(1) + params, "columns")
        return named_array(x[:, None], "map").mean((1, 2))

    assert default_layer(from_function(forward, jnp.ones((1, 24, 3)), preprocess=SMALL)) == "map"


def test_a_volume_of_correlations_is_not_channels_first():
    def forward(params, images):
        x = images[:, ::4, ::4]
        return named_array(jnp.einsum("bhwc,bijc->bhwij", x, x).reshape(*x.shape[:3], -1), "volume").mean((1, 2))

    assert default_layer(function(forward)) == "volume"


def test_tokens_become_the_grid_that_they_are_said_to_be():
    pictures = uint8_images(2, 16, 24)
    scaled = camjax.normalize_images(jnp.asarray(pictures), SMALL)
    grid = scaled.reshape(2, 4, 4, 6, 4, 3).mean((2, 4))
    for said in (TokenGrid(prefix=1, patch=(4, 4)), TokenGrid(prefix=1, shape=(4, 6))):
        model = function(tokens, tokens=said)
        result = camjax.make_explainer(model, method="hires-cam", top_k=1, size=None)(pictures, [1])
        assert relative_error(result.maps[:, 0], grid[..., 1]) < TOLERANCE
    wrong = dataclasses.replace(model, tokens=TokenGrid(prefix=0, shape=(4, 6)))
    with pytest.raises(LayerError, match="25 tokens are not 0 and a grid of 4 x 6"):
        camjax.make_explainer(wrong, method="hires-cam", top_k=1)


def drawn(rng, leaf, inputs):
    """Random weights by NumPy, which compiles nothing; no normalisation has a scale of zero, as some begin with."""
    array = rng.normal(0, 1, leaf.shape) / np.sqrt(np.prod(inputs)) if inputs else rng.uniform(0.5, 1.5, leaf.shape)
    return jax.device_put(array.astype(leaf.dtype))


@pytest.mark.slow
def test_a_network_of_a_published_linen_package(caplog):
    module = jax_resnet.ResNet18(n_classes=7)
    outline = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: drawn(rng, leaf, leaf.shape[:-1]), outline)
    model = from_linen(module, variables, preprocess=Preprocess(input_size=(64, 96)))
    images = draw(2, 64, 96, 3)
    inner = "layers_6"
    assert layers(model)[inner].shape == (1, 4, 6, 256)
    parts = [jax_resnet.Sequential(module.layers[:7]), jax_resnet.Sequential(module.layers[7:])]
    split = [jax_resnet.slice_variables(variables, end=7), jax_resnet.slice_variables(variables, start=7)]
    a = jax.jit(parts[0].apply)(split[0], images)

    def score(a, variables):
        return parts[1].apply(variables, a)[:, 3].sum()

    def tapped(d, params):
        logits, arrays = tap(model.forward, add={inner: d}, read=[inner])(params, images)
        return logits[:, 3].sum(), arrays

    gradient, arrays = jax.jit(jax.grad(tapped, has_aux=True))(jnp.zeros_like(a), model.params)
    assert relative_error(arrays[inner], a) < TOLERANCE
    assert relative_error(gradient, jax.jit(jax.grad(score))(a, split[1])) < TOLERANCE
    with jax.log_compiles():
        assert verified(model, default_layer(model)) is not None
    # The trial alone: where a module asks for the shapes of its initial weights, they are not drawn.
    compiled = [record.args[0] for record in caplog.records if record.msg.startswith("Compiling")]
    assert compiled == ["jit(_after)"]


def test_a_network_of_a_published_equinox_package():
    outline = eqx.filter_eval_shape(equimo.models.mobilenetv3_small, num_classes=7)
    rng = np.random.default_rng(0)
    module = jax.tree.map(
        lambda leaf: drawn(rng, leaf, leaf.shape[1:]) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, outline
    )
    with pytest.raises(ValueError, match="is in training mode"):
        from_equinox(module)
    module = eqx.nn.inference_mode(module)
    model = from_equinox(module, preprocess=Preprocess(input_size=(64, 96)))
    images, key = draw(2, 64, 96, 3), jax.random.key(0)
    inner = "layers.7"
    assert layers(model)[inner].shape == (1, 4, 6, 96)
    assert default_layer(model) == "layers.10"

    def until(image):
        x = module.conv1(jnp.moveaxis(image, -1, 0), key=key)
        for layer in module.layers[:8]:
            x = layer(x, key=key)
        return jnp.moveaxis(x, 0, -1)

    def after(a):
        x = jnp.moveaxis(a, -1, 0)
        for layer in module.layers[8:]:
            x = layer(x, key=key)
        return module.classifier(x.mean((1, 2)))

    @jax.jit
    def by_hand(images):
        a = jax.vmap(until)(images)
        return jax.vmap(after)(a), a, jax.grad(lambda a: jax.vmap(after)(a)[:, 3].sum())(a)

    @jax.jit
    def ours(params, images):
        def score(d):
            logits, arrays = tap(model.forward, add={inner: d}, read=[inner])(params, images)
            return logits[:, 3].sum(), (logits, arrays[inner])

        gradient, (logits, a) = jax.grad(score, has_aux=True)(jnp.zeros((2, 4, 6, 96)))
        return logits, a, gradient

    for found, expected in zip(ours(model.params, images), by_hand(images), strict=True):
        assert relative_error(found, expected) < TOLERANCE


def test_an_nnx_networks_text_is_short_and_its_graph_is_hashed_once(monkeypatch):
    """JAX asks a function for both whenever it traces it."""
    model, *_ = by_nnx()
    forward = model.forward.forward.value
    times = []
    monkeypatch.setattr(type(forward.graph.value), "__hash__", lambda graph: times.append(graph) or 0)
    assert hash(model.forward) == hash(dataclasses.replace(model.forward))
    assert hash(forward) == hash(dataclasses.replace(forward))
    assert not times
    assert repr(model.forward).startswith("AdaptedForward(forward=Comparable(NNXForward), ")
    assert repr(forward) == "NNXForward(graph=Comparable(GraphDef))"
    assert "Conv" in repr(forward.graph.value)
