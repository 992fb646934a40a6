"""Attention rollout, Chefer's relevance and LeGrad against rewrites in PyTorch, and torchcam.

Tolerance: as for ViT; seen: 1e-6.
"""

import dataclasses
import functools
import tempfile

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch
import torchcam.methods
import torchvision
import transformers
from parity.test_vit import FAMILY, TINY, TRANSFORMERS, converted, randomised, timm_pair
from references import relative_error, state_dict, to_torch
from toys import toy_model, uint8_images

from camjax import make_explainer
from camjax.images.preprocess import Preprocess, normalize_images
from camjax.methods.registry import MethodError
from camjax.models.registry import ARCHITECTURES
from camjax.models.swin_network import SwinConfig

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


@functools.cache
def explained_form(form, name):
    return explained(computed(form)[0], name)


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


STARTS = {
    "plain": {0: 1},
    "registers, layer scale": {0: 1},
    "distilled": {0: 1 / 2, 1: 1 / 2},
    "mean": {"places": 1},
    "token_and_avg": {0: 1 / 2, "places": 1 / 2},
}
"""How much the head reads of single tokens, and of all places together."""


def rows_read(form, matrices, prefix, size=SHAPE):
    """The rows of the product of all blocks that belong to the tokens that the head reads."""
    product = functools.reduce(lambda later, before: before @ later, matrices)
    rows = {"places": product[:, prefix:].mean(1), **{number: product[:, number] for number in range(prefix)}}
    read = sum(share * rows[what] for what, share in STARTS[form].items())
    return read[:, prefix:].reshape(len(product), size[0] // 8, size[1] // 8).detach().numpy()


@functools.cache
def dinov2_pair():
    """transformers' head reads the class token and the mean of the places side by side."""
    described = transformers.Dinov2Config(**TRANSFORMERS, attn_implementation="eager")
    module = randomised(transformers.Dinov2ForImageClassification(described))
    config = dataclasses.replace(FAMILY.from_transformers["dinov2"](described.to_dict()).config, num_classes=7)
    assert config.pool == "token_and_avg"
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)  # whose names are the hub's, unlike those of the module
        tensors = safetensors.numpy.load_file(f"{folder}/model.safetensors")
    return converted(config, tensors, "transformers dinov2"), module


@functools.cache
def computed(form):
    """camjax's model, and PyTorch's logits and attention of the inputs."""
    if form != "token_and_avg":
        model, module = timm_pair(form)
        return model, *with_attention(module, inputs()[1])
    model, module = dinov2_pair()
    found = module(inputs()[1], output_attentions=True)
    return model, found.logits, list(found.attentions)


@pytest.mark.parametrize("form", STARTS)
def test_rollout_equals_its_paper(form):
    model, _, attention = computed(form)
    eye = torch.eye(attention[0].shape[-1])
    mixed = [weights.mean(1) + eye for weights in attention]
    expected = rows_read(form, [each / each.sum(-1, keepdim=True) for each in mixed], model.tokens.prefix)
    found = explained_form(form, "rollout").maps
    assert relative_error(found[:, 0], expected) < TOLERANCE
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


@pytest.mark.parametrize("form", STARTS)
def test_relevance_equals_its_paper(form):
    model, logits, attention = computed(form)
    eye = torch.eye(attention[0].shape[-1])
    found = explained_form(form, "chefer")
    assert relative_error(found.logits, logits.detach().numpy()) < TOLERANCE
    for number, wanted in enumerate(CLASSES):
        slopes = torch.autograd.grad(logits[:, wanted].sum(), attention, retain_graph=True)
        gains = [(slope * weights).clamp(min=0).mean(1) for slope, weights in zip(slopes, attention, strict=True)]
        expected = rows_read(form, [eye + gain for gain in gains], model.tokens.prefix)
        assert relative_error(found.maps[:, number], expected) < TOLERANCE


@pytest.mark.parametrize("form", ["mean", "distilled"])
def test_bfloat16_reads_the_same_tokens(form):
    """A token too many or too few would be an error of a half, or of a fifteenth."""
    model = sized(computed(form)[0])
    explain = make_explainer(model, method="rollout", size=None, dtype=jax.numpy.bfloat16)
    assert relative_error(explain(inputs()[0], classes=CLASSES).maps, explained_form(form, "rollout").maps) < 0.02


@pytest.mark.parametrize("name", ["rollout", "chefer"])
def test_the_starting_rows_are_the_same_for_a_sure_class_and_another_target(name):
    """The softmax of a sure class has no gradient, and what no score depends on is read from nowhere."""
    model = computed("plain")[0]
    sure = dataclasses.replace(model, params=jax.tree.map(lambda leaf: leaf, model.params))
    sure.params["head"]["kernel"] = 1e4 * sure.params["head"]["kernel"]
    found = make_explainer(sized(sure), method=name, target="probability", size=None)(inputs()[0], classes=CLASSES).maps
    expected = explained_form("plain", name).maps if name == "rollout" else np.zeros_like(found)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


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


def test_legrad_of_another_head_is_finite():
    maps = explained_form("mean", "legrad").maps
    assert maps.shape == (2, 2, 5, 3)
    assert np.isfinite(maps).all()
    assert maps.min() >= 0
    assert maps.std() > 0


@pytest.mark.parametrize("name", NAMES)
def test_pictures_and_classes_one_by_one(name):
    explain = make_explainer(sized(computed("plain")[0]), method=name, size=None)
    together = explained_form("plain", name).maps
    for row, picture in enumerate(inputs()[0]):
        for column, wanted in enumerate(CLASSES):
            one = explain(picture[None], classes=np.asarray([wanted])).maps[0, 0]
            np.testing.assert_allclose(one, together[row, column], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_computed_once(name):
    """Though LeGrad asks each block for its own score, and chefer adds to attention that it also reads."""
    model = timm_pair("plain")[0]
    explain = make_explainer(sized(model), method=name, size=None)
    text = explain.lower(jax.ShapeDtypeStruct((1, *SHAPE, 3), np.uint8)).compile().as_text()
    assert text.count("convolution(") == 1, "the patches are embedded once"


@pytest.mark.parametrize("name", NAMES)
def test_networks_without_attention_are_refused_and_layers_too(name):
    config = SwinConfig(depths=(1,), heads=(2,), width=8, windows=(4,), moved=(False,), num_classes=7)
    windows = ARCHITECTURES["swin_tiny_patch4_window7_224"].family.outline(config)
    for model in (toy_model(), sized(windows, (32, 32))):
        with pytest.raises(MethodError, match="names no attention"):
            make_explainer(model, method=name)
    with pytest.raises(MethodError, match="takes no layer"):
        make_explainer(timm_pair("plain")[0], method=name, layer="blocks.1")
