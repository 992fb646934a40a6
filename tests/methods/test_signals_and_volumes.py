"""Methods of every pattern on signals `(b, t, c)` and volumes `(b, d, h, w, c)`, through bare functions, by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import relative_error
from methods.test_methods import few
from methods.test_rules import by_hand, principal

from camjax.core.model import Model
from camjax.core.names import named_array
from camjax.errors import LayerError
from camjax.methods.augmented import Augmented
from camjax.methods.full import FullGrad
from camjax.methods.method import ATTENTION
from camjax.methods.path import Integrated
from camjax.methods.registry import METHODS
from camjax.methods.tail import Look, network_tail
from camjax.methods.target import Wanted
from camjax.methods.windows import Occlusion, Rise

SPACES = [(14,), (4, 6, 8)]
CLASSES = (3, 0)
WANTED = Wanted("logit", jax.device_put(np.asarray(CLASSES)), 2)
CHANNELS = 5  # as `by_hand` has them
WINDOWS = Occlusion(window=0.5, step=0.25)
RANDOM = Rise(samples=9, cells=3)
PATH = Integrated(steps=3)
PARAMS = {
    name: np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    for seed, (name, shape) in enumerate(
        {"mix": (2, CHANNELS), "bias": (CHANNELS,), "after": (CHANNELS, 6), "shift": (6,), "head": (6, 4)}.items()
    )
}


def halved(x):
    """The mean of each two neighbours, along every spatial axis."""
    for axis in range(1, x.ndim - 1):
        x = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :]).mean(axis + 1)
    return x


def before(x):
    bias = jnp.broadcast_to(PARAMS["bias"], (*(side // 2 for side in x.shape[1:-1]), CHANNELS))
    return jax.nn.relu(halved(x) @ PARAMS["mix"] + bias[None])


def after(layer):
    space = tuple(range(1, layer.ndim - 1))
    mixed = sum(jnp.roll(layer, 1, axis) * (axis + 1) for axis in space) - layer
    hidden = jax.nn.relu(mixed @ PARAMS["after"] + jnp.broadcast_to(PARAMS["shift"], (*layer.shape[:-1], 6)))
    return hidden.mean(space) @ PARAMS["head"]


MODEL = Model({}, lambda _, x: after(named_array(before(x), "layer")), name="bare")


def inputs(space):
    return jax.device_put(np.random.default_rng(7).normal(size=(2, *space, 2)).astype(np.float32))


def looked(x, layer):
    return Look(x, functools.partial(network_tail, MODEL, layer), functools.partial(MODEL.forward, {}), lambda: 5)


def look_at(name, x):
    """At the layer of a method."""
    return looked(x, METHODS[name].layer or "layer")


BY_HAND = (
    *("grad-cam", "hires-cam", "element-wise", "layer-cam", "xgrad-cam", "grad-cam++", "eigen-grad-cam"),
    *("seg-eigen-cam", "eigen-cam", "score-cam", "ablation-cam", "recipro-cam"),
    *("gradient", "gradient-x-input", "full-grad"),
)
OWN = {"windows": WINDOWS, "random": RANDOM, "path": PATH, "by channel": FullGrad(by_channel=True)}


@functools.cache
def every(space):
    """The maps that are made by hand below; one program."""

    @jax.jit
    def program(x):
        maps = {name: METHODS[name].explain(look_at(name, x), WANTED).maps for name in BY_HAND}
        return maps | {name: method(looked(x, "input"), WANTED).maps for name, method in OWN.items()}

    return {name: np.asarray(maps) for name, maps in program(inputs(space)).items()}


@functools.partial(jax.jit, static_argnums=0)
def gradients(function, x):
    """Of each class's score at every place: `(2, k, *space, c)`."""
    return jnp.stack([jax.grad(lambda x, c=c: function(x)[:, c].sum())(x) for c in CLASSES], 1)


def forward(x):
    return after(before(x))


@functools.cache
def layer_of(space):
    return np.asarray(jax.jit(before)(inputs(space)))


def scores(function, x):
    return np.asarray(jax.jit(function)(np.asarray(x, np.float32)))[:, CLASSES].astype(np.float64)


def resized(array, size):
    """Linear interpolation between the centres of cells, axis by axis; the first axes stay."""
    for axis, side in enumerate(size, array.ndim - len(size)):
        length = array.shape[axis]
        at = (np.arange(side) + 0.5) * length / side - 0.5
        array = np.apply_along_axis(
            lambda row, at=at, length=length: np.interp(at, np.arange(length), row), axis, array
        )
    return array


def to_unit(array):
    return (array - array.min()) / np.ptp(array) if np.ptp(array) else np.zeros_like(array)


@pytest.mark.parametrize("space", SPACES)
def test_every_method_gives_a_map_of_its_layers_shape(space):
    for name, method in METHODS.items():
        if method.explain is not None and method.needs != ATTENTION:  # that is of tokens, not of places
            explain = few(name).explain
            maps = jax.eval_shape(lambda x, n=name, e=explain: e(look_at(n, x), WANTED).maps, inputs(space))
            of_input = method.layer == "input" or name in ("guided-grad-cam", "group-cam", "opti-cam")
            assert maps.shape == (2, 2, *(space if of_input else (side // 2 for side in space))), name


@pytest.mark.parametrize("space", SPACES)
def test_gradient_and_class_free_methods_by_hand(space):
    layer, found = layer_of(space), every(space)
    slopes = np.asarray(gradients(after, layer))
    for row, rank in itertools.product(range(2), range(2)):
        expected = by_hand(np.asarray(layer[row], np.float64), np.asarray(slopes[row, rank], np.float64))
        rows = np.asarray(layer[row], np.float64).reshape(-1, CHANNELS)
        expected["eigen-cam"] = principal(rows).reshape(layer.shape[1:-1])
        for name, map_ in expected.items():
            assert relative_error(found[name][row, rank], map_) < 1e-4, name


@pytest.mark.parametrize("space", SPACES)
def test_score_cam_by_hand(space):
    x = np.asarray(inputs(space))
    layer = layer_of(space).astype(np.float64)
    weights = np.zeros((CHANNELS, 2, 2))
    for channel in range(CHANNELS):
        masks = np.stack([to_unit(resized(each[..., channel], space)) for each in layer])
        weights[channel] = scores(forward, x * masks[..., None])
    weights = np.exp(weights) / np.exp(weights).sum(0)
    assert relative_error(every(space)["score-cam"], np.einsum("b...c,cbk->bk...", layer, weights)) < 1e-4


@pytest.mark.parametrize("space", SPACES)
def test_ablation_and_recipro_cam_by_hand(space):
    layer = layer_of(space)
    clean, found = scores(after, layer), every(space)
    ablation, recipro = (np.zeros(found["ablation-cam"].shape) for _ in range(2))
    for channel in range(CHANNELS):
        fall = clean - scores(after, np.where(np.arange(CHANNELS) == channel, 0, layer))
        ablation += np.einsum("bk,b...->bk...", fall, layer[..., channel])
    for place in np.ndindex(layer.shape[1:-1]):
        alone = np.zeros_like(layer)
        alone[:, *place] = layer[:, *place]
        recipro[:, :, *place] = scores(after, alone)
    assert relative_error(found["ablation-cam"], ablation) < 1e-4
    assert relative_error(found["recipro-cam"], recipro) < 1e-5


@pytest.mark.parametrize("space", SPACES)
def test_rise_and_occlusion_by_hand(space):
    x, clean = np.asarray(inputs(space)), scores(forward, inputs(space))
    mask = jax.jit(jax.vmap(lambda number: RANDOM.mask(number, space)))
    masks = np.asarray(mask(np.arange(RANDOM.samples)), np.float64)
    assert masks.shape == (RANDOM.samples, *space)
    assert 0 <= masks.min() < masks.max() <= 1 + 1e-6
    shown = sum(np.einsum("bk,...->bk...", scores(forward, x * mask[..., None]), mask) for mask in masks)
    assert relative_error(every(space)["random"], shown / masks.sum(0)) < 1e-5

    extents, steps = ([max(1, round(part * side)) for side in space] for part in (0.5, 0.25))
    starts = [
        [*range(0, side - extent, step), side - extent]
        for side, extent, step in zip(space, extents, steps, strict=True)
    ]
    falls, times = np.zeros((2, 2, *space)), np.zeros(space)
    for corner in itertools.product(*starts):
        window = tuple(slice(start, start + extent) for start, extent in zip(corner, extents, strict=True))
        hidden = x.copy()
        hidden[:, *window] = 0
        falls[:, :, *window] += np.expand_dims(clean - scores(forward, hidden), tuple(range(2, 2 + len(space))))
        times[window] += 1
    assert times.min() < times.max()
    assert relative_error(every(space)["windows"], falls / times) < 1e-4


@pytest.mark.parametrize("space", SPACES)
def test_methods_of_the_input_by_hand(space):
    x, found = np.asarray(inputs(space)), every(space)
    places = int(np.prod(space))
    points, weights = np.polynomial.legendre.leggauss(PATH.steps)
    way = zip((points + 1) / 2, weights / 2, strict=True)
    mean = sum(weight * np.asarray(gradients(forward, x * np.float32(point))) for point, weight in way)
    slopes = np.asarray(gradients(forward, x))
    expected = {
        "path": (mean * x[:, None]).sum(-1),
        "gradient-x-input": (slopes * x[:, None]).sum(-1),
        "gradient": np.abs(slopes).max(-1),
    }
    for name, map_ in expected.items():
        assert relative_error(found[name], places * map_) < 1e-5, name


@pytest.mark.parametrize("space", SPACES)
def test_full_grad_by_hand(space):
    x, layer = np.asarray(inputs(space)), layer_of(space)
    bias = np.broadcast_to(PARAMS["bias"], layer.shape)
    shift = np.broadcast_to(PARAMS["shift"], (*layer.shape[:-1], 6))

    def from_bias(bias):
        return after(jax.nn.relu(halved(x) @ PARAMS["mix"] + bias))

    def from_shift(shift):
        axes = tuple(range(1, layer.ndim - 1))
        mixed = sum(jnp.roll(layer, 1, axis) * (axis + 1) for axis in axes) - layer
        return jax.nn.relu(mixed @ PARAMS["after"] + shift).mean(axes) @ PARAMS["head"]

    terms = [
        x[:, None] * np.asarray(gradients(forward, x)),
        bias[:, None] * np.asarray(gradients(from_bias, bias)),
        shift[:, None] * np.asarray(gradients(from_shift, shift)),
    ]
    found = every(space)
    for row, rank in itertools.product(range(2), range(2)):
        sizes = [np.abs(term[row, rank].astype(np.float64)) for term in terms]
        alike = sum(resized(to_unit(size).sum(-1), space) for size in sizes)
        by_channel = sum(resized(to_unit(channel), space) for size in sizes for channel in np.moveaxis(size, -1, 0))
        assert relative_error(found["full-grad"][row, rank], alike) < 1e-4
        assert relative_error(found["by channel"][row, rank], by_channel) < 1e-4


def test_a_signal_is_mirrored_in_time_and_not_in_its_channels():
    explain = METHODS["hires-cam"].explain

    @jax.jit
    def program(x):
        both = Augmented(explain, contrasts=(1.0,))(looked(x, "layer"), WANTED).maps
        return both, *(explain(looked(each, "layer"), WANTED).maps for each in (x, x[:, ::-1]))

    found, plain, turned = jax.tree.map(np.asarray, program(inputs(SPACES[0])))
    np.testing.assert_allclose(found, (plain + turned[..., ::-1]) / 2, rtol=1e-4, atol=1e-5)


def test_a_layer_without_the_inputs_axes_is_refused_in_a_line():
    model = Model({}, lambda _, x: named_array(x.mean(-2), "pooled"), name="bare")
    for space, axes in zip(SPACES, ("the one axis", "the 3 axes"), strict=True):
        tail = network_tail(model, "pooled", inputs(space))
        with pytest.raises(LayerError, match=f"'pooled' of bare is .*, without {axes} that the input lies on"):
            tail.grid(tail.activations)
