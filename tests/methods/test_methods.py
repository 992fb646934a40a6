"""Every method through `make_explainer` on three convolutions: classes, batches, devices, passes, signs, training."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import convolutional, uint8_images

from camjax.explain import program
from camjax.explain.explainer import Explainer, make_explainer
from camjax.images.preprocess import Preprocess
from camjax.methods.group import Group
from camjax.methods.method import ATTENTION
from camjax.methods.optimised import Optimised
from camjax.methods.path import Integrated, SmoothGradient
from camjax.methods.registry import METHODS, MethodError
from camjax.methods.rules import steepest
from camjax.methods.score import Score
from camjax.methods.smooth import Smooth
from camjax.methods.windows import Rise
from camjax.models.registry import ARCHITECTURES
from camjax.models.vit_network import ViTConfig

NAMES = tuple(name for name, method in METHODS.items() if not method.fusion and method.needs != ATTENTION)
AT_ANY_LAYER = tuple(name for name in NAMES if name != "cam")
FEW = {
    "ss-cam": Score(samples=3, std=0.5),
    "group-cam": Group(groups=3, kernel=7, std=2.0),
    "opti-cam": Optimised(steps=3),
    "rise": Rise(samples=40, cells=4),
    "smooth-grad": SmoothGradient(steepest, samples=3),
    "integrated-gradients": Integrated(steps=4),
}
"""Methods that take many passes, with few."""
CLASSES = np.asarray([4, 0, 2])


def few(name):
    return dataclasses.replace(METHODS[name], explain=FEW.get(name, METHODS[name].explain))


def made_at(layer):
    """Those that explain the input by default do so, whichever layer is asked of the others."""
    names = NAMES if layer == "last" else AT_ANY_LAYER
    return {
        name: make_explainer(convolutional(), method=few(name), layer=METHODS[name].layer or layer, size=None)
        for name in names
    }


@functools.cache
def all_maps(layer):
    """One program for all methods."""
    made = made_at(layer)
    return jax.jit(lambda images, classes: {name: explain(images, classes).maps for name, explain in made.items()})


def of_pairs(layer, pictures):
    """The maps of pictures, two at a time, for which there is a program already."""
    pairs = [all_maps(layer)(pictures[row : row + 2], CLASSES) for row in range(0, len(pictures), 2)]
    return jax.tree.map(lambda *maps: np.concatenate(maps), *pairs)


def assert_equal(found, expected):
    for name, maps in expected.items():
        # Eigenvectors of float32 matrices that were summed in another order.
        np.testing.assert_allclose(found[name], maps, rtol=1e-3, atol=1e-4 * np.abs(maps).max(), err_msg=name)


@pytest.mark.parametrize("layer", ["middle", pytest.param("last", marks=pytest.mark.slow)])
def test_classes_and_pictures_in_one_call_equal_one_by_one(layer):
    pictures = uint8_images(2, 16, 12)
    together = all_maps(layer)(pictures, CLASSES)
    for name, maps in together.items():
        of_input = METHODS[name].layer == "input" or name in ("guided-grad-cam", "group-cam", "opti-cam")
        assert maps.shape == ((2, 3, 16, 12) if of_input else (2, 3, 8, 6))
        assert np.isfinite(maps).all(), name
        assert np.ptp(maps) > 0, name
    for row in range(2):
        for rank, number in enumerate(CLASSES):
            alone = all_maps(layer)(pictures[row : row + 1], np.asarray([number]))
            assert_equal(alone, {name: maps[row : row + 1, rank : rank + 1] for name, maps in together.items()})
    for name, maps in all_maps(layer)(pictures, np.asarray([1, 5, -1])).items():
        assert np.isfinite(maps[:, 0]).all(), name
        assert np.isnan(maps[:, 1:]).all(), name  # a class that does not exist has no map


def test_a_sharded_batch_gives_the_same_maps():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    pictures = uint8_images(8, 16, 12)
    found = all_maps("middle")(jax.device_put(pictures, rows), CLASSES)
    assert_equal(found, of_pairs("middle", pictures))
    assert found["grad-cam"].sharding.is_equivalent_to(rows, 4)


OF_EACH_KIND = [
    "cam",
    "grad-cam",
    "finer-cam",
    "shapley-cam",
    "smooth-grad-cam++",
    "eigen-grad-cam",
    "eigen-cam",
    "score-cam",
    "group-cam",
    "opti-cam",
    "ablation-cam",
    "lift-cam",
    "recipro-cam",
    "rise",
    "occlusion",
    "guided-grad-cam",
    "full-grad",
    "integrated-gradients",
]


@pytest.mark.parametrize(
    ("layer", "axes", "classes"),
    [
        ("middle", jax.sharding.AxisType.Explicit, None),
        pytest.param("last", jax.sharding.AxisType.Auto, CLASSES, marks=pytest.mark.slow),
    ],
)
def test_each_device_explains_its_own_pictures_inside_shard_map(layer, axes, classes):
    # Its default checks refuse a constant where something that varies over the devices is expected.
    made = {name: explain for name, explain in made_at(layer).items() if name in OF_EACH_KIND}
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4], axis_types=(axes,))
    rows = jax.sharding.PartitionSpec("data")
    pictures = uint8_images(8, 16, 12)
    sharded = jax.device_put(pictures, jax.sharding.NamedSharding(mesh, rows))

    def explain(pictures):
        return {name: each(pictures, classes).maps for name, each in made.items()}

    mapped = jax.jit(jax.shard_map(explain, mesh=mesh, in_specs=rows, out_specs=rows))
    if classes is None:
        assert_equal(mapped(sharded), jax.jit(explain)(pictures))
    else:
        expected = of_pairs(layer, pictures)
        assert_equal(mapped(sharded), {name: expected[name] for name in made})


@pytest.mark.parametrize("target", [pytest.param("logit", marks=pytest.mark.slow), "probability"])
def test_the_head_alone_gives_what_the_network_gives(target):
    methods = [name for name in AT_ANY_LAYER if name != "smooth-grad-cam++" and not METHODS[name].layer]
    made = {name: make_explainer(convolutional(), method=few(name), target=target, size=None) for name in methods}
    assert all(explain.plan.pooled for explain in made.values())
    general = {
        name: Explainer(explain.params, dataclasses.replace(explain.plan, pooled=False))
        for name, explain in made.items()
    }

    @jax.jit
    def both(images):
        return tuple({name: explain(images, CLASSES) for name, explain in each.items()} for each in (made, general))

    found, expected = both(uint8_images(2, 16, 12))
    for name in methods:
        np.testing.assert_allclose(found[name].logits, expected[name].logits, rtol=1e-5, atol=1e-5)
    assert_equal({name: found[name].maps for name in methods}, {name: expected[name].maps for name in methods})


@functools.cache
def transformer():
    """A small one, for what explains attention."""
    family = ARCHITECTURES["vit_small_patch16_224"].family
    model = family.initialise(ViTConfig(width=12, depth=2, heads=2, patch=4, grid=(4, 3), num_classes=5), seed=0)
    return dataclasses.replace(model, preprocess=Preprocess(input_size=(16, 12)))


@pytest.mark.parametrize("name", METHODS)
def test_a_second_call_is_not_compiled(name, monkeypatch):
    traced, compiled = [], []

    def outline(plan, params, images, classes, *, in_parts):
        """A program of zeros, which takes no time to compile, in the place of the method's."""
        traced.append(plan.method.name)
        shapes = jax.eval_shape(functools.partial(explain, plan, in_parts=in_parts), params, images, classes)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def listen(event, _seconds, **_):
        if "backend_compile" in event:  # shapes may be looked at anew
            compiled.append(event)

    explain = program.explained
    monkeypatch.setattr(program, "explained", outline)
    program.compiled.cache_clear()
    model = transformer() if METHODS[name].needs == ATTENTION else convolutional()
    layer = ("middle", "last") if METHODS[name].fusion else None

    def call(seed):
        # Another explainer, an equal one.
        jax.block_until_ready(make_explainer(model, method=few(name), layer=layer)(uint8_images(2, 16, 12, seed=seed)))

    call(0)
    assert set(traced) == {name}
    traced.clear()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        call(1)
        assert not traced
        assert not compiled
        jax.jit(lambda x: x + len(traced))(1)
        assert compiled  # it would be heard
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        program.compiled.cache_clear()


def convolutions(method, layer):
    explain = make_explainer(convolutional(), method=method, layer=layer, top_k=4)
    text = explain.lower(jax.ShapeDtypeStruct((2, 16, 12, 3), jnp.uint8)).compile().as_text()
    return len(re.findall(r" convolution\(|custom_call_target=\"__[a-z]*\$?conv|__onednn\$convolution", text))


@pytest.mark.parametrize(
    ("method", "last", "middle"),
    [
        ("grad-cam", 3, 4),  # four classes go back through the one convolution after the layer at once
        ("grad-cam++", 3, 4),
        ("finer-cam", 3, 4),
        ("eigen-cam", 3, 3),
        ("shapley-cam", 3, 4),  # ReLU and linear layers have no second derivative
        ("smooth-grad-cam++", 3, 7),  # the clean picture, and a noisy one back and forth in a loop
    ],
)
def test_no_pass_goes_back_further_than_the_layer(method, last, middle):
    assert convolutions(method, "last") == last
    assert convolutions(method, "middle") == middle


def test_sides_of_a_map_are_taken_before_the_resize():
    pictures = uint8_images(2, 16, 12)
    for method in ("cam", "hires-cam"):
        raw = make_explainer(convolutional(), method=method, size=None)(pictures).maps
        assert raw.min() < 0 < raw.max()
        made = functools.partial(make_explainer, convolutional(), method=method, interpolation="bilinear")
        for sign, side in (("positive", np.maximum(raw, 0)), ("negative", np.maximum(-raw, 0))):
            np.testing.assert_allclose(made(sign=sign, size=None)(pictures).maps, side, rtol=1e-4, atol=1e-5)
            expected = jax.image.resize(side, (2, 5, 16, 12), "bilinear")
            np.testing.assert_allclose(made(sign=sign)(pictures).maps, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("untyped")
def test_a_wrong_sign_is_named():
    with pytest.raises(ValueError, match=r"'up' is not one of both, positive, negative"):
        make_explainer(convolutional(), sign="up")


def test_options_of_ones_own():
    pictures = uint8_images(1, 16, 12)
    smooth = METHODS["smooth-grad-cam++"]
    plain = make_explainer(convolutional(), method="grad-cam++", layer="middle", size=None)(pictures).maps
    found = {
        std: make_explainer(
            convolutional(),
            method=dataclasses.replace(smooth, explain=Smooth(samples=2, std=std)),
            layer="middle",
            size=None,
        )(pictures).maps
        for std in (0.0, 0.3)
    }
    np.testing.assert_allclose(found[0.0], plain, rtol=1e-4, atol=1e-5)
    assert np.abs(found[0.3] - plain).max() > 1e-3
    with pytest.raises(MethodError, match="did you mean"):
        make_explainer(convolutional(), method="smoothgradcam")


def test_a_map_can_be_trained_to_lie_where_it_is_wanted():
    explain = make_explainer(convolutional(), method="grad-cam", layer="middle", sign="positive", size=None)
    pictures = uint8_images(2, 16, 12)

    @jax.jit
    @jax.value_and_grad
    def share_on_the_right(params):
        maps = explain.with_params(params)(pictures, jnp.asarray([1])).maps
        return maps[..., 3:].sum() / maps.sum()

    params, shares = explain.params, []
    for _ in range(10):
        share, gradients = share_on_the_right(params)
        for leaf in jax.tree.leaves(gradients):
            assert np.isfinite(leaf).all()
            assert np.any(leaf != 0)
        shares.append(float(share))
        params = jax.tree.map(lambda leaf, slope: leaf - 0.03 * slope, params, gradients)
    assert 0.3 < shares[0] < 0.7
    assert shares[-1] < 0.8 * shares[0], shares
