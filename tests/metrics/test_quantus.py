"""Metrics against Quantus 0.6.0 itself, where it computes what its papers say.

Tolerance: 1e-5 relative; Quantus sums in float64 or float32, and adds 1e-12 or 1e-8 to some denominators.
"""

import copy
import functools

import jax
import numpy as np
import pytest
import torch
from references import to_torch

from camjax.metrics.concentration import entropy, sparseness
from camjax.metrics.faithfulness import pixel_flipping
from camjax.metrics.localisation import energy_pointing_game, pointing_game
from camjax.metrics.robustness import randomisation

RNG = np.random.default_rng(0)
SIZE = (6, 8)
IMAGES = RNG.normal(size=(3, *SIZE, 3)).astype(np.float32)
MAPS = RNG.normal(size=(3, *SIZE)).astype(np.float32)
MAPS[2] = np.round(MAPS[2])  # ties
MASKS = np.zeros((3, *SIZE), bool)
MASKS[:, 1:4, 2:6] = True
CLASSES = np.asarray([1, 0, 3], np.int32)
POINTING = jax.jit(pointing_game)


@pytest.fixture(scope="module")
def quantus():
    """Imported late: it takes seconds, and warns of what it cannot find."""
    with pytest.MonkeyPatch.context() as patch:
        if not hasattr(np, "trapz"):  # gone in NumPy 2.4
            patch.setattr(np, "trapz", np.trapezoid, raising=False)
        yield pytest.importorskip("quantus")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 5, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(5, 4),
    ]
    return torch.nn.Sequential(*layers).eval()


def weights(network):
    """By the number of the layer, as JAX's convolution and product take them."""
    found = {}
    for number in (0, 2):
        kernel = network[number].weight.detach().numpy().transpose(2, 3, 1, 0)
        found[str(number)] = {"kernel": kernel, "bias": network[number].bias.detach().numpy()}
    linear = network[6]
    found["6"] = {"kernel": linear.weight.detach().numpy().T, "bias": linear.bias.detach().numpy()}
    return jax.tree.map(np.array, found)


def forward(params, x):
    for number in ("0", "2"):
        layer = params[number]
        x = jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + layer["bias"][None, None, None])
    return x.mean((1, 2)) @ params["6"]["kernel"] + params["6"]["bias"][None]


def judged(metric, network=None, **arguments):
    """What one of Quantus's metrics says of the maps; its maps have a channel axis."""
    options = {"x_batch": IMAGES.transpose(0, 3, 1, 2), "y_batch": CLASSES, "a_batch": MAPS[:, None], "device": "cpu"}
    return np.asarray(metric(network, **options | arguments), np.float64)


def test_concentration(quantus):
    positive = np.abs(MAPS)
    options = {"a_batch": positive[:, None], "y_batch": CLASSES}
    quiet = {"abs": False, "normalise": False, "disable_warnings": True}
    gini = judged(quantus.Sparseness(**quiet), **options)
    nats = judged(quantus.Complexity(**quiet), **options)
    ours = jax.jit(lambda maps: (sparseness(maps), entropy(maps)))(positive)
    np.testing.assert_allclose(ours[0], gini, rtol=1e-5)
    np.testing.assert_allclose(ours[1], nats, rtol=1e-5)


def test_localisation(quantus):
    quiet = {"abs": False, "normalise": False, "disable_warnings": True}
    masks = {"s_batch": MASKS[:, None]}
    one = MAPS.copy()
    one[2, 2, 3] = 9  # of several highest pixels Quantus lets any hit, which is for the test after this one
    hits = judged(quantus.PointingGame(**quiet), a_batch=one[:, None], **masks)
    np.testing.assert_array_equal(POINTING(one, MASKS), hits)
    positive = np.maximum(MAPS, 0)
    mass = judged(quantus.RelevanceMassAccuracy(**quiet), a_batch=positive[:, None], **masks)
    np.testing.assert_allclose(jax.jit(energy_pointing_game)(MAPS, MASKS), mass, rtol=1e-5)


def test_any_of_several_highest_pixels_hits_for_quantus(quantus):
    """Ours is the share of them, so that a map that is high everywhere has found nothing."""
    maps = np.zeros_like(MAPS)
    maps[:, 2, 3] = maps[:, 0, 0] = 1
    metric = quantus.PointingGame(abs=False, normalise=False, disable_warnings=True)
    np.testing.assert_array_equal(judged(metric, a_batch=maps[:, None], s_batch=MASKS[:, None]), 1)
    np.testing.assert_array_equal(POINTING(maps, MASKS), 0.5)


def test_pixel_flipping(quantus, network):
    """Theirs leaves the whole picture out of its curve, and has the number of steps for its unit.

    It flips the values of channels one by one; here a step is whole pixels.
    """
    steps = 4
    pixels = SIZE[0] * SIZE[1] // steps

    class Whole(quantus.PixelFlipping):
        def custom_preprocess(self, **_):
            """Without its check that a step divides the number of pixels."""

    metric = Whole(features_in_step=pixels * 3, normalise=False, return_auc_per_sample=True, disable_warnings=True)
    # Ties are broken otherwise.
    distinct = np.argsort(np.argsort(MAPS.reshape(3, -1))).reshape(MAPS.shape).astype(np.float32)
    theirs = judged(metric, network, a_batch=distinct[:, None], softmax=True)
    params = weights(network)

    def score(images):
        return jax.nn.softmax(forward(params, images))

    flip = jax.jit(functools.partial(pixel_flipping, score, steps=steps))
    scores = np.asarray(flip(IMAGES, distinct[:, None], CLASSES[:, None]).scores)[:, 0]
    np.testing.assert_allclose(np.trapezoid(scores[:, 1:]), theirs, rtol=1e-5)


@pytest.mark.parametrize("order", ["top_down", "independent"])
def test_randomisation(quantus, network, order):
    """Each of Quantus's copies, whose layers are drawn anew, beside one program of ours with all draws as arguments."""

    def explain_torch(model, inputs, targets, **_):
        inputs = torch.as_tensor(inputs, dtype=torch.float32).requires_grad_()
        scores = model(inputs)[range(len(targets)), list(targets)].sum()
        (gradient,) = torch.autograd.grad(scores, inputs)
        return (gradient * inputs).sum(1, keepdim=True).detach().numpy()

    metric = quantus.MPRT(layer_order=order, abs=True, normalise=False, disable_warnings=True)
    theirs = metric(
        copy.deepcopy(network),
        IMAGES.transpose(0, 3, 1, 2),
        CLASSES,
        a_batch=explain_torch(network, to_torch(IMAGES), CLASSES),
        explain_func=explain_torch,
        device="cpu",
    )
    drawn = copy.deepcopy(network)
    for layer in (0, 2, 6):
        torch.manual_seed(42 + 1)
        drawn[layer].reset_parameters()
    params, others = weights(network), weights(drawn)
    steps = {name: {"kernel": step, "bias": step} for step, name in enumerate(("6", "2", "0"))}

    def explain(params):
        def total(images):
            return forward(params, images)[np.arange(3), CLASSES].sum()

        return (jax.grad(total)(IMAGES) * IMAGES).sum(-1)[:, None]

    @jax.jit
    def judge(params, others):
        return randomisation(explain, params, others, steps, cascading=order == "top_down")

    ours = np.asarray(judge(params, others))
    expected = np.stack([np.asarray(theirs[name]) for name in ("6", "2", "0")])
    np.testing.assert_allclose(ours[..., 0], expected, atol=1e-5)
