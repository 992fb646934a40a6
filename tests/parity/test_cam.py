"""`cam_fn` against PyTorch's own operators, torchcam's `CAM` and pytorch-grad-cam's `GradCAM`."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
import torchvision
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from references import images, randomise, relative_error, state_dict, to_torch
from torchcam.methods import CAM
from toys import random_head

from camjax.checkpoints.conversion import convert
from camjax.core.maps import normalize_maps, upsample
from camjax.methods.cam import cam_fn
from camjax.models.registry import ARCHITECTURES

SIZES = [
    ((7, 7), (224, 224)),
    ((7, 9), (224, 160)),
    ((5, 3), (33, 47)),
    ((8, 8), (5, 3)),
    ((1, 1), (6, 4)),
    ((2, 7), (7, 2)),
]
# Pillow antialiases when it makes smaller.
UPWARDS = [(inner, outer) for inner, outer in SIZES if outer[0] >= inner[0] and outer[1] >= inner[1]]
TOLERANCE = 1e-5  # float32; the two sum in different orders
resized = jax.jit(upsample, static_argnums=(1, 2))


@functools.cache
def resnet18():
    """The same network in torch and here, its features, and two images."""
    module = randomise(torchvision.models.resnet18(num_classes=20))
    architecture = ARCHITECTURES["resnet18"]
    config = dataclasses.replace(architecture.config, num_classes=20)
    model = architecture.family.outline(config)
    params = convert(state_dict(module), architecture.family.layouts["torchvision"], config, model.params)
    pixels = images(2, 96, 160)
    features = jax.jit(lambda params, pixels: model.features(params, pixels)["layer4"])(params, pixels)
    return module, to_torch(pixels), features, model.head(params)


@pytest.mark.parametrize(("inner", "outer"), SIZES)
def test_equals_torch_einsum_and_bicubic(inner, outer):
    features, kernel, bias = random_head(2, *inner, 16)
    result = cam_fn(features, kernel, bias, top_k=3, size=outer)
    f, w, b = (torch.from_numpy(np.array(array)) for array in (features, kernel, bias))
    logits = f.mean((1, 2)) @ w + b
    probabilities, classes = logits.softmax(-1).topk(3)
    maps = torch.einsum("bhwc,cbk->bkhw", f, w[:, classes])
    maps = F.interpolate(maps, outer, mode="bicubic", align_corners=False)
    np.testing.assert_array_equal(result.classes, classes)
    assert relative_error(result.logits, logits) < TOLERANCE
    assert relative_error(result.probabilities, probabilities) < TOLERANCE
    assert relative_error(result.maps, maps) < TOLERANCE


@pytest.mark.parametrize(("inner", "outer"), SIZES)
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_other_methods_equal_torch(method, inner, outer):
    maps = np.moveaxis(np.array(random_head(2, *inner, 3)[0]), -1, 1)
    options = {"mode": "bilinear", "align_corners": False} if method == "bilinear" else {"mode": "nearest-exact"}
    expected = F.interpolate(torch.from_numpy(maps), outer, **options)
    assert relative_error(resized(maps, outer, method), expected) < TOLERANCE


@pytest.mark.parametrize(("inner", "outer"), UPWARDS)
def test_bicubic_equals_pillow(inner, outer):
    maps = np.asarray(random_head(*inner, 1)[0])[..., 0]
    expected = Image.fromarray(maps).resize(outer[::-1], Image.Resampling.BICUBIC)
    assert relative_error(resized(maps, outer, "bicubic"), np.asarray(expected)) < TOLERANCE


def test_equals_torchcam():
    module, pixels, features, head = resnet18()
    result = cam_fn(features, *head, top_k=4)
    with CAM(module, target_layer="layer4", fc_layer="fc") as extractor, torch.no_grad():
        module(pixels)
        for rank in range(4):
            classes = [int(number) for number in np.asarray(result.classes)[:, rank]]
            expected = extractor(classes, normalized=False)[0]
            assert relative_error(np.asarray(result.maps)[:, rank], expected) < TOLERANCE


def test_equals_gradcam():
    module, pixels, features, head = resnet18()
    classes = [3, 11]
    result = cam_fn(features, *head, classes=np.asarray(classes)[:, None])
    with GradCAM(model=module, target_layers=[module.layer4]) as gradcam:
        targets = [ClassifierOutputTarget(number) for number in classes]
        activations = gradcam.activations_and_grads(pixels)
        loss = sum(target(output) for target, output in zip(targets, activations, strict=True))
        loss.backward()
        expected = gradcam.get_cam_image(
            pixels,
            module.layer4,
            targets,
            gradcam.activations_and_grads.activations[0].numpy(),
            gradcam.activations_and_grads.gradients[0].numpy(),
            eigen_smooth=False,
        )
    # GradCAM weighs channels by the logit's mean gradient: the head's column over the number of pixels.
    pixels_count = features.shape[1] * features.shape[2]
    assert relative_error(np.asarray(result.maps)[:, 0] / pixels_count, expected) < TOLERANCE


def test_normalised_maps_equal_gradcam_at_its_own_size():
    module, pixels, features, head = resnet18()
    classes = [3, 11]
    with GradCAM(model=module, target_layers=[module.layer4]) as gradcam:
        expected = gradcam(pixels, [ClassifierOutputTarget(number) for number in classes])
    raw = np.asarray(cam_fn(features, *head, classes=np.asarray(classes)[:, None]).maps)[:, 0]
    # It applies ReLU and min-max first, then resizes with OpenCV (bilinear), then applies min-max again.
    ours = jax.jit(lambda maps: normalize_maps(upsample(normalize_maps(maps), (96, 160), "bilinear")))(raw)
    # Its min-max adds 1e-7 to the range, and OpenCV rounds its weights.
    assert relative_error(ours, expected) < 1e-4
