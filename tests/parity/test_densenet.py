"""DenseNet against timm and torchvision."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
import timm
import torch
import torchvision
from family_checks import (
    TOLERANCE,
    assert_counts,
    assert_equals,
    assert_folding_changes_nothing,
    assert_known_by_its_keys,
    assert_saved_is_loaded,
    assert_stages_are_the_forward_pass,
    converted,
)
from references import images, randomise, relative_error, state_dict, to_torch
from timm.models.densenet import DenseNet

from camjax import make_explainer
from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.densenet import FAMILY, DenseNetConfig
from camjax.models.registry import ARCHITECTURES

TINY = DenseNetConfig((2, 1, 3), growth=4, stem_width=8, num_classes=5)


@functools.cache
def tiny():
    module = randomise(DenseNet(growth_rate=4, block_config=(2, 1, 3), num_classes=5))
    config = dataclasses.replace(TINY, num_classes=1000)
    return converted(FAMILY, config, state_dict(module), "torchvision"), module


@pytest.mark.parametrize("size", [(64, 64), (61, 90)])
def test_tiny_networks_equal_timm(size):
    assert_equals(*tiny(), size, at="features.transition1.norm" if size[0] == 61 else None)


def torchvision_module():
    return randomise(torchvision.models.DenseNet(4, (2, 1, 3), num_init_features=8, num_classes=5))


def test_tiny_networks_equal_torchvision_whose_files_have_dots():
    module = torchvision_module()
    dotted = {re.sub(r"(denselayer\d+\.\w+)([12]\.)", r"\1.\2", key): x for key, x in state_dict(module).items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in dotted
    models = [
        converted(FAMILY, TINY, state_dict(module), "torchvision"),
        converted(FAMILY, TINY, dotted, "torchvision-dotted"),
    ]
    jax.tree.map(np.testing.assert_array_equal, *(model.params for model in models))
    pixels = images(2, 75, 49)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(models[1].forward)(models[1].params, pixels), expected) < TOLERANCE


def test_folding_stages_and_files(tmp_path):
    model, _ = tiny()
    assert_folding_changes_nothing(model, (51, 38))
    assert_stages_are_the_forward_pass(model, (40, 33))
    assert_saved_is_loaded(model, tmp_path)


def test_cam_is_the_head_at_every_place():
    model = dataclasses.replace(tiny()[0], preprocess=Preprocess((64, 48)))
    explain = make_explainer(model, method="cam", normalize=False, sign="both", size=None)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), np.uint8)
    result = explain(pictures, classes=np.asarray([3]))
    bias = np.asarray(model.params["classifier"]["bias"])
    assert model.layer == "features.norm5"
    assert relative_error(np.asarray(result.maps)[:, 0].mean((1, 2)) + bias[3], np.asarray(result.logits)[:, 3]) < 1e-4


def test_known_by_its_keys():
    assert_known_by_its_keys(FAMILY, TINY, tiny()[1], "torchvision")


def test_what_timm_makes_differently_is_refused():
    assert FAMILY.from_timm(TINY, {"drop_rate": 0.5, "proj_drop_rate": 0.1}) == TINY
    for arguments in ({"stem_type": "deep"}, {"aa_layer": "blur"}, {"growth_rate": 3}, {"global_pool": "max"}):
        with pytest.raises(CheckpointError, match=next(iter(arguments))):
            FAMILY.from_timm(TINY, arguments)


@pytest.mark.parametrize("fields", [{"depths": []}, {"depths": [129]}, {"depths": [1], "growth": 1 << 11}])
def test_configs_beyond_all_bounds(fields):
    with pytest.raises(ValueError, match=f"{list(fields)[-1]}|number of blocks"):
        FAMILY.read_config(fields)


def test_parameters_are_timms():
    assert_counts(("densenet121", "densenet161"), timm.create_model)


@pytest.mark.slow
def test_the_full_size_equals_torchvision():
    module = randomise(torchvision.models.densenet121())
    model = converted(FAMILY, ARCHITECTURES["densenet121"].config, state_dict(module), "torchvision")
    pixels = images(1, 224, 224)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
