"""EfficientNet-Lite0 against timm's `tf_efficientnet_lite0`, with random weights and with the real ones."""

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


@pytest.fixture(scope="module")
def pair():
    module = randomise(timm.create_model("tf_efficientnet_lite0"))
    architecture = ARCHITECTURES["efficientnet_lite0"]
    model = architecture.family.outline(architecture.config)
    table = architecture.family.layouts["timm"](architecture.config)
    return dataclasses.replace(model, params=convert(state_dict(module), table, model.params)), module


def torch_features(module, pixels):
    with torch.no_grad():
        x = module.bn1(module.conv_stem(to_torch(pixels)))
        found = {"stem": x}
        for number, stage in enumerate(module.blocks, start=1):
            x = stage(x)
            found[f"stage{number}"] = x
        found["head"] = module.bn2(module.conv_head(x))
        return module(to_torch(pixels)).numpy(), {name: to_nhwc(feature) for name, feature in found.items()}


@pytest.mark.parametrize("size", [(64, 64), (63, 97), (224, 150)])
def test_random_weights_equal_timm(pair, size):
    model, module = pair
    pixels = images(2, *size)
    features = jax.jit(model.features)(model.params, pixels)
    expected_logits, expected = torch_features(module, pixels)
    assert features.keys() == expected.keys()
    for name, feature in expected.items():
        assert relative_error(features[name], feature) < TOLERANCE, name
    assert relative_error(model.forward(model.params, pixels), expected_logits) < TOLERANCE


def test_parameter_count_is_timms(pair):
    model, module = pair
    buffers = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    counted = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(model.params))
    assert counted == sum(value.numel() for value in buffers.values())
