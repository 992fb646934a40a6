"""VGG against timm and torchvision, which differ at other sizes than those that give 7x7 features."""

import dataclasses
import functools

import jax
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
from timm.models.vgg import VGG

from camjax import make_explainer
from camjax.errors import CamjaxError, CheckpointError
from camjax.models.registry import ARCHITECTURES
from camjax.models.vgg import FAMILY, VGGConfig

NAMES = [name for name, one in ARCHITECTURES.items() if one.family is FAMILY]
TINY = VGGConfig((1, 2, 1), (8, 12, 16), hidden=24, num_classes=5)
LIST = [8, "M", 12, 12, "M", 16, "M"]


def timm_module(normalised):
    """timm's own, but for its 4096 channels in the head, which are no argument."""
    module = VGG(LIST, num_classes=5, norm_layer=torch.nn.BatchNorm2d if normalised else None)
    module.pre_logits.fc1 = torch.nn.Conv2d(16, 24, 7)
    module.pre_logits.fc2 = torch.nn.Conv2d(24, 24, 1)
    module.head.fc = torch.nn.Linear(24, 5)
    return randomise(module)


def torchvision_module(normalised):
    module = torchvision.models.VGG(torchvision.models.vgg.make_layers(LIST, normalised), num_classes=5)
    for place, sizes in {0: (16 * 49, 24), 3: (24, 24), 6: (24, 5)}.items():
        module.classifier[place] = torch.nn.Linear(*sizes)
    return randomise(module)


@functools.cache
def tiny(normalised, layout="timm"):
    module = {"timm": timm_module, "torchvision": torchvision_module}[layout](normalised)
    config = dataclasses.replace(TINY, normalised=normalised, num_classes=1000)
    return converted(FAMILY, config, state_dict(module), layout), module


@pytest.mark.parametrize(("normalised", "size"), [(False, (83, 70)), (True, (83, 70)), (False, (9, 57))])
def test_tiny_networks_equal_timm(normalised, size):
    model, module = tiny(normalised)
    assert_equals(model, module, size, at="features.5" if size[0] == 83 else None)


@pytest.mark.parametrize(("normalised", "size"), [(False, (31, 97)), (True, (83, 70)), (False, (9, 57))])
def test_tiny_networks_equal_torchvision(normalised, size):
    model, module = tiny(normalised, "torchvision")
    assert model.architecture["config"]["averaged"]
    assert_equals(model, module, size, at="features.5" if size[0] == 31 else None)


def test_the_two_are_one_at_7_by_7_only():
    ours = converted(FAMILY, TINY, state_dict(torchvision_module(False)), "torchvision")
    other = FAMILY.outline(TINY)
    for size, same in (((56, 60), True), ((64, 64), False)):
        pixels = images(1, *size)
        error = relative_error(*(jax.jit(model.forward)(ours.params, pixels) for model in (ours, other)))
        assert (error < TOLERANCE) == same


def test_the_default_layer_is_the_last_before_a_pooling_and_cam_says_what_fits():
    model, _ = tiny(True)
    assert model.layer == "features.13"
    assert FAMILY.outline(ARCHITECTURES["vgg16"].config).layer == "features.29"
    with pytest.raises(CamjaxError, match="grad-cam"):
        make_explainer(model, method="cam")


def test_folding_stages_and_files(tmp_path):
    model, _ = tiny(True, "torchvision")
    assert_folding_changes_nothing(model, (51, 38))
    assert_stages_are_the_forward_pass(model, (40, 33))
    assert_saved_is_loaded(model, tmp_path)


@pytest.mark.parametrize("layout", ["timm", "torchvision"])
def test_known_by_its_keys(layout):
    _, module = tiny(True, layout)
    assert_known_by_its_keys(FAMILY, dataclasses.replace(TINY, normalised=True), module, layout)


def test_an_image_of_no_features_is_refused():
    model, _ = tiny(False)
    with pytest.raises(ValueError, match="too small"):
        model.forward(model.params, images(1, 7, 40))


def test_what_timm_makes_differently_is_refused():
    assert FAMILY.from_timm(TINY, {"drop_rate": 0.5, "global_pool": "avg"}) == TINY
    for arguments in ({"mlp_ratio": 0.5}, {"act_layer": "gelu"}, {"global_pool": "max"}):
        with pytest.raises(CheckpointError, match=next(iter(arguments))):
            FAMILY.from_timm(TINY, arguments)


@pytest.mark.parametrize("fields", [{"depths": [1, 2]}, {"depths": [0] * 5}, {"depths": [1] * 5, "hidden": 1 << 20}])
def test_configs_beyond_all_bounds(fields):
    with pytest.raises(ValueError, match=list(fields)[-1]):
        FAMILY.read_config(fields)


def test_parameters_are_timms():
    assert_counts(NAMES, timm.create_model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_the_full_size_equals_torchvision(name):
    module = randomise(torchvision.models.get_model(name))
    model = converted(FAMILY, ARCHITECTURES[name].config, state_dict(module), "torchvision")
    pixels = images(1, 224, 224)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
