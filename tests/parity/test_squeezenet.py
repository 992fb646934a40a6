"""SqueezeNet against torchvision, whose two networks are small enough to be compared as they are."""

import functools

import pytest
import torchvision
from family_checks import (
    assert_counts,
    assert_equals,
    assert_folding_changes_nothing,
    assert_known_by_its_keys,
    assert_saved_is_loaded,
    assert_stages_are_the_forward_pass,
    converted,
)
from references import randomise, state_dict

from camjax import make_explainer
from camjax.errors import CamjaxError
from camjax.models.registry import ARCHITECTURES
from camjax.models.squeezenet import FAMILY

NAMES = ("squeezenet1_0", "squeezenet1_1")


@functools.cache
def pair(name):
    module = randomise(torchvision.models.get_model(name, num_classes=5))
    return converted(FAMILY, ARCHITECTURES[name].config, state_dict(module), "torchvision"), module


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_equal_torchvision(name):
    """At 64 x 91 pixels the last window of a max-pool is only partly filled."""
    model, module = pair(name)
    # The last convolution has no name of its own there, but a place.
    assert_equals(model, module, (64, 91), others=("classifier.1",), at=model.stages[1].name)


def test_inference_stages_and_files(tmp_path):
    model, module = pair("squeezenet1_1")
    assert_folding_changes_nothing(model, (51, 38))
    assert_stages_are_the_forward_pass(model, (40, 37))
    assert_saved_is_loaded(model, tmp_path)
    assert_known_by_its_keys(FAMILY, ARCHITECTURES["squeezenet1_1"].config, module, "torchvision")


def test_cam_needs_another_head_and_says_which_methods_fit():
    model, _ = pair("squeezenet1_1")
    assert model.layer == "features.12"
    with pytest.raises(CamjaxError, match="grad-cam"):
        make_explainer(model, method="cam")


@pytest.mark.parametrize("fields", [{"pools": [8]}, {"pools": [0], "stem_size": 32}, {"pools": [0], "squeezes": []}])
def test_configs_beyond_all_bounds(fields):
    with pytest.raises(ValueError, match="fires" if "squeezes" in fields else [*fields][-1]):
        FAMILY.read_config(fields)


def test_parameters_are_torchvisions():
    assert_counts(NAMES, torchvision.models.get_model)


@pytest.mark.slow
def test_the_full_size_equals_torchvision():
    module = randomise(torchvision.models.squeezenet1_0())
    model = converted(FAMILY, ARCHITECTURES["squeezenet1_0"].config, state_dict(module), "torchvision")
    assert_equals(model, module, (224, 224), others=("classifier.1",))
