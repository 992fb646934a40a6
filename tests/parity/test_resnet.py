"""ResNets against torchvision, timm and transformers with the same random weights.

Tolerance: relative error 1e-5 in float32, about ten times what the deepest network shows (sums run in another order).
"""

import dataclasses

import jax
import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from references import images, outlined, randomise, relative_error, state_dict, to_nhwc, to_torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

from camjax import layers, tap
from camjax.checkpoints.conversion import convert
from camjax.models.registry import ARCHITECTURES

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d")
DEEP_ONES_SLOW = [pytest.param(name, marks=[pytest.mark.slow] * name.endswith(("101", "152"))) for name in NAMES]
"""The deepest are ResNet-50's blocks once more."""
FULL = [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in ("resnet18", "resnet50", "resnext50_32x4d")))
    for name in NAMES
]
"""The others are as deep or as wide again."""
WIDTHS = (8, 16, 24, 32)
TOLERANCE = 1e-5


def narrow_pair(name, num_classes=10):
    """Our config of a network with few channels, and timm's module of the same."""
    config = ARCHITECTURES[name].config
    module = ResNet(
        Bottleneck if config.bottleneck else BasicBlock,
        config.depths,
        channels=WIDTHS,
        cardinality=min(config.groups, 4),
        base_width=config.group_width * 8 if config.groups > 1 else config.group_width,
        num_classes=num_classes,
    )
    ours = dataclasses.replace(
        config,
        widths=WIDTHS,
        groups=min(config.groups, 4),
        group_width=config.group_width * 8 if config.groups > 1 else config.group_width,
        num_classes=num_classes,
    )
    return ours, randomise(module)


def convert_torchvision(name, config, module):
    family = ARCHITECTURES[name].family
    model = family.outline(config)
    params = convert(state_dict(module), family.layouts["torchvision"], config, model.params)
    return dataclasses.replace(model, params=params)


def torch_features(module, pixels):
    """The named features by forward hooks: what a layer really gave, not what a wrapper says."""
    found = {}
    hooks = [
        getattr(module, theirs).register_forward_hook(
            lambda _m, _i, out, name=ours: found.__setitem__(name, out.clone())
        )
        for ours, theirs in {"stem": "maxpool", **{f"layer{n}": f"layer{n}" for n in range(1, 5)}}.items()
    ]
    with torch.no_grad():
        logits = module(to_torch(pixels))
    for hook in hooks:
        hook.remove()
    return logits.numpy(), {name: to_nhwc(feature) for name, feature in found.items()}


def computed(model, pixels):
    """Features and logits, by one program: the network is compiled once."""
    return jax.jit(lambda *given: (model.features(*given), model.forward(*given)))(model.params, pixels)


def assert_same(model, module, pixels):
    features, logits = computed(model, pixels)
    expected_logits, expected = torch_features(module, pixels)
    assert features.keys() >= {"stem", "layer1", "layer2", "layer3", "layer4"}
    for name, feature in expected.items():
        assert relative_error(features[name], feature) < TOLERANCE, name
    assert relative_error(logits, expected_logits) < TOLERANCE


@pytest.mark.parametrize(
    "size", [pytest.param((64, 64), marks=pytest.mark.slow), (65, 97), pytest.param((33, 128), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", DEEP_ONES_SLOW)
def test_narrow_copies_equal_timm(name, size):
    config, module = narrow_pair(name)
    assert_same(convert_torchvision(name, config, module), module, images(2, *size))


@pytest.mark.parametrize("name", FULL)
def test_full_widths_equal_torchvision(name):
    module = randomise(getattr(torchvision.models, name)())
    config = ARCHITECTURES[name].config
    assert_same(convert_torchvision(name, config, module), module, images(1, 96, 64))


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts_are_torchvisions(name):
    architecture = ARCHITECTURES[name]
    leaves = jax.tree.leaves(architecture.family.outline(architecture.config).params)
    with outlined():
        module = getattr(torchvision.models, name)()
    buffers = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == sum(value.numel() for value in buffers.values())


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
def test_transformers_names(layer_type):
    torch.manual_seed(0)
    theirs = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[32, 64, 96, 128], depths=[2, 1, 3, 1], layer_type=layer_type, num_labels=7
    )
    module = randomise(transformers.ResNetForImageClassification(theirs))
    bottleneck = layer_type == "bottleneck"
    config = dataclasses.replace(
        ARCHITECTURES["resnet50"].config,
        depths=(2, 1, 3, 1),
        bottleneck=bottleneck,
        widths=tuple(width // (4 if bottleneck else 1) for width in (32, 64, 96, 128)),
        stem_width=16,
        num_classes=7,
    )
    family = ARCHITECTURES["resnet50"].family
    outline = family.outline(config)
    params = convert(state_dict(module), family.layouts["transformers"], config, outline.params)
    pixels = images(2, 65, 97)
    features, logits = computed(dataclasses.replace(outline, params=params), pixels)
    with torch.no_grad():
        expected = module(to_torch(pixels), output_hidden_states=True)
    stages = ("stem", "layer1", "layer2", "layer3", "layer4")
    for name, hidden in zip(stages, expected.hidden_states, strict=True):
        assert relative_error(features[name], to_nhwc(hidden)) < TOLERANCE, name
    assert relative_error(logits, expected.logits) < TOLERANCE


def test_bfloat16_stays_near_float32():
    config, module = narrow_pair("resnet50")
    model = convert_torchvision("resnet50", config, module)
    pixels = images(2, 64, 64)
    exact = jax.jit(model.features)(model.params, pixels)["layer4"]
    features = jax.jit(model.features)(model.params, pixels.astype(jax.numpy.bfloat16))
    assert all(feature.dtype == jax.numpy.bfloat16 for name, feature in features.items() if name != "fc")
    # bfloat16 keeps 8 bits, 0.4 %; fifty layers of it add up to a few per cent.
    assert relative_error(features["layer4"], exact) < 0.05
    assert features["fc"].dtype == jax.numpy.float32


def test_timm_and_torchvision_share_names():
    with outlined():
        assert timm.create_model("resnet50").state_dict().keys() == torchvision.models.resnet50().state_dict().keys()


def torch_layers(module, pixels, names, classes):
    """Every named layer's output and the gradient of the pictures' classes there, by hooks.

    What goes on from a layer is a copy: in-place ReLUs and sums write over what a hook was given, so that value and
    gradient would be of two arrays.
    """
    found = {}

    def keep(name):
        def hook(_module, _inputs, output):
            output.retain_grad()
            found[name] = output
            return output.clone()

        return hook

    hooks = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    logits = module(to_torch(pixels))
    logits[range(len(classes)), classes].sum().backward()
    for hook in hooks:
        hook.remove()
    return {name: (to_nhwc(output), to_nhwc(output.grad)) for name, output in found.items()}


@pytest.mark.parametrize(("name", "narrow"), [("resnet18", True), ("resnet50", False)])
def test_every_layer_equals_torchs_in_value_and_in_gradient(name, narrow):
    if narrow:
        config, module = narrow_pair(name)
    else:
        config, module = ARCHITECTURES[name].config, randomise(getattr(torchvision.models, name)())
    model, pixels, classes = convert_torchvision(name, config, module), images(2, 64, 96, seed=1), np.asarray([3, 7])
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Sequential, type(module.layer1[0]))
    names = [path for path, layer in module.named_modules() if path and isinstance(layer, kinds)]
    assert names  # and ours are the same, but for what has no name there, and the head
    assert {*names} == layers(model, (64, 96)).keys() - {"stem", "fc"}
    expected = torch_layers(module, pixels, names, classes)

    @jax.jit
    def values_and_gradients(params, pixels):
        added = {name: jax.numpy.zeros(expected[name][0].shape) for name in names}

        def score(added):
            logits, arrays = tap(model.forward, add=added, read=names)(params, pixels)
            return logits[np.arange(2), classes].sum(), arrays

        (_, arrays), gradients = jax.value_and_grad(score, has_aux=True)(added)
        return arrays, gradients

    arrays, gradients = values_and_gradients(model.params, pixels)
    for layer, (value, gradient) in expected.items():
        assert relative_error(arrays[layer], value) < TOLERANCE, layer
        assert relative_error(gradients[layer], gradient) < TOLERANCE, layer


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_gradient_of_a_black_picture_equals_torchvision(name):
    # All ties: max pooling decides which pixel gets the gradient.
    config, module = narrow_pair(name)
    model = convert_torchvision(name, config, module)
    black = np.zeros((2, 64, 97, 3), np.float32)
    inputs = to_torch(black).requires_grad_()
    (expected,) = torch.autograd.grad(module(inputs)[:, 3].sum(), inputs)

    def logit(images, params):
        return model.forward(params, images)[:, 3].sum()

    assert relative_error(jax.jit(jax.grad(logit))(black, model.params), to_nhwc(expected)) < TOLERANCE
