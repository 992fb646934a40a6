"""Shuffled parameters: their order from a network's end, and the maps that they make."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from toys import convolutional, toy_model

from camjax.core.model import Model
from camjax.evaluate.again import Asked, with_shuffled_parameters
from camjax.evaluate.contestants import contestants
from camjax.evaluate.randomised import Randomised, order_of_use, shuffled, steps_of
from camjax.images.preprocess import Preprocess


def test_the_networks_end_comes_first():
    assert steps_of(convolutional()) == {"head": 0, "last": 1, "middle": 2, "first": 3}
    assert steps_of(convolutional(), 2) == {"head": 0, "last": 0, "middle": 1, "first": 1}


def test_order_is_that_of_meeting_the_picture():
    """Not that of casts, nor of what is computed of parameters alone, inside inner programs too."""

    def forward(params, images):
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        scale = jax.lax.rsqrt(params["a"] + 1)
        x = jax.jit(lambda x, weight: x @ weight)(images, params["z"]) * scale[None, None, None]
        x = jax.checkpoint(lambda x: x + params["m"][None, None, None])(x)
        return jax.lax.fori_loop(0, 2, lambda _, x: x * params["b"][None, None, None], x).mean((1, 2))

    params = {name: jnp.ones(3) for name in "abmu"} | {"z": jnp.ones((3, 3)), "n": jnp.zeros(3, int)}
    model = Model(params, forward, Preprocess(input_size=(4, 4)), name="any")
    names = sorted(params)
    assert [names[number] for number in order_of_use(model)] == ["z", "a", "m", "b"]
    assert steps_of(model) == {"b": 0, "m": 1, "a": 2, "z": 3, "n": -1, "u": -1}
    other = shuffled(params, steps_of(model))
    assert all(other[name] is params[name] for name in "nu")


def test_maps_of_known_parameters():
    """CAM of the toy network, each step by an explainer of its own."""
    model = toy_model()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    classes, names = np.asarray([[3, 1], [0, -1]], np.int32), ["a", "b"]
    randomised = Randomised(model)
    assert randomised.steps == {"bias": 0, "kernel": 1, "mix": 2}
    one, *baselines = contestants(model, ["cam"], [None], dtype="float32")

    def asked(who):
        return Asked(who, pixels, np.asarray(who.maps(pixels, classes, names), np.float32), classes, names)

    found = with_shuffled_parameters(asked(one), randomised)
    others, clean, alike = shuffled(model.params, randomised.steps), asked(one).maps, []
    for name in ("bias", "kernel", "mix"):
        np.testing.assert_array_equal(np.sort(others[name].ravel()), np.sort(model.params[name].ravel()))
        known = {"bias": others["bias"]} | {"kernel": others["kernel"] if name != "bias" else model.params["kernel"]}
        changed = one.explainer.with_params(known | {"mix": others["mix"] if name == "mix" else model.params["mix"]})
        maps = np.asarray(changed(pixels, classes).maps)
        pairs = zip(np.abs(clean).reshape(4, -1)[:3], np.abs(maps).reshape(4, -1)[:3], strict=True)
        alike.append([scipy.stats.spearmanr(*pair).statistic for pair in pairs])
    np.testing.assert_allclose(found.ravel()[:3], np.mean(alike, 0), atol=1e-4)
    assert np.isnan(found[1, 1])
    np.testing.assert_allclose(alike[0], 1, atol=1e-6)  # a map does not know the bias
    assert np.mean(alike[2]) < 0.9
    random, _, uniform = (with_shuffled_parameters(asked(who), randomised) for who in baselines)
    np.testing.assert_array_equal(random[0], 1)
    assert np.isnan(uniform).all()
    random_maps = asked(baselines[0])
    rounding = random_maps._replace(maps=np.float32(0.3) + np.float32(3e-8) * (random_maps.maps > 0.5))
    assert len(np.unique(rounding.maps)) == 2
    assert np.isnan(with_shuffled_parameters(rounding, randomised)).all()
