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

    found = ours(jnp.asarray(activations, jnp.float32), jnp.asarray(gradients, jnp.float32))
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
    for rule, map_ in expected.items():
        found = jax.jit(rule)(jnp.asarray(activations, jnp.float32))
        np.testing.assert_allclose(found, map_.reshape(space), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("space", [(2, 3), (5, 6)])  # fewer places than channels, and more
def test_components_do_not_depend_on_which_gram_matrix_is_the_smaller(space):
    rows = np.random.default_rng(1).normal(size=(*space, 12))
    found = eigen_cam(jnp.asarray(rows, jnp.float32))
    np.testing.assert_allclose(np.ravel(found), principal(rows.reshape(-1, 12)), rtol=1e-4, atol=1e-5)


def test_a_layer_without_values_has_maps_of_zeros():
    zeros = jnp.zeros((2, 3, CHANNELS))
    for name, method in METHODS.items():
        rule = getattr(method.explain, "rule", None)
        if rule is not None:
            arguments = (zeros,) if rule in (eigen_cam, kpca_cam, fem) else (zeros, zeros)
            assert not np.any(rule(*arguments)), name
    assert not np.any(rules.grad_cam_plus_plus(zeros, zeros, eps=0.0))


@pytest.mark.parametrize("space", SPACES)
def test_equalities_where_a_linear_head_pools(space):
    rng = np.random.default_rng(3)
    features = jnp.asarray(np.maximum(rng.normal(size=(2, *space, CHANNELS)), 0) + 0.01, jnp.float32)
    head = LinearHead(jnp.asarray(rng.normal(size=(CHANNELS, 6)), jnp.float32), jnp.ones(6))
    tail = head_tail(features, head)
    look = Look(jnp.zeros((2, 8, 8, 3)), lambda _: tail, tail.run)
    wanted = Wanted("logit", jnp.asarray([4, 1, 5]), 3)
    two_dimensional = len(space) == 2
    places = int(np.prod(space))
    columns = head.kernel[:, wanted.classes]
    cam = jnp.moveaxis(features @ columns, -1, 1)

    def maps(method):
        if not two_dimensional:  # a model's images have two axes; the rule sees the same arrays
            gradients = jnp.broadcast_to(columns.T[:, None] / places, (3, places, CHANNELS))
            by_class = jax.vmap(method.rule, (None, 0))
            return jax.vmap(by_class, (0, None))(features, gradients.reshape(3, *space, CHANNELS))
        return method(look, wanted).maps

    same = {"rtol": 1e-4, "atol": 1e-5}
    for name in ("grad-cam", "hires-cam", "xgrad-cam"):
        np.testing.assert_allclose(maps(METHODS[name].explain), cam, err_msg=name, **same)
    positive = jnp.moveaxis(features @ jax.nn.relu(columns), -1, 1)
    for name in ("layer-cam", "element-wise"):
        np.testing.assert_allclose(maps(METHODS[name].explain), positive, err_msg=name, **same)
    plain = METHODS["grad-cam++"].explain
    plus_plus = type(plain)(functools.partial(rules.grad_cam_plus_plus, eps=0.0))
    means = features.reshape(2, places, CHANNELS).mean(1)
    weights = jax.nn.relu(columns)[None] / (2 + columns[None] * means[..., None])
    expected = jnp.einsum("bsc,bck->bks", features.reshape(2, places, CHANNELS), weights).reshape(cam.shape)
    np.testing.assert_allclose(maps(plus_plus), expected, **same)
    if two_dimensional:
        np.testing.assert_allclose(maps(METHODS["shapley-cam"].explain), cam, **same)
        np.testing.assert_allclose(maps(Smooth(eps=0.0)), expected, **same)  # the head knows of no noise
        scores = tail.run(tail.activations)
        logits = np.asarray(scores)
        contrast = np.asarray(Contrast()(scores, jnp.broadcast_to(wanted.classes, (2, 3))))
        for row in range(2):
            for rank, own in enumerate([4, 1, 5]):
                others = sorted(set(range(6)) - {own}, key=lambda other: abs(logits[row, other] - logits[row, own]))
                column = head.kernel[:, own] - 0.6 * head.kernel[:, np.asarray(others[:3])].mean(1)
                finer = METHODS["finer-cam"].explain(look, wanted).maps[row, rank]
                np.testing.assert_allclose(finer, features[row] @ column, **same)
                assert contrast[row, rank].sum() == pytest.approx(0.4)


def test_closest_classes_are_capped_and_one_class_is_refused():
    found = Contrast(gamma=1.0, references=3)(jnp.asarray([[1.0, 4, 2]]), jnp.asarray([[0]]))
    np.testing.assert_allclose(found, [[[1, -0.5, -0.5]]])
    with pytest.raises(MethodError, match="only one score"):
        Contrast()(jnp.ones((2, 1)), jnp.zeros((2, 1), int))


def test_noise_is_the_same_for_every_picture_and_another_for_every_seed():
    smooth = Smooth(samples=2, std=0.5)
    images = jnp.zeros((3, 8, 9, 3))
    first, second = (smooth.noisy(images, key) for key in smooth.noise_keys())
    assert (first[0] == first[2]).all()
    assert abs(float(first.std()) - 0.5) < 0.1
    assert not np.allclose(first, second)
    assert not np.allclose(first, Smooth(seed=1).noisy(images, Smooth(seed=1).noise_keys()[0]))
