"""Attention rollout, Chefer's relevance and LeGrad against rewrites in PyTorch, and torchcam.

Tolerance: as for ViT; seen: 1e-6.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import torch
import torchcam.methods
import torchvision
from parity.test_vit import TINY, converted, randomised, timm_pair
from references import relative_error, state_dict, to_torch
from toys import toy_model, uint8_images

from camjax import make_explainer
from camjax.images.preprocess import Preprocess, normalize_images
from camjax.methods.registry import MethodError

TOLERANCE = 2e-5
CLASSES = np.asarray([3, 5])
NAMES = ("rollout", "chefer", "legrad")
SHAPE = (40, 24)


def sized(model, size=SHAPE):
    return dataclasses.replace(model, preprocess=Preprocess(input_size=size))


@functools.cache
def inputs(size=SHAPE):
    pixels = uint8_images(2, *size)
    return pixels, to_torch(np.asarray(normalize_images(pixels, Preprocess())))


def explained(model, name):
    return make_explainer(sized(model), method=name, size=None)(inputs()[0], classes=CLASSES)


def with_attention(module, x):
    """The logits, and what left every block's softmax, part of the graph."""
    kept = []
    hooks = [
        block.attn.attn_drop.register_forward_hook(lambda _, __, output: kept.append(output)) for block in module.blocks
    ]
    logits = module(x)
    for hook in hooks:
        hook.remove()
    return logits, kept


def first_row(matrices, prefix, size=SHAPE):
    product = functools.reduce(lambda later, before: before @ later, matrices)
    return product[:, 0, prefix:].reshape(len(product), size[0] // 8, size[1] // 8).detach().numpy()


@pytest.mark.parametrize("form", ["plain", "registers, layer scale"])
def test_rollout_equals_its_paper(form):
    model, module = timm_pair(form)
    _, attention = with_attention(module, inputs()[1])
    eye = torch.eye(attention[0].shape[-1])
    mixed = [weights.mean(1) + eye for weights in attention]
    expected = first_row([each / each.sum(-1, keepdim=True) for each in mixed], model.tokens.prefix)
    found = explained(model, "rollout").maps
    assert relative_error(found[:, 0], expected) < TOLERANCE
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


@pytest.mark.parametrize("form", ["plain", "registers, layer scale"])
def test_relevance_equals_its_paper(form):
    model, module = timm_pair(form)
    logits, attention = with_attention(module, inputs()[1])
    eye = torch.eye(attention[0].shape[-1])
    found = explained(model, "chefer")
    assert relative_error(found.logits, logits.detach().numpy()) < TOLERANCE
    for number, wanted in enumerate(CLASSES):
        slopes = torch.autograd.grad(logits[:, wanted].sum(), attention, retain_graph=True)
        gains = [(slope * weights).clamp(min=0).mean(1) for slope, weights in zip(slopes, attention, strict=True)]
        expected = first_row([eye + gain for gain in gains], model.tokens.prefix)
        assert relative_error(found.maps[:, number], expected) < TOLERANCE


def test_legrad_equals_torchcams():
    module = torchvision.models.VisionTransformer(32, 8, 3, 3, 24, 96, num_classes=7)
    randomised(module)
    with torch.no_grad():
        module.class_token.normal_()
        module.heads.head.weight.normal_()
    model = converted(TINY, state_dict(module), "torchvision")
    pixels, x = inputs((32, 32))
    explain = make_explainer(sized(model, (32, 32)), method="legrad", size=None)
    maps = explain(pixels, classes=CLASSES).maps
    with torchcam.methods.LeGrad(module, list(module.encoder.layers)) as rival:
        logits = module(x)
        for number, wanted in enumerate(CLASSES):
            (expected,) = rival([int(wanted)] * 2, logits, normalized=False, retain_graph=True)
            assert relative_error(maps[:, number], expected.numpy()) < TOLERANCE


@pytest.mark.parametrize("form", ["mean", "distilled"])
@pytest.mark.parametrize("name", NAMES)
def test_other_heads_are_explained(form, name):
    maps = explained(timm_pair(form)[0], name).maps
    assert maps.shape == (2, 2, 5, 3)
    assert np.isfinite(maps).all()
    assert maps.min() >= 0
    assert maps.std() > 0


@pytest.mark.parametrize("name", NAMES)
def test_pictures_and_classes_one_by_one(name):
    model = timm_pair("plain")[0]
    explain = make_explainer(sized(model), method=name, size=None)
    together = explained(model, name).maps
    for row, picture in enumerate(inputs()[0]):
        for column, wanted in enumerate(CLASSES):
            one = explain(picture[None], classes=np.asarray([wanted])).maps[0, 0]
            np.testing.assert_allclose(one, together[row, column], rtol=1e-4, atol=1e-6)


def test_legrad_computes_the_network_once():
    """Though each block is asked by itself for its score, what comes before it is not computed for each anew."""
    model = timm_pair("plain")[0]
    explain = make_explainer(sized(model), method="legrad", size=None)
    text = explain.lower(jax.ShapeDtypeStruct((1, *SHAPE, 3), np.uint8)).compile().as_text()
    assert text.count("convolution(") == 1, "the patches are embedded once"


@pytest.mark.parametrize("name", NAMES)
def test_networks_without_attention_are_refused_and_layers_too(name):
    with pytest.raises(MethodError, match="names no attention"):
        make_explainer(toy_model(), method=name)
    with pytest.raises(MethodError, match="takes no layer"):
        make_explainer(timm_pair("plain")[0], method=name, layer="blocks.1")
