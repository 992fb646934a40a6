"""The rules on signals, images and volumes, by hand, and the equalities that hold where a linear head pools."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camjax.core.model import LinearHead
from camjax.methods import rules
from camjax.methods.class_free import eigen_cam, fem, kpca_cam
from camjax.methods.gradient import Contrast
from camjax.methods.registry import METHODS, MethodError
from camjax.methods.smooth import Smooth
from camjax.methods.tail import Look, head_tail
from camjax.methods.target import Wanted

SPACES = [(7,), (3, 4), (2, 3, 4)]
CHANNELS = 5


def activations_and_gradients(space, seed=0):
    """What a ReLU gave, one channel of it silent, and signed gradients with zeros among them."""
    rng = np.random.default_rng(seed)
    activations = np.maximum(rng.normal(size=(*space, CHANNELS)), 0)
    activations[..., 2] = 0
    gradients = rng.normal(size=(*space, CHANNELS)) * (rng.random((*space, CHANNELS)) > 0.2)
    return activations, gradients


def by_hand(activations, gradients):
    """Every rule in float64, channel by channel over a list of places, as the papers write them."""
    a, g = (array.reshape(-1, CHANNELS) for array in (activations, gradients))
    count = len(a)
    alphas = np.zeros_like(g)
    for place, channel in np.argwhere(g != 0):
        slope = g[place, channel]
        alphas[place, channel] = slope**2 / (2 * slope**2 + a[:, channel].sum() * slope**3 + 1e-6)
    share = np.divide(a, a.sum(0), out=np.zeros_like(a), where=a.sum(0) > 0)
    maps = {
        "grad-cam": count * a @ g.mean(0),
        "hires-cam": count * (a * g).sum(1),
        "element-wise": count * np.maximum(a * g, 0).sum(1),
        "layer-cam": count * (a * np.maximum(g, 0)).sum(1),
        "xgrad-cam": count * a @ (share * g).sum(0),
        "grad-cam++": a @ (alphas * np.maximum(g, 0)).sum(0),
        "eigen-grad-cam": count * principal(a * g),
        "seg-eigen-cam": count * principal(a * np.abs(g)),
    }
    return {name: map_.reshape(activations.shape[:-1]) for name, map_ in maps.items()}


def principal(rows):
    """The first principal component by the whole singular value decomposition; its largest value is positive."""
    rows = rows - rows.mean(0)
    projection = rows @ np.linalg.svd(rows)[2][0]
    return projection * np.sign(projection[np.argmax(np.abs(projection))])


@pytest.mark.parametrize("space", SPACES)
def test_gradient_rules_by_hand_in_one_two_and_three_dimensions(space):
    activations, gradients = activations_and_gradients(space)
    expected = by_hand(activations, gradients)

    @jax.jit
    def ours(activations, gradients):
        return {name: METHODS[name].explain.rule(activations, gradients) for name in expected}

    found = ours(activations.astype(np.float32), gradients.astype(np.float32))
    for name, map_ in expected.items():
        np.testing.assert_allclose(found[name], map_, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("space", SPACES)
def test_class_free_rules_by_hand_in_one_two_and_three_dimensions(space):
    activations, _ = activations_and_gradients(space)
    rows = activations.reshape(-1, CHANNELS)
    centred = rows - rows.mean(0)
    kernel = np.tanh(centred @ centred.T / CHANNELS + 1)
    middle = np.eye(len(rows)) - 1 / len(rows)
    values, vectors = np.linalg.eigh(middle @ kernel @ middle)
    component = vectors[:, -1] * np.sqrt(values[-1])
    expected = {
        eigen_cam: principal(rows),
        kpca_cam: component * np.sign(component[np.argmax(np.abs(component))]),
        fem: rows @ (rows > rows.mean(0) + 2 * rows.std(0)).mean(0),
        functools.partial(fem, deviations=1.0): rows @ (rows > rows.mean(0) + rows.std(0)).mean(0),
    }
    assert expected[fem].any()
    found = jax.jit(lambda activations: [rule(activations) for rule in expected])(activations.astype(np.float32))
    for ours, map_ in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(ours, map_.reshape(space), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("space", [(2, 3), (5, 6)])  # fewer places than channels, and more
def test_components_do_not_depend_on_which_gram_matrix_is_the_smaller(space):
    rows = np.random.default_rng(1).normal(size=(*space, 12))
    found = jax.jit(eigen_cam)(rows.astype(np.float32))
    np.testing.assert_allclose(np.ravel(found), principal(rows.reshape(-1, 12)), rtol=1e-4, atol=1e-5)


def test_a_layer_without_values_has_maps_of_zeros():
    rule_of = {name: getattr(method.explain, "rule", None) for name, method in METHODS.items()}
    rule_of = {name: rule for name, rule in rule_of.items() if rule is not None}
    rule_of["without eps"] = functools.partial(rules.grad_cam_plus_plus, eps=0.0)

    @jax.jit
    def program(zeros):
        class_free = (eigen_cam, kpca_cam, fem)
        return {name: rule(zeros) if rule in class_free else rule(zeros, zeros) for name, rule in rule_of.items()}

    for name, map_ in program(np.zeros((2, 3, CHANNELS), np.float32)).items():
        assert not np.any(np.asarray(map_)), name


@pytest.mark.parametrize("space", SPACES)
def test_equalities_where_a_linear_head_pools(space):
    rng = np.random.default_rng(3)
    features = (np.maximum(rng.normal(size=(2, *space, CHANNELS)), 0) + 0.01).astype(np.float32)
    kernel = rng.normal(size=(CHANNELS, 6)).astype(np.float32)
    wanted = Wanted("logit", jax.device_put(np.asarray([4, 1, 5])), 3)
    two_dimensional = len(space) == 2
    places = int(np.prod(space))
    columns = kernel[:, [4, 1, 5]]
    cam = np.moveaxis(features @ columns, -1, 1)
    names = ("grad-cam", "hires-cam", "xgrad-cam", "layer-cam", "element-wise")
    methods = {name: METHODS[name].explain for name in names}
    methods["grad-cam++"] = type(METHODS["grad-cam++"].explain)(functools.partial(rules.grad_cam_plus_plus, eps=0.0))

    @jax.jit
    def of_rules(features):  # a model's images have two axes; the rule sees the same arrays
        gradients = jnp.broadcast_to(columns.T[:, None] / places, (3, places, CHANNELS)).reshape(3, *space, CHANNELS)
        by_class = {name: jax.vmap(method.rule, (None, 0)) for name, method in methods.items()}
        return {name: jax.vmap(rule, (0, None))(features, gradients) for name, rule in by_class.items()}

    @jax.jit
    def of_methods(features):
        tail = head_tail(features, LinearHead(jnp.asarray(kernel), jnp.ones(6)))
        look = Look(jnp.zeros((2, 8, 8, 3)), lambda _: tail, tail.run)
        only_here = {name: METHODS[name].explain for name in ("shapley-cam", "finer-cam")}
        only_here["smooth"] = Smooth(eps=0.0)
        maps = {name: method(look, wanted).maps for name, method in {**methods, **only_here}.items()}
        scores = tail.run(tail.activations)
        return maps, scores, Contrast()(scores, jnp.broadcast_to(wanted.classes, (2, 3)))

    if two_dimensional:
        maps, logits, contrast = jax.tree.map(np.asarray, of_methods(features))
    else:
        maps = of_rules(features)
    same = {"rtol": 1e-4, "atol": 1e-5}
    for name in ("grad-cam", "hires-cam", "xgrad-cam"):
        np.testing.assert_allclose(maps[name], cam, err_msg=name, **same)
    positive = np.moveaxis(features @ np.maximum(columns, 0), -1, 1)
    for name in ("layer-cam", "element-wise"):
        np.testing.assert_allclose(maps[name], positive, err_msg=name, **same)
    means = features.reshape(2, places, CHANNELS).mean(1)
    weights = np.maximum(columns, 0)[None] / (2 + columns[None] * means[..., None])
    expected = np.einsum("bsc,bck->bks", features.reshape(2, places, CHANNELS), weights).reshape(cam.shape)
    np.testing.assert_allclose(maps["grad-cam++"], expected, **same)
    if two_dimensional:
        np.testing.assert_allclose(maps["shapley-cam"], cam, **same)
        np.testing.assert_allclose(maps["smooth"], expected, **same)  # the head knows of no noise
        for row in range(2):
            for rank, own in enumerate([4, 1, 5]):
                others = sorted(set(range(6)) - {own}, key=lambda other: abs(logits[row, other] - logits[row, own]))
                column = kernel[:, own] - 0.6 * kernel[:, others[:3]].mean(1)
                np.testing.assert_allclose(maps["finer-cam"][row, rank], features[row] @ column, **same)
                assert contrast[row, rank].sum() == pytest.approx(0.4)


def test_closest_classes_are_capped_and_one_class_is_refused():
    found = jax.jit(Contrast(gamma=1.0, references=3))(np.asarray([[1, 4, 2]], np.float32), np.asarray([[0]]))
    np.testing.assert_allclose(found, [[[1, -0.5, -0.5]]])
    with pytest.raises(MethodError, match="only one score"):
        Contrast()(jax.device_put(np.ones((2, 1), np.float32)), jax.device_put(np.zeros((2, 1), int)))


def test_noise_is_the_same_for_every_picture_and_another_for_every_seed():
    @jax.jit
    def program(images):
        methods = (Smooth(samples=2, std=0.5), Smooth(samples=2, std=0.5, seed=1))
        return [[smooth.noisy(images, key) for key in smooth.noise_keys()] for smooth in methods]

    (first, second), (other, *_) = jax.tree.map(np.asarray, program(np.zeros((3, 8, 9, 3), np.float32)))
    assert (first[0] == first[2]).all()
    assert abs(float(first.std()) - 0.5) < 0.1
    assert not np.allclose(first, second)
    assert not np.allclose(first, other)


def test_fem_of_a_channel_that_is_the_same_everywhere_is_0():
    """No position stands out of it; that of one peak does."""
    activations = np.full((3, 4, 2), 2.0, np.float32)
    np.testing.assert_array_equal(jax.jit(fem)(activations), 0)
    activations[1, 2, 0] = 5
    np.testing.assert_allclose(jax.jit(fem)(activations), activations[..., 0] / 12, rtol=1e-6)
