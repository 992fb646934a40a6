"""Methods that hide, mask or remove, and gradients at the input, against torchcam, pytorch-grad-cam and loops in torch.

Tolerance: relative error 1e-5 in float32, as for the networks, where scores or gradients are compared; 1e-4 where
weights are a softmax, or the small difference, of scores. `docs/differences.md` tells the differences in words.
"""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pytorch_grad_cam as gradcam
import torch
import torchcam.methods
from parity.test_methods import Replay, model_of, pair, theirs_gradcam, theirs_torchcam
from references import relative_error, to_nhwc, to_torch

from camjax.core.maps import upsample
from camjax.methods.ablation import Ablation, Recipro
from camjax.methods.path import Integrated, SmoothGradient
from camjax.methods.registry import METHODS
from camjax.methods.rules import steepest
from camjax.methods.score import Score, mask
from camjax.methods.tail import Look, network_tail
from camjax.methods.target import Wanted
from camjax.methods.windows import Occlusion, Rise

TOLERANCE = 1e-5
OF_WEIGHTS = 1e-4
CLASSES = ((3, 7), (1, 4))  # of two pictures
LAYERS = ("layer3", "layer4")
SMOOTHED = Score(samples=2, std=0.5)
WINDOWS = Occlusion(window=0.4, step=0.3)  # they overlap, and the last ones end at the edge
RANDOM = Rise(samples=13, cells=4)
NOISY = SmoothGradient(steepest, samples=3)
PATH = Integrated(steps=4)


def scaled(maps):
    """To [0, 1], without a resize."""
    return mask(maps, maps.shape[-2:])


def scaled_before(channels, size):
    """torchcam's masks: scaled at the layer's size, then resized."""
    return upsample(scaled(channels), size, "bilinear")


def corners_aligned(channels, size):
    """grad-cam's masks: the corners' centres stay where they are in the resize."""

    def along(side, length):  # (length, side): each row's shares of its two neighbours
        at = jnp.linspace(0, side - 1, length)
        return jax.nn.relu(1 - jnp.abs(at[:, None] - jnp.arange(side, dtype=jnp.float32)[None, :]))

    rows, columns = (along(side, length) for side, length in zip(channels.shape[-2:], size, strict=True))
    return scaled(jnp.einsum("...hw,Hh,Ww->...HW", channels, rows, columns, precision="highest"))


MASKS = (mask, scaled_before, corners_aligned)


def looked(model, layer, pixels, params):
    ours = model_of(model, params)
    forward = functools.partial(ours.forward, params)
    return Look(pixels, functools.partial(network_tail, ours, layer), forward, lambda: 16)


def of_score(layer):
    """Score-CAM's maps with each of the masks, IS-CAM's and SS-CAM's with torchcam's, and the channels' mean."""
    model, _, pixels = pair("resnet18")
    wanted = Wanted("logit", jnp.asarray(CLASSES), 2)

    @functools.partial(jax.jit, static_argnames="score")
    def mapped(params, pixels, which, score):
        def chosen(channels, size):
            return jax.lax.switch(which, [functools.partial(each, size=size) for each in MASKS], channels)

        look = looked(model, layer, pixels, params)
        maps = dataclasses.replace(score, mask=chosen)(look, wanted).maps
        return maps, look.tail(pixels).activations.mean(-1)

    found = [mapped(model.params, pixels, number, Score()) for number in range(len(MASKS))]
    found += [mapped(model.params, pixels, 1, score) for score in (METHODS["is-cam"].explain, SMOOTHED)]
    return [np.asarray(maps) for maps, _ in found], np.asarray(found[0][1])


@functools.cache
def noise(size):
    """SS-CAM's, `(samples, h, w)`."""
    empty = np.zeros((1, SMOOTHED.samples, *size), np.float32)
    return np.array(jax.jit(SMOOTHED.variant)(empty, np.arange(SMOOTHED.samples))[0])


def smoothed_by_torchcam(module, layer, pixels, classes):
    """SS-CAM with our noise: the same for every picture and channel."""
    with torchcam.methods.SSCAM(module, layer, num_samples=SMOOTHED.samples) as cam:
        scores = module(to_torch(pixels))
        (activations,) = cam.hook_a
        shape = (*activations.shape[:2], *pixels.shape[1:3])
        cam._distrib = Replay([torch.from_numpy(sample).expand(shape) for sample in noise(pixels.shape[1:3])])
        return cam([int(number) for number in classes], scores, normalized=False)[0].numpy()


@pytest.mark.parametrize("layer", ["layer3", pytest.param("layer4", marks=pytest.mark.slow)])
def test_score_cams_equal_theirs_with_their_masks(layer):
    _, module, pixels = pair("resnet18")
    (default, before, aligned, integrated, smoothed), mean = of_score(layer)
    for rank, classes in enumerate(zip(*CLASSES, strict=True)):
        torchcams = theirs_torchcam(torchcam.methods.ScoreCAM, module, layer, pixels, classes)
        gradcams = theirs_gradcam(gradcam.ScoreCAM, module, layer, pixels, classes)

        def error(ours, theirs, rank=rank):
            # The weights are a softmax of scores that are much alike: any are nearly the mean.
            return relative_error(ours[:, rank] - mean, theirs - mean)

        assert error(before, torchcams) < OF_WEIGHTS
        assert error(aligned, gradcams) < OF_WEIGHTS
        assert error(default, torchcams) > 1e-3
        assert error(default, gradcams) > 0.05
        if rank == 0:
            iscams = theirs_torchcam(torchcam.methods.ISCAM, module, layer, pixels, classes)
            assert error(integrated, iscams) < OF_WEIGHTS
            assert error(smoothed, smoothed_by_torchcam(module, layer, pixels, classes)) < OF_WEIGHTS


@functools.cache
def of_layer(layer):
    """Ablation-CAM's and Recipro-CAM's maps, and the scores of both targets for the classes."""
    model, _, pixels = pair("resnet18")

    @jax.jit
    def program(params, pixels):
        look = looked(model, layer, pixels, params)
        wanted = Wanted("logit", jnp.asarray(CLASSES), 2)
        found = Ablation()(look, wanted)
        places = Recipro()(look, wanted), Recipro()(look, wanted._replace(target="probability"))
        return found.maps, found.logits, *(each.maps for each in places)

    return [np.asarray(array) for array in program(model.params, pixels)]


@contextlib.contextmanager
def replaced(module, layer, changed):
    """The network with another output of a layer, `changed(output)`."""
    hook = module.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: changed(output))
    try:
        yield module
    finally:
        hook.remove()


@pytest.mark.parametrize("layer", LAYERS)
def test_ablation_cams_equal_gradcams_but_for_the_score(layer):
    _, module, pixels = pair("resnet18")
    maps, logits, *_ = of_layer(layer)
    negative = 0
    for rank, classes in enumerate(zip(*CLASSES, strict=True)):
        expected = theirs_gradcam(gradcam.AblationCAM, module, layer, pixels, classes)
        scores = logits[np.arange(2), list(classes)]
        assert relative_error(maps[:, rank], expected * scores[:, None, None]) < OF_WEIGHTS
        negative += (scores < 0).sum()
    assert negative  # theirs is turned round there


def test_gradcams_ablation_depends_on_its_batch_size_where_no_value_is_zero():
    # It puts the layer's smallest value less 1e7 into the channel, and takes the smallest anew after every channel.
    torch.manual_seed(0)
    pooled = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 5))
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), *pooled)

    def theirs(batch_size):
        extractor = functools.partial(gradcam.AblationCAM, batch_size=batch_size)
        return theirs_gradcam(extractor, module, "0", pair("resnet18")[2][:1], [3])

    assert relative_error(theirs(1), theirs(1)) == 0
    assert relative_error(theirs(8), theirs(1)) > 0.1


@pytest.mark.parametrize("layer", LAYERS)
def test_recipro_cam_equals_a_loop(layer):
    _, module, pixels = pair("resnet18")
    _, _, logits, probabilities = of_layer(layer)
    height, width = logits.shape[2:]
    expected = np.zeros((2, *logits.shape))
    with torch.no_grad():
        for row, column in np.ndindex(height, width):
            alone = torch.zeros(height, width)
            alone[row, column] = 1
            with replaced(module, layer, lambda output, alone=alone: output * alone):
                scores = module(to_torch(pixels))
            for number, table in enumerate((scores, scores.softmax(-1))):
                expected[number, :, :, row, column] = table.numpy()[np.arange(2)[:, None], CLASSES]
    assert relative_error(logits, expected[0]) < TOLERANCE
    assert relative_error(probabilities, expected[1]) < TOLERANCE


@functools.cache
def of_input():
    """What explains the input, and the noise that was added to it; one compilation."""
    model, _, pixels = pair("resnet18")
    wanted = Wanted("logit", jnp.asarray(CLASSES), 2)
    methods = {
        "rise": RANDOM,
        "occlusion": WINDOWS,
        "gradient": METHODS["gradient"].explain,
        "gradient-x-input": METHODS["gradient-x-input"].explain,
        "integrated-gradients": PATH,
        "smooth-grad": NOISY,
    }

    @jax.jit
    def program(params, pixels):
        look = looked(model, "input", pixels, params)
        noisy = jax.vmap(lambda key: NOISY.noisy(pixels, key))(NOISY.noise_keys())
        return {name: method(look, wanted).maps for name, method in methods.items()}, noisy

    maps, noisy = program(model.params, pixels)
    return {name: np.asarray(each) for name, each in maps.items()}, np.asarray(noisy)


def scores_in_torch(pixels):
    """The classes' scores, `(2, k)`."""
    _, module, _ = pair("resnet18")
    with torch.no_grad():
        return module(to_torch(np.asarray(pixels, np.float32))).numpy()[np.arange(2)[:, None], CLASSES]


def gradients_in_torch(pixels):
    """The gradients of the classes' scores at the pixels, `(2, k, h, w, 3)`."""
    _, module, _ = pair("resnet18")
    inputs = to_torch(np.asarray(pixels, np.float32)).requires_grad_()
    outputs = module(inputs)
    slopes = []
    for rank in range(2):
        score = outputs[np.arange(2), [row[rank] for row in CLASSES]].sum()
        (slope,) = torch.autograd.grad(score, inputs, retain_graph=True)
        slopes.append(to_nhwc(slope))
    return np.stack(slopes, 1)


def test_rise_is_the_mean_of_masks_weighed_by_scores():
    pixels = pair("resnet18")[2]
    numbers = jnp.arange(RANDOM.samples)
    masks = jax.jit(jax.vmap(lambda number: RANDOM.mask(number, pixels.shape[1:3])))(numbers)
    masks = np.asarray(masks, np.float64)
    total = sum(scores_in_torch(pixels * each[..., None])[..., None, None] * each for each in masks)
    found = of_input()[0]["rise"]
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6
    assert relative_error(found, total / sum(masks)) < TOLERANCE
    published = total / (RANDOM.samples * RANDOM.shown)  # as if each pixel were shown as often as is expected
    assert relative_error(found, published) > 0.05


def test_occlusion_is_the_mean_fall_behind_the_windows():
    pixels = pair("resnet18")[2]
    clean, (height, width) = scores_in_torch(pixels), pixels.shape[1:3]
    tall, wide = round(0.4 * height), round(0.4 * width)
    tops, lefts = (
        [*range(0, side - extent, round(0.3 * side)), side - extent] for side, extent in ((height, tall), (width, wide))
    )
    total, times = np.zeros((*clean.shape, height, width)), np.zeros((height, width))
    for top in tops:
        for left in lefts:
            behind = (slice(top, top + tall), slice(left, left + wide))
            hidden = pixels.copy()
            hidden[:, *behind] = 0
            total[..., *behind] += (clean - scores_in_torch(hidden))[..., None, None]
            times[behind] += 1
    assert times.min() == 1
    assert times.max() > 1
    assert relative_error(of_input()[0]["occlusion"], total / times) < OF_WEIGHTS


def test_gradients_at_the_input_equal_autograds():
    pixels = pair("resnet18")[2]
    maps, noisy = of_input()
    places = pixels.shape[1] * pixels.shape[2]
    slopes = gradients_in_torch(pixels)
    smooth = np.mean([gradients_in_torch(each) for each in noisy], 0)
    points, weights = np.polynomial.legendre.leggauss(PATH.steps)
    way = zip((points + 1) / 2, weights / 2, strict=True)
    mean = sum(weight * gradients_in_torch(point * pixels) for point, weight in way)
    expected = {
        "gradient": np.abs(slopes).max(-1),
        "gradient-x-input": (slopes * pixels[:, None]).sum(-1),
        "integrated-gradients": (mean * pixels[:, None]).sum(-1),
        "smooth-grad": np.abs(smooth).max(-1),
    }
    for name, map_ in expected.items():
        assert relative_error(maps[name], places * map_) < TOLERANCE, name
    assert relative_error(maps["smooth-grad"], maps["gradient"]) > 0.1
    spread = pixels.max((1, 2, 3)) - pixels.min((1, 2, 3))
    np.testing.assert_allclose((noisy - pixels).std((0, 2, 3, 4)), NOISY.level * spread, rtol=0.05)
