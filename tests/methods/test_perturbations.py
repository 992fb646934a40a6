"""Methods that ask a network many times: what they equal, in what chunks they ask, and what their programs hold."""

import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import images, relative_error
from toys import convolutional, random_head, uint8_images

from camjax.core.model import LinearHead, Model, TokenGrid
from camjax.core.names import named_array
from camjax.explain.explainer import make_explainer
from camjax.methods.ablation import Ablation, Lift, Recipro, lifted_shares
from camjax.methods.gradient import one_hot
from camjax.methods.group import Group
from camjax.methods.optimised import Optimised
from camjax.methods.path import Integrated, SmoothGradient
from camjax.methods.poly import Poly
from camjax.methods.registry import METHODS
from camjax.methods.rules import steepest
from camjax.methods.score import Score, mask
from camjax.methods.tail import Look, head_tail, network_tail
from camjax.methods.target import MethodError, Wanted, score_table
from camjax.methods.windows import Occlusion, Rise

CHANNELS, PLACES = 6, (8, 6)
CLASSES = jax.device_put(np.asarray([4, 0, 2]))
WANTED = Wanted("logit", CLASSES, 3)
AT_LAYER = {
    "score-cam": Score(),
    "ss-cam": Score(samples=3, std=0.5),
    "is-cam": METHODS["is-cam"].explain,
    "ablation-cam": Ablation(),
    "lift-cam": Lift(),
    "recipro-cam": Recipro(),
    # Weighed by what is explained, as the others are, and not always by probabilities.
    "group-cam": Group(groups=4, kernel=7, std=2.0, target=None),
    "poly-cam": Poly(target=None),
    "opti-cam": Optimised(steps=3),
}
AT_INPUT = {
    "rise": Rise(samples=13, cells=4),
    "occlusion": Occlusion(),
    "gradient-x-input": METHODS["gradient-x-input"].explain,
    "integrated-gradients": Integrated(steps=3),
    "smooth-grad": SmoothGradient(steepest, samples=3),
}


def looked(layer, pixels, *, room=32, model=None, params=None):
    model = model or convolutional()
    model = model if params is None else Model(params, model.forward, tokens=model.tokens)
    forward = functools.partial(model.forward, model.params)
    return Look(pixels, functools.partial(network_tail, model, layer), forward, lambda: room)


def every_map(pixels, wanted=WANTED, *, without=frozenset(), **options):
    """By method, at an inner layer or at the input."""
    return {
        name: method(looked(layer, pixels, **options), wanted).maps
        for layer, methods in (("middle", AT_LAYER), ("input", AT_INPUT))
        for name, method in methods.items()
        if name not in without
    }


def pixels_of(batch):
    return jax.device_put(images(batch, 16, 12))


@functools.cache
def of_two():
    """Every map of two pictures, by one program for all tests."""
    return jax.jit(every_map)(pixels_of(2))


def assert_close(found, expected, tolerance=1e-4):
    assert found.keys() == expected.keys()
    for name, maps in expected.items():
        assert found[name].dtype == maps.dtype, name
        assert relative_error(found[name], maps) < tolerance, name


def test_where_a_linear_head_pools_nothing_is_asked_twice():
    features, kernel, bias = random_head(2, *PLACES, CHANNELS)
    tail = head_tail(features, LinearHead(kernel, bias))
    both = (tail, tail._replace(head=None))
    pixels = jax.device_put(np.zeros((2, 16, 12, 3), np.float32))
    known, general = (Look(pixels, lambda _, at=at: at, tail.run) for at in both)
    features, columns = np.asarray(features), np.asarray(kernel)[:, CLASSES]
    weights = features.mean((1, 2))[..., None] * columns[None]
    expected = np.einsum("bhwc,bck->bkhw", features, weights)
    cam = np.moveaxis(features @ columns, -1, 1)
    each = np.asarray(bias)[CLASSES][None, :, None, None]
    probable = WANTED._replace(target="probability")

    @jax.jit
    def maps():
        once = [method(look, WANTED).maps for method in (Ablation(), Lift()) for look in (known, general)]
        twice = [(method(known, probable).maps, method(general, probable).maps) for method in (Ablation(), Lift())]
        return once, twice, Recipro()(known, WANTED).maps

    once, twice, reciprocal = maps()
    for found in once:
        assert relative_error(found, expected) < 1e-5
    for ours, others in twice:
        assert relative_error(ours, others) < 1e-5
    assert relative_error(reciprocal, cam / 48 + each) < 1e-5
    assert "while" not in jax.jit(lambda: Ablation()(known, WANTED)).lower().compile().as_text()


@pytest.mark.parametrize("room", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_chunks_do_not_matter(room):
    # 6 channels, 48 places, 13 masks: five at a time divides none of them.
    pixels = pixels_of(1)
    # These go through the network one by one, or all at once.
    same = {"lift-cam", "gradient-x-input", "integrated-gradients", "smooth-grad"}
    asked = functools.partial(every_map, without=same)
    chunked, together = (jax.jit(functools.partial(asked, room=images))(pixels) for images in (room, 1000))
    assert_close(chunked, together)


def test_rows_of_classes_and_one_score_a_picture():
    pixels = pixels_of(2)

    @jax.jit
    def program(pixels, rows):
        single = Wanted(lambda logits: logits[:, 2], None, 5)
        return every_map(pixels, Wanted("logit", rows, 2)), every_map(pixels, single)

    same, (rows, single) = jax.tree.map(np.asarray, of_two()), program(pixels, np.asarray([[4, 2], [0, 4]]))
    assert_close(rows, {name: maps[np.arange(2)[:, None], [[0, 2], [1, 0]]] for name, maps in same.items()})
    assert_close(single, {name: maps[:, 2:] for name, maps in same.items()})


def test_bfloat16_networks_have_scores_and_maps_in_float32():
    pixels = pixels_of(2)
    # A ReLU of next to nothing opens or shuts with the rounding, and a pixel's gradient with it.
    asked = jax.jit(functools.partial(every_map, without={"gradient-x-input", "integrated-gradients", "smooth-grad"}))
    found, expected = asked(np.asarray(pixels).astype(jnp.bfloat16)), of_two()
    # A fall is a small difference of scores that are rounded themselves.
    tolerances = dict.fromkeys(found, 0.1) | {"occlusion": 0.2}
    for name, tolerance in tolerances.items():
        assert_close({name: found[name]}, {name: expected[name]}, tolerance)


def test_x64_mode_has_the_same_noise_and_masks():
    pixels, expected = np.asarray(pixels_of(2)), of_two()
    params = jax.tree.map(np.asarray, convolutional().params)
    with jax.enable_x64(True):
        cast = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)
        found = jax.jit(every_map)(pixels.astype(np.float64), params=cast)
        for name, maps in found.items():
            assert maps.dtype == jnp.float64, name
            assert relative_error(maps, expected[name]) < 1e-4, name


def test_a_constant_channel_is_a_mask_that_hides():
    channels = np.stack([np.full((3, 4), 2, np.float32), np.arange(12, dtype=np.float32).reshape(3, 4)])
    found = np.asarray(jax.jit(mask, static_argnums=1)(channels, (6, 8)))
    assert not found[0].any()
    assert (found[1].min(), found[1].max()) == (0, 1)
    dead = convolutional().params | {"middle": np.zeros((3, 3, 6, 6), np.float32)}
    maps = jax.jit(lambda pixels, params: Score()(looked("middle", pixels, params=params), WANTED).maps)
    assert not np.any(np.asarray(maps(pixels_of(1), dead)))


@pytest.mark.parametrize("layer", ["middle", "input"])
def test_integrated_gradients_are_complete(layer):
    pixels, method = pixels_of(2), Integrated(steps=100)

    @jax.jit
    def program(pixels):
        look = looked(layer, pixels)
        tail = look.tail(pixels)
        at = tail.run(tail.activations), tail.run(jnp.zeros_like(tail.activations))
        return method(look, WANTED).maps.mean((2, 3)), (at[0] - at[1])[:, CLASSES]

    means, differences = program(pixels)
    assert relative_error(means, differences) < 5e-3  # ReLUs make kinks on the way


def test_gradient_x_input_is_the_scores_first_order():
    model, pixels = convolutional(), pixels_of(2)

    @jax.jit
    def program(pixels):
        slopes = jax.grad(lambda pixels: model.forward(model.params, pixels)[:, 4].sum())(pixels)
        maps = METHODS["gradient-x-input"].explain(looked("input", pixels), WANTED).maps
        return maps[:, 0].mean((1, 2)), (slopes * pixels).sum((1, 2, 3))

    found, expected = program(pixels)
    assert relative_error(found, expected) < 1e-5


def bypassed():
    """A layer with a convolution before it, one after it, and one around it."""
    rng = np.random.default_rng(0)
    shapes = {"stem": (3, 6), "inner": (6, 6), "around": (6, 6), "after": (6, 6)}
    drawn = {name: rng.normal(0, 1 / 5, (3, 3, *shape)).astype(np.float32) for name, shape in shapes.items()}
    params = jax.device_put(drawn)

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def forward(params, pixels):
        stem = jax.nn.relu(convolve(pixels, params["stem"]))
        inner = named_array(jax.nn.relu(convolve(stem, params["inner"])), "inner")
        joined = convolve(inner, params["after"]) + convolve(stem, params["around"])
        return jax.nn.relu(joined).mean((1, 2))

    return Model(params, forward)


def compiled(method, model, layer, batch=1, classes=CLASSES, room=1):
    """The optimised program of a method on pictures of 16 x 12."""

    def program(params, pixels):
        return method(looked(layer, pixels, model=model, params=params, room=room), Wanted("logit", classes, 1))

    lowered = jax.jit(program).lower(model.params, pixels_of(batch))
    # The loops are those of the programs that users have, not of the ones that compile in less time.
    faster = "xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]
    return lowered.compile({"xla_cpu_use_fusion_emitters": True} if faster else None).as_text()


def convolutions(text):
    """How many a program has, and how many of them are in loops."""
    parts = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{\n((?:  .*\n)*)\}", text, re.MULTILINE))

    def within(name):
        part = parts[name]
        own = re.findall(r" convolution\(|custom_call_target=\"__[a-z]*\$?conv|__onednn\$convolution", part)
        inner = re.findall(r"(?:calls|to_apply|body)=%?([\w.\-]+)", part)
        return len(own) + sum(within(each) for each in inner)

    (entry,) = re.findall(r"^ENTRY %?([\w.\-]+) \(", text, re.MULTILINE)
    bodies = set(re.findall(r"body=%?([\w.\-]+)", text))
    return within(entry), sum(within(body) for body in bodies)


def rounds(text):
    """Of each loop."""
    return [int(count) for count in re.findall(r'"known_trip_count":\{"n":"(\d+)"', text)]


@pytest.mark.parametrize(("method", "count"), [(Ablation(), CHANNELS), (Recipro(), 16 * 12)])
def test_what_comes_before_a_layer_and_around_it_is_computed_once(method, count):
    text = compiled(method, bypassed(), "inner")
    assert convolutions(text) == (5, 1)
    assert rounds(text) == [count]


@pytest.mark.parametrize("classes", [[4], [4, 0, 2, 1]])
def test_all_classes_share_score_cams_passes(classes):
    text = compiled(Score(), convolutional(), "middle", batch=2, classes=np.asarray(classes), room=4)
    assert convolutions(text) == (6, 3)
    assert rounds(text) == [CHANNELS // 2]


def test_masks_of_a_class_take_passes_of_its_own_and_poly_cams_do_not():
    k = 3
    asked = functools.partial(compiled, model=convolutional(), layer="middle", classes=np.arange(k), room=3)
    assert rounds(asked(Poly())) == [CHANNELS // 3]
    assert rounds(asked(Group(groups=CHANNELS))) == [CHANNELS // (3 // k)]
    assert rounds(asked(Optimised(steps=4))) == [4]  # the classes side by side


@pytest.mark.parametrize(("method", "count"), [(Integrated(steps=4), 4), (SmoothGradient(steepest, samples=7), 7)])
def test_all_classes_share_the_passes_of_a_path(method, count):
    text = compiled(method, convolutional(), "input", classes=np.arange(3))
    assert convolutions(text) == (9, 6)  # three convolutions of the clean picture; forward and backward in the loop
    assert [each for each in rounds(text) if each != 5] == [count]  # five are those of the random numbers


def test_full_grad_goes_back_once_for_each_class():
    text = compiled(METHODS["full-grad"].explain, convolutional(), "input", classes=CLASSES)
    assert convolutions(text) == (6, 3)
    assert rounds(text) == [3]


def test_lift_cam_goes_through_what_comes_after_the_layer_three_times():
    # The picture as it is, the layer that is zero, and back for all classes.
    assert convolutions(compiled(Lift(), convolutional(), "middle", classes=np.arange(3))) == (5, 0)


@pytest.mark.parametrize("target", ["logit", "probability"])
def test_lift_cams_shares_are_complete(target):
    for layer, model in (("middle", convolutional()), ("tokens", tokens())):

        @jax.jit
        def program(pixels, layer=layer, model=model):
            tail = looked(layer, pixels, model=model).tail(pixels)
            scores, nothing = (
                score_table(tail.run(at), target) for at in (tail.activations, jnp.zeros_like(tail.activations))
            )
            classes = jnp.broadcast_to(CLASSES, (2, 3))
            return lifted_shares(tail, target, one_hot(scores, classes)).sum(0), (scores - nothing)[:, CLASSES]

        assert relative_error(*program(pixels_of(2))) < 1e-5


def test_lift_cam_names_what_it_has_no_rule_for():
    model = Model({}, lambda _, x: jnp.sort(named_array(x, "layer").mean((1, 2))))
    with pytest.raises(MethodError, match="no rule for the operation 'sort'; ablation-cam weighs channels alike"):
        Lift()(looked("layer", pixels_of(1), model=model), WANTED._replace(classes=jnp.asarray([0])))


def test_all_masks_never_exist_at_once():
    sizes = [
        np.prod([int(side) for side in shape.split(",")])
        for shape in re.findall(r"\w+\[([\d,]+)\]", compiled(Score(), convolutional(), "middle"))
    ]
    assert max(sizes) < CHANNELS * 16 * 12
    assert max(sizes) >= 3 * 16 * 12  # one picture


def tokens():
    """Tokens in a row, two of no place before them, that mix before they are pooled."""
    rng = np.random.default_rng(1)
    shapes = {"prefix": (2, 5), "embed": (3, 5), "head": (5, 5)}
    params = jax.device_put({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})

    def forward(params, pixels):
        cells = pixels.reshape(-1, 4, 4, 3, 4, 3).mean((2, 4)).reshape(-1, 12, 3) @ params["embed"]
        prefix = jnp.broadcast_to(params["prefix"], (len(pixels), 2, 5))
        x = named_array(jnp.concatenate([prefix, cells], 1), "tokens")
        return jnp.tanh(x + x.mean(1, keepdims=True)).mean(1) @ params["head"]

    return Model(params, forward, tokens=TokenGrid(prefix=2, patch=(4, 4)))


def test_tokens_of_no_place_stay_in_recipro_cam_and_lose_their_channel_in_ablation_cam():
    model, pixels = tokens(), pixels_of(2)
    look = looked("tokens", pixels, model=model, room=5)
    methods = (Recipro(gaussian=False), Recipro(), Ablation())

    @jax.jit
    def program():
        return [method(look, WANTED).maps for method in methods], look.tail(pixels).activations

    (recipro, of_tokens, ablation), at = jax.tree.map(np.asarray, program())
    run = jax.jit(lambda at: look.tail(pixels).run(at)[:, CLASSES])
    clean = np.asarray(run(at))
    around = np.outer([1, 2, 1], [1, 2, 1]) / 16
    for maps, shares in ((recipro, np.pad([[1]], 1)), (of_tokens, around)):
        expected = np.zeros((2, 3, 4, 3))
        for row, column in np.ndindex(4, 3):
            kept = np.zeros((4 + 2, 3 + 2))
            kept[row : row + 3, column : column + 3] = shares
            kept = np.concatenate([[1, 1], kept[1:-1, 1:-1].ravel()])
            expected[:, :, row, column] = run((at * kept[:, None]).astype(np.float32))
        assert relative_error(maps, expected) < 1e-5
    total = np.zeros((2, 3, 12))
    for channel in range(5):
        fall = clean - np.asarray(run(np.where(np.arange(5) == channel, 0, at)))
        total += fall[..., None] * at[:, None, 2:, channel]
    assert relative_error(ablation, total.reshape(2, 3, 4, 3)) < 1e-4


@pytest.mark.parametrize("name", ["ablation-cam", "recipro-cam", "score-cam"])
def test_maps_have_gradients(name):
    explain = make_explainer(convolutional(), method=name, layer="middle", size=None)
    pictures = uint8_images(2, 16, 12)

    @jax.jit
    @jax.grad
    def slopes(params):
        return (explain.with_params(params)(pictures, CLASSES).maps ** 2).sum()

    for leaf in jax.tree.leaves(slopes(explain.params)):
        assert np.isfinite(leaf).all()
        assert np.any(np.asarray(leaf) != 0)
