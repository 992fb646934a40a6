"""ResNet-50 at its full width against pytorch-grad-cam: `pytest -m slow`.

One class of one picture of 64 x 64, at every channel of an inner layer. Tolerance: relative error 1e-5.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pytorch_grad_cam as gradcam
import torchvision
from parity.test_methods import model_of, theirs_gradcam
from parity.test_resnet import convert_torchvision
from references import images, randomise, relative_error

from camjax.methods.registry import METHODS
from camjax.methods.tail import Look, network_tail
from camjax.methods.target import Wanted
from camjax.models.registry import ARCHITECTURES

CLASS, LAYER = 3, "layer3"

pytestmark = pytest.mark.slow


@functools.cache
def pair():
    module = randomise(torchvision.models.resnet50())
    return convert_torchvision("resnet50", ARCHITECTURES["resnet50"].config, module), module, images(1, 64, 64)


def ours(method):
    model, _, pixels = pair()
    wanted = Wanted("logit", jnp.asarray([CLASS]), 1)

    @jax.jit
    def program(params, pixels):
        forward = functools.partial(model.forward, params)
        tail = functools.partial(network_tail, model_of(model, params), LAYER)
        return method(Look(pixels, tail, forward), wanted).maps[0, 0]

    return np.asarray(program(model.params, jnp.asarray(pixels)), np.float64)


def report(name, error, started):
    print(f"{name}: relative error {error:.1e}, {time.monotonic() - started:.0f} s")
    return error


def test_gradient_methods():
    started, (_, module, pixels) = time.monotonic(), pair()
    theirs = {"grad-cam": gradcam.GradCAM, "hires-cam": gradcam.HiResCAM, "layer-cam": gradcam.LayerCAM}
    for name, extractor in theirs.items():
        map_ = ours(METHODS[name].explain)
        expected = theirs_gradcam(extractor, module, LAYER, pixels, [CLASS])[0]
        assert report(name, relative_error(map_ / map_.size, expected), started) < 1e-5
