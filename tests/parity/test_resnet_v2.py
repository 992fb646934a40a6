"""Pre-activation ResNets against timm's `resnetv2_*` with the same random weights.

Tolerance: relative error 1e-5 in float32, about ten times what is seen (sums run in another order).
"""

import dataclasses

import jax
import pytest
import timm
import torch
from references import images, randomise, relative_error, state_dict, to_nhwc, to_torch

from camjax.checkpoints.conversion import convert
from camjax.checkpoints.identify import identify
from camjax.models.registry import ARCHITECTURES

NAMES = ("resnetv2_18", "resnetv2_34", "resnetv2_50", "resnetv2_101", "resnetv2_152")
TOLERANCE = 1e-5


def pair(name, **narrow):
    module = randomise(timm.create_model(name, **narrow))
    architecture = ARCHITECTURES[name]
    config = architecture.config
    if narrow:
        expansion = config.expansion
        widths = tuple(width // expansion for width in narrow["channels"])
        config = dataclasses.replace(config, widths=widths, num_classes=narrow["num_classes"])
    model = architecture.family.outline(config)
    params = convert(state_dict(module), architecture.family.layouts["timm"], config, model.params)
    return dataclasses.replace(model, params=params), module


def torch_features(module, pixels):
    with torch.no_grad():
        x = module.stem(to_torch(pixels))
        found = {"stem": x}
        for number, stage in enumerate(module.stages):
            x = stage(x)
            found[f"stages.{number}"] = x.clone()
        found["norm"] = module.norm(x.clone())
        return module(to_torch(pixels)), {name: to_nhwc(feature) for name, feature in found.items()}


def assert_same(model, module, pixels):
    features = jax.jit(model.features)(model.params, pixels)
    logits, expected = torch_features(module, pixels)
    named = {
        name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d)
    }
    assert features.keys() >= expected.keys() | named - {"head.fc"}
    for name, feature in expected.items():
        assert relative_error(features[name], feature) < TOLERANCE, name
    assert relative_error(jax.jit(model.forward)(model.params, pixels), logits) < TOLERANCE


@pytest.mark.parametrize("size", [pytest.param((64, 64), marks=pytest.mark.slow), (65, 97)])
@pytest.mark.parametrize("name", ["resnetv2_18", "resnetv2_50"])
def test_narrow_copies_equal_timm(name, size):
    channels = (64, 80, 96, 112) if name == "resnetv2_18" else (32, 64, 96, 128)
    assert_same(*pair(name, channels=channels, num_classes=10), images(2, *size))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.endswith(("34", "101", "152"))) for name in NAMES]
)
def test_full_widths_equal_timm(name):
    assert_same(*pair(name), images(1, 64, 96))


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_known_by_its_keys(name):
    module = timm.create_model(name, num_classes=3)
    match, params = identify(state_dict(module), ARCHITECTURES.values())
    assert (match.architecture.name, match.layout) == (name, "timm")
    assert params["head"]["fc"]["kernel"].shape[1] == 3
