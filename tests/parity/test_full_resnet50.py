"""ResNet-50 at its full width against pytorch-grad-cam and torchcam: `pytest -m slow`.

One class of one picture of 64 x 64, at every channel of an inner layer. Tolerance: relative error 1e-5; 1e-4 where
weights are a softmax, or the small difference, of scores; 1e-3 for FullGrad, where theirs adds 1e-7 to every channel's
largest value.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pytorch_grad_cam as gradcam
import torch
import torchcam.methods
import torchvision
from parity.test_methods import model_of, theirs_gradcam, theirs_torchcam
from parity.test_perturbations import scaled_before
from parity.test_resnet import convert_torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from references import images, randomise, relative_error, to_torch

from camjax.core.inference import for_inference
from camjax.methods.full import FullGrad
from camjax.methods.registry import METHODS
from camjax.methods.score import Score
from camjax.methods.tail import Look, network_tail
from camjax.methods.target import Wanted
from camjax.models.registry import ARCHITECTURES

CLASS, LAYER, FEWEST = 3, "layer3", "layer1"

pytestmark = pytest.mark.slow


@functools.cache
def pair():
    module = randomise(torchvision.models.resnet50())
    for inner in module.modules():
        if isinstance(inner, torch.nn.ReLU):
            inner.inplace = False  # gradients before it would meet what is after it
    return convert_torchvision("resnet50", ARCHITECTURES["resnet50"].config, module), module, images(1, 64, 64)


def ours(method, layer=LAYER):
    model, _, pixels = pair()
    wanted = Wanted("logit", jnp.asarray([CLASS]), 1)

    @jax.jit
    def program(params, pixels):
        forward = functools.partial(model.forward, params)
        tail = functools.partial(network_tail, model_of(model, params), layer)
        found = method(Look(pixels, tail, forward), wanted)
        return found.maps[0, 0], found.logits[0, CLASS], tail(pixels).activations[0].mean(-1)

    return [np.asarray(array, np.float64) for array in program(model.params, jnp.asarray(pixels))]


def report(name, error, started):
    print(f"{name}: relative error {error:.1e}, {time.monotonic() - started:.0f} s")
    return error


def test_gradient_methods():
    started, (_, module, pixels) = time.monotonic(), pair()
    theirs = {"grad-cam": gradcam.GradCAM, "hires-cam": gradcam.HiResCAM, "layer-cam": gradcam.LayerCAM}
    for name, extractor in theirs.items():
        map_, *_ = ours(METHODS[name].explain)
        expected = theirs_gradcam(extractor, module, LAYER, pixels, [CLASS])[0]
        assert report(name, relative_error(map_ / map_.size, expected), started) < 1e-5


def test_score_cam():
    # At the layer with the fewest channels: a pass for each of 256.
    started, (_, module, pixels) = time.monotonic(), pair()
    map_, _, mean = ours(Score(mask=scaled_before), FEWEST)
    expected = theirs_torchcam(torchcam.methods.ScoreCAM, module, FEWEST, pixels, [CLASS])[0]
    # The weights are a softmax of scores that are much alike: any are nearly the mean.
    assert report("score-cam", relative_error(map_ - mean, expected - mean), started) < 1e-4


def test_ablation_cam():
    started, (_, module, pixels) = time.monotonic(), pair()
    map_, score, _ = ours(METHODS["ablation-cam"].explain, FEWEST)
    expected = theirs_gradcam(gradcam.AblationCAM, module, FEWEST, pixels, [CLASS])[0]
    assert report("ablation-cam", relative_error(map_, expected * score), started) < 1e-4


def test_full_grad():
    started, (model, module, pixels) = time.monotonic(), pair()
    prepared = for_inference(model)  # its normalisations are folded: one bias for each, as theirs has it

    @jax.jit
    def program(params, pixels):
        forward = functools.partial(prepared.forward, params)
        look = Look(pixels, functools.partial(network_tail, model_of(prepared, params), "input"), forward)
        return FullGrad(by_channel=True)(look, Wanted("logit", jnp.asarray([CLASS]), 1)).maps[0, 0]

    map_ = np.asarray(program(prepared.params, jnp.asarray(pixels)), np.float64)
    with gradcam.FullGrad(module, []) as cam:
        expected = cam(to_torch(pixels), [ClassifierOutputTarget(CLASS)])[0]
    assert report("full-grad", relative_error((map_ - map_.min()) / np.ptp(map_), expected), started) < 1e-3
