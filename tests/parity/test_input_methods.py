"""Methods of the whole network against torch: FullGrad, guided backpropagation and Guided Grad-CAM.

Tolerance: relative error 1e-5 in float32, FullGrad's 1e-3: pytorch-grad-cam adds 1e-7 to every channel's largest value,
which is about 1e-4.
"""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pytorch_grad_cam as gradcam
import torch
from parity.test_resnet import convert_torchvision, narrow_pair
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from references import relative_error, to_nhwc, to_torch
from toys import uint8_images

from camjax import LayerError
from camjax.explain.explainer import make_explainer
from camjax.images.preprocess import normalize_images
from camjax.methods.full import FullGrad
from camjax.methods.registry import METHODS

CLASSES = (8, 9)  # whose Grad-CAM is positive at some places only
PICTURES = uint8_images(1, 64, 96)


@pytest.fixture(scope="module")
def pair():
    """Our network, theirs without ReLUs in place, and the normalised picture."""
    config, module = narrow_pair("resnet18")
    for inner in module.modules():
        if isinstance(inner, torch.nn.ReLU):
            inner.inplace = False
    model = convert_torchvision("resnet18", config, module)
    return model, module, np.asarray(normalize_images(jnp.asarray(PICTURES), model.preprocess))


def explained(model, method, **options):
    explain = make_explainer(model, method=method, size=None, **options)
    return np.asarray(explain(PICTURES, np.asarray(CLASSES)).maps[0])


def test_full_grad_equals_gradcams_where_channels_are_scaled_alike(pair):
    model, module, pixels = pair
    by_channel = dataclasses.replace(METHODS["full-grad"], explain=FullGrad(by_channel=True))
    found, default = explained(model, by_channel), explained(model, "full-grad")
    for number, ours, papers in zip(CLASSES, found, default, strict=True):
        with gradcam.FullGrad(module, []) as cam:
            expected = cam(to_torch(pixels), [ClassifierOutputTarget(number)])[0]
        scaled = (ours - ours.min()) / (ours.max() - ours.min())
        assert relative_error(scaled, expected) < 1e-3
        assert relative_error((papers - papers.min()) / np.ptp(papers), expected) > 0.05  # all channels alike


def guided_gradients(module, pixels, number):
    """Torch's, through hooks on the ReLUs: `(h, w, 3)`."""
    hooks = [
        inner.register_full_backward_hook(lambda _, gradients, __: (gradients[0].clamp(min=0),))
        for inner in module.modules()
        if isinstance(inner, torch.nn.ReLU)
    ]
    x = to_torch(pixels).requires_grad_()
    module(x)[0, number].backward()
    for hook in hooks:
        hook.remove()
    return to_nhwc(x.grad)[0]


def test_guided_backpropagation_and_guided_grad_cam(pair):
    model, module, pixels = pair
    fine, both = explained(model, "guided-backprop"), explained(model, "guided-grad-cam", layer="layer3")
    places = fine.shape[1] * fine.shape[2]
    for number, ours, product in zip(CLASSES, fine, both, strict=True):
        guided = places * np.abs(guided_gradients(module, pixels, number)).max(-1)
        assert relative_error(ours, guided) < 1e-5
        with gradcam.GradCAM(module, [module.layer3]) as cam:
            cam.activations_and_grads(to_torch(pixels))[0, number].backward()
            activations, gradients = (
                getattr(cam.activations_and_grads, kind)[0].detach().numpy()[0] for kind in ("activations", "gradients")
            )
        coarse = np.maximum(np.einsum("chw,c->hw", activations, gradients.sum((1, 2))), 0)
        large = cv2.resize(coarse, ours.shape[::-1], interpolation=cv2.INTER_LINEAR)
        assert relative_error(product, large * guided) < 1e-4  # OpenCV's weights are in float32


def test_a_network_without_relus_has_no_guided_backpropagation(pair):
    model = dataclasses.replace(
        pair[0], forward=lambda params, images: jax.nn.gelu(images).mean((1, 2)), prepare=None, stages=(), layer="input"
    )
    with pytest.raises(LayerError, match="there is no ReLU here"):
        make_explainer(model, method="guided-backprop", top_k=1)(PICTURES)
