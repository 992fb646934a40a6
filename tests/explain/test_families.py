"""The methods on a tiny copy of every family: which fit, and maps that are finite and of the right shape."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import uint8_images

from benchmarks.random_weights import randomised
from camjax import LayerError, MethodError, make_explainer
from camjax.core import layers as layers_module
from camjax.core.adapters.nnx import NNXForward
from camjax.core.casting import casts_to
from camjax.core.layers import INPUT, last_of_each_size, layers
from camjax.core.pooled import verified
from camjax.core.reach import reaching_among
from camjax.images.preprocess import Preprocess
from camjax.methods.method import ATTENTION, POOLED, RELUS
from camjax.methods.registry import METHODS
from camjax.models.convnext import ConvNeXtConfig
from camjax.models.densenet import DenseNetConfig
from camjax.models.efficientnet import EfficientNetConfig
from camjax.models.googlenet import GoogLeNetConfig
from camjax.models.inception_v3 import InceptionV3Config
from camjax.models.mobilenet_v3 import MobileNetV3Config
from camjax.models.registry import FAMILIES
from camjax.models.regnet import RegNetConfig
from camjax.models.resnet import ResNetConfig
from camjax.models.resnet_v2 import ResNetV2Config
from camjax.models.squeezenet import SqueezeNetConfig
from camjax.models.swin_network import SwinConfig
from camjax.models.vgg import VGGConfig
from camjax.models.vit_network import ViTConfig

SIZES = collections.defaultdict(lambda: (64, 72), inception_v3=(75, 83))
"""Of the pictures; no convolution of Inception v3's stem pads."""
CLASSES = np.asarray([3, 1])
TINY = {
    "resnet": ResNetConfig((1, 1, 1, 1), bottleneck=False, widths=(4, 6, 8, 8), stem_width=4),
    "resnet_v2": ResNetV2Config((1, 1, 1, 1), bottleneck=False, widths=(4, 6, 8, 8), stem_width=4),
    "efficientnet": EfficientNetConfig((1, 1), (3, 5), (2, 2), (1, 2), (4, 8), 4, 8, activation="silu", squeeze=4),
    "vit": ViTConfig(width=8, depth=1, heads=2, patch=8, grid=(8, 9)),
    "vgg": VGGConfig((1, 1), (4, 8), hidden=8),
    "densenet": DenseNetConfig((1, 1), growth=4, stem_width=4),
    "convnext": ConvNeXtConfig((1, 1), (4, 8)),
    "swin": SwinConfig((1, 1), (1, 2), 4, (4, 4), (True, True)),
    "mobilenet_v3": MobileNetV3Config((1, 1), (3, 5), (2, 2), (4, 8), (4, 8), (False, True), (True, False), 4, 8, 8),
    "regnet": RegNetConfig((1, 1), (4, 8), (4, 4), squeezed=True, stem_width=4),
    "squeezenet": SqueezeNetConfig((0, 1), squeezes=(1, 1), stem_width=4),
    "googlenet": GoogLeNetConfig((4, 4, 8), ((), (), ((2,) * 6,))),
    "inception_v3": InceptionV3Config((), (), expanded=0, thinner=16),
}
POOLED_FAMILIES = {"resnet", "resnet_v2", "efficientnet", "densenet", "swin", "regnet", "googlenet", "inception_v3"}
WITHOUT_RELUS = {"efficientnet", "vit", "convnext", "swin"}
BIASED = {"vgg", "regnet", "squeezenet"}  # the method for biases takes longest to compile
SLOW = {"inception_v3"}  # twenty convolutions at the least
QUICK = [pytest.param(family, marks=pytest.mark.slow) if family in SLOW else family for family in FAMILIES]
OF_PICTURES = {"group-cam", "opti-cam", "guided-grad-cam"}

FEW = ("grad-cam", "score-cam", "ablation-cam")
"""One method of each kind: by the layer and its gradients, by changed images, by a changed layer."""


@functools.cache
def tiny(family):
    config = dataclasses.replace(TINY[family], num_classes=5)
    FAMILIES[family].check(config)
    return dataclasses.replace(
        randomised(FAMILIES[family].outline(config)), preprocess=Preprocess(input_size=SIZES[family])
    )


@pytest.mark.parametrize("family", QUICK)
def test_what_a_network_is_made_of_a_trial_shows(family):
    model = tiny(family)
    assert (model.forward.pooled is not None) == (family in POOLED_FAMILIES)
    if model.forward.pooled is None:
        return
    tried = dataclasses.replace(model, forward=NNXForward(model.forward.graph))
    assert model.is_made_pooled(model.layer)
    assert not tried.is_made_pooled(model.layer)
    for size in {SIZES[family], (96, 80)}:
        assert verified(dataclasses.replace(tried, preprocess=Preprocess(input_size=size)), model.layer) is not None
    for dtype in map(np.dtype, (np.float32, jnp.bfloat16)):
        casts, outputs = casts_to(tried, model.layer, dtype)
        assert (casts, outputs.shape, outputs.dtype) == (False, (1, 5), np.float32)
        said, shape = casts_to(model, model.layer, dtype)
        assert (said, shape.shape, shape.dtype) == (casts, outputs.shape, outputs.dtype)


VITS = {
    "distilled": {"distilled": True},
    "with registers": {"registers": 2, "position_of_class": False, "layer_scale": True},
    "mean": {"pool": "avg"},
    "class token and mean": {"pool": "token_and_avg"},
}


def vit(form):
    config = dataclasses.replace(TINY["vit"], num_classes=5, depth=2, **VITS[form])
    model = randomised(FAMILIES["vit"].outline(config))
    return dataclasses.replace(model, preprocess=Preprocess(input_size=SIZES["vit"]))


@pytest.mark.parametrize("name", [*QUICK, *VITS])
def test_the_scores_depend_on_the_positions_of_the_default_layer(name):
    """Which is why nobody has to ask at every start; so they do on the last layers of several sizes."""
    model = vit(name) if name in VITS else tiny(name)
    found, several = layers(model), last_of_each_size(model, 3)
    wanted = [layer for layer in found if layer in {model.layer, *several}]
    assert reaching_among(model, found, wanted) == {model.layer, *several}


def test_a_network_of_camjaxs_is_not_tried_at_every_start(monkeypatch):
    def tried(*_, **__):
        raise AssertionError("tried")

    for name in ("named_sources", "last_reaching", "reaching_among", "changes_outputs"):
        monkeypatch.setattr(layers_module, name, tried)
    for family in ("resnet", "vit"):
        make_explainer(tiny(family), method="grad-cam", layer=tiny(family).layer)
        assert make_explainer(tiny(family), method="grad-cam").layer == tiny(family).layer


@pytest.mark.parametrize("layer", ["norm", "blocks.0", "blocks.0.norm2"])
def test_a_named_layer_whose_class_token_alone_is_read_is_refused(layer):
    words = f"do not depend on layer '{layer}' at any position on the image; they depend on layer='blocks.0.norm1'"
    with pytest.raises(LayerError, match=words):
        make_explainer(tiny("vit"), method="grad-cam", layer=layer)


def test_pictures_of_which_nothing_is_left_at_the_layer():
    explain = make_explainer(tiny("densenet"), top_k=2)
    assert np.isfinite(explain(uint8_images(1, 8, 8)).maps).all()
    with pytest.raises(LayerError, match="images of 4 x 4 are too small for model"):
        explain(uint8_images(1, 4, 4))


def fits(name, family):
    """Whether a family has what a method needs."""
    method = METHODS[name]
    return (
        (method.needs != ATTENTION or family == "vit")
        and (method.needs != POOLED or family in POOLED_FAMILIES)
        and (RELUS not in method.needs or family not in WITHOUT_RELUS)
    )


def space(explain, model):
    """Rows and columns of the raw maps: those of the layer, or of the pictures where it looks at those."""
    method = explain.plan.method
    if method.name in OF_PICTURES or (explain.layer == INPUT and method.needs != ATTENTION):
        return model.preprocess.input_size
    return (8, 9) if model.tokens is not None else layers(model)[explain.layer].shape[1:3]


def test_every_family_has_a_tiny_copy():
    assert TINY.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", QUICK)
def test_some_methods_on_every_family(family):
    """All in one program, which computes what they share once."""
    model, pictures = tiny(family), uint8_images(2, *SIZES[family])
    names = [*FEW, *(["cam"] if family in POOLED_FAMILIES else []), *(["full-grad"] if family in BIASED else [])]
    explainers = {name: make_explainer(model, method=name, size=None) for name in names}

    @jax.jit
    def program(explainers, pictures):
        return {name: explain(pictures, CLASSES) for name, explain in explainers.items()}

    for name, found in program(explainers, pictures).items():
        assert found.maps.shape == (2, 2, *space(explainers[name], model)), name
        assert np.isfinite(found.maps).all(), name
        assert np.isfinite(found.logits).all(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_that_need_more_are_refused(family):
    for name in METHODS:
        if not fits(name, family) and RELUS not in METHODS[name].needs:
            with pytest.raises(MethodError):
                make_explainer(tiny(family), method=name)(uint8_images(1, *SIZES[family]))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_on_every_family(name, family):
    model, pictures = tiny(family), uint8_images(2, *SIZES[family])
    if not fits(name, family):
        with pytest.raises((MethodError, LayerError)):
            make_explainer(model, method=name)(pictures, CLASSES)
        return
    size = "input" if METHODS[name].fusion else None
    explain = make_explainer(model, method=name, size=size)
    found = explain(pictures, CLASSES)
    assert found.maps.shape == (2, 2, *(SIZES[family] if size else space(explain, model)))
    assert np.isfinite(found.maps).all()
    jax.clear_caches()  # hundreds of programs would not fit into memory beside each other
