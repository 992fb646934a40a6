"""ConvNeXt against timm and torchvision."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
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
from references import images, outlined, randomise, relative_error, state_dict, to_torch
from timm.models.convnext import ConvNeXt
from torchvision.models.convnext import CNBlockConfig

from camjax import make_explainer
from camjax.errors import CamjaxError, CheckpointError
from camjax.models.convnext import FAMILY, ConvNeXtConfig, GlobalResponseNorm
from camjax.models.registry import ARCHITECTURES

TINY = ConvNeXtConfig((1, 1, 2, 1), (8, 12, 16, 20), num_classes=5)
FORMS = {"v1": TINY, "v2": dataclasses.replace(TINY, response=True)}


def randomised(module):
    """Random scales too, which are one, nearly zero or zero in the beginning."""
    randomise(module)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if any(part in name for part in ("norm", "grn", "gamma", "layer_scale", "stem.1", "downsample.0")):
                value.normal_()
    return module.eval()


def timm_module(form, **arguments):
    scale = {"use_grn": True, "ls_init_value": None} if form == "v2" else {}
    return randomised(ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 12, 16, 20), num_classes=5, **scale, **arguments))


@functools.cache
def tiny(form):
    module = timm_module(form, conv_mlp=True)  # whose layers all are (b, c, h, w)
    config = dataclasses.replace(FORMS[form], num_classes=1000)
    return converted(FAMILY, config, state_dict(module), "timm"), module


@pytest.mark.parametrize(("form", "size"), [("v1", (64, 64)), ("v1", (47, 70)), ("v2", (47, 70))])
def test_tiny_networks_equal_timm(form, size):
    assert_equals(*tiny(form), size, at="stages.1.blocks.0.norm" if size[0] == 47 else None)


@pytest.mark.parametrize("form", FORMS)
def test_linear_layers_instead_of_convolutions_are_read_as_well(form):
    module = timm_module(form)
    model = converted(FAMILY, FORMS[form], state_dict(module), "timm")
    assert_known_by_its_keys(FAMILY, FORMS[form], module, "timm")
    assert_the_logits_are_theirs(model, module, (47, 70))


def assert_the_logits_are_theirs(model, module, size):
    pixels = images(2, *size)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE


def test_tiny_networks_equal_torchvision():
    settings = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 1), CNBlockConfig(16, 20, 2), CNBlockConfig(20, None, 1)]
    module = randomised(torchvision.models.ConvNeXt(settings, num_classes=5))
    assert_known_by_its_keys(FAMILY, TINY, module, "torchvision")
    assert_the_logits_are_theirs(converted(FAMILY, TINY, state_dict(module), "torchvision"), module, (47, 70))
    assert not FAMILY.layouts["torchvision"].holds(FORMS["v2"])


def test_a_channel_of_zeros_has_a_gradient():
    layer = GlobalResponseNorm(3)
    layer.scale[...] = jnp.ones(3)
    x = jnp.asarray(images(1, 4, 4)).at[..., 1].set(0)
    assert np.isfinite(jax.grad(lambda x: jnp.square(layer(x)).sum())(x)).all()


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[pytest.mark.slow] if number else []) for number, form in enumerate(FORMS)]
)
def test_inference_stages_and_files(form, tmp_path):
    model, _ = tiny(form)
    assert_folding_changes_nothing(model, (51, 38))
    assert_stages_are_the_forward_pass(model, (40, 33))
    assert_saved_is_loaded(model, tmp_path)


def test_cam_needs_another_head_and_says_which_methods_fit():
    model, _ = tiny("v1")
    assert model.layer == "stages.3"
    with pytest.raises(CamjaxError, match="grad-cam"):
        make_explainer(model, method="cam")


def test_what_timm_makes_differently_is_refused():
    assert FAMILY.from_timm(TINY, {"conv_mlp": True, "ls_init_value": 1e-6, "head_init_scale": 1.0}) == TINY
    assert FAMILY.from_timm(FORMS["v2"], {"use_grn": True, "ls_init_value": None}) == FORMS["v2"]
    for arguments in (
        {"ls_init_value": None},
        {"use_grn": True},
        {"norm_eps": 1e-5},
        {"head_norm_first": True},
        {"stem_type": "overlap"},
        {"act_layer": "gelu_tanh"},
        {"kernel_sizes": 5},
    ):
        with pytest.raises(CheckpointError, match=next(iter(arguments))):
            FAMILY.from_timm(TINY, arguments)


@pytest.mark.parametrize("fields", [{"depths": [1, 2]}, {"depths": [65] * 4}, {"depths": [1], "widths": [1 << 14]}])
def test_configs_beyond_all_bounds(fields):
    with pytest.raises(ValueError, match=list(fields)[-1]):
        FAMILY.read_config(fields)


def test_presets_have_timms_keys():
    for name, architecture in ARCHITECTURES.items():
        if architecture.family is FAMILY:
            with outlined():
                module = timm.create_model(name)
            table = FAMILY.layouts["timm"].table(architecture.config)
            assert {key for read in table.values() for key in read.keys} == module.state_dict().keys()
            assert architecture.config.widths == tuple(stage.blocks[0].norm.weight.numel() for stage in module.stages)


def test_parameters_are_timms():
    assert_counts(("convnext_tiny", "convnextv2_atto"), timm.create_model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_nano"])
def test_the_full_size_equals_timm(name):
    module = randomised(timm.create_model(name))
    model = converted(FAMILY, ARCHITECTURES[name].config, state_dict(module), "timm")
    assert_the_logits_are_theirs(model, module, (224, 224))
