"""EfficientNet-Lite0 against timm's two, `efficientnet_lite0` (PyTorch's padding and epsilon) and `tf_…`."""

import dataclasses

import jax
import numpy as np
import pytest
import timm
import torch
from references import images, randomise, relative_error, state_dict, to_nhwc, to_torch

from camjax.checkpoints.conversion import convert
from camjax.models.registry import ARCHITECTURES

TOLERANCE = 1e-5  # float32, sums in another order; seen: 1e-6


@pytest.fixture(scope="module", params=["efficientnet_lite0", "tf_efficientnet_lite0"])
def pair(request):
    module = randomise(timm.create_model(request.param))
    architecture = ARCHITECTURES[request.param]
    model = architecture.family.outline(architecture.config)
    layout = architecture.family.layouts["timm"]
    params = convert(state_dict(module), layout, architecture.config, model.params)
    return dataclasses.replace(model, params=params), module


def torch_features(module, pixels):
    with torch.no_grad():
        x = module.bn1(module.conv_stem(to_torch(pixels)))
        found = {"bn1": x}
        for number, stage in enumerate(module.blocks):
            x = stage(x)
            found[f"blocks.{number}"] = x
        found["bn2"] = module.bn2(module.conv_head(x))
        return module(to_torch(pixels)).numpy(), {name: to_nhwc(feature) for name, feature in found.items()}


def is_convolution_or_block(name, layer):
    """A convolution, a normalisation, or a block such as `blocks.3.1`."""
    return isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d) or (
        name.count(".") == 2 and "blocks" in name and name[-1].isdecimal()
    )


@pytest.mark.parametrize(
    "size", [pytest.param((64, 64), marks=pytest.mark.slow), (63, 97), pytest.param((224, 150), marks=pytest.mark.slow)]
)
def test_random_weights_equal_timm(pair, size):
    model, module = pair
    pixels = images(2, *size)
    features = jax.jit(model.features)(model.params, pixels)
    expected_logits, expected = torch_features(module, pixels)
    named = {name for name, layer in module.named_modules() if name and is_convolution_or_block(name, layer)}
    assert features.keys() >= expected.keys() | named
    for name, feature in expected.items():
        assert relative_error(features[name], feature) < TOLERANCE, name
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected_logits) < TOLERANCE


def test_parameter_count_is_timms(pair):
    model, module = pair
    buffers = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    counted = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(model.params))
    assert counted == sum(value.numel() for value in buffers.values())
