"""RegNet X and Y against timm and torchvision."""

import dataclasses
import functools

import jax
import pytest
import timm
import torch
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
from timm.models.regnet import RegNet, RegNetCfg
from torchvision.models import regnet as torchvision

from camjax.errors import CheckpointError
from camjax.models.registry import ARCHITECTURES
from camjax.models.regnet import FAMILY, designed

FORMS = {
    kind: dataclasses.replace(designed(5, 8, 14.0, 2.0, 8, squeezed=kind == "y"), stem_width=8, num_classes=5)
    for kind in ("x", "y")
}


@functools.cache
def tiny(form):
    kind = RegNetCfg(depth=5, w0=8, wa=14.0, wm=2.0, group_size=8, se_ratio=0.25 * (form == "y"), stem_width=8)
    module = randomise(RegNet(kind, num_classes=5))
    config = dataclasses.replace(FORMS[form], num_classes=1000)
    return converted(FAMILY, config, state_dict(module), "timm"), module


@pytest.mark.parametrize(("form", "size"), [("x", (75, 50)), ("y", (64, 64)), ("y", (75, 50))])
def test_tiny_networks_equal_timm(form, size):
    model, module = tiny(form)
    excitations = [name for name, _ in module.named_modules() if ".se.fc" in name]
    assert_equals(model, module, size, others=excitations, at="s2.b1.conv2.conv" if size[0] == 75 else None)


@pytest.mark.parametrize("form", FORMS)
def test_tiny_networks_equal_torchvision(form):
    parameters = torchvision.BlockParams.from_init_params(
        depth=5, w_0=8, w_a=14.0, w_m=2.0, group_width=8, se_ratio=0.25 if form == "y" else None
    )
    module = randomise(torchvision.RegNet(parameters, num_classes=5, stem_width=8))
    model = converted(FAMILY, FORMS[form], state_dict(module), "torchvision")
    pixels = images(2, 75, 50)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
    assert_known_by_its_keys(FAMILY, FORMS[form], module, "torchvision")


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[pytest.mark.slow] if number else []) for number, form in enumerate(FORMS)]
)
def test_folding_stages_and_files(form, tmp_path):
    model, module = tiny(form)
    assert_folding_changes_nothing(model, (51, 38))
    assert_stages_are_the_forward_pass(model, (40, 33))
    assert_saved_is_loaded(model, tmp_path)
    assert_known_by_its_keys(FAMILY, FORMS[form], module, "timm")


def test_what_timm_makes_differently_is_refused():
    assert FAMILY.from_timm(FORMS["x"], {"zero_init_last": True, "drop_path_rate": 0.1}) == FORMS["x"]
    for arguments in ({"act_layer": "silu"}, {"output_stride": 16}, {"downsample": "avg"}):
        with pytest.raises(CheckpointError, match=next(iter(arguments))):
            FAMILY.from_timm(FORMS["x"], arguments)


@pytest.mark.parametrize("changed", [{"widths": [8]}, {"group_widths": [3] * 4}, {"depths": [65, 1, 1, 1]}])
def test_configs_beyond_all_bounds(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        FAMILY.read_config({**dataclasses.asdict(FORMS["x"]), **changed})


def test_presets_have_timms_keys_and_widths():
    for name, architecture in ARCHITECTURES.items():
        if architecture.family is FAMILY:
            with outlined():
                module = timm.create_model(name)
            keys = {key for key in module.state_dict() if not key.endswith("num_batches_tracked")}
            config = architecture.config
            assert {key for read in FAMILY.layouts["timm"].table(config).values() for key in read.keys} == keys
            grouped = [getattr(module, f"s{number}").b1.conv2.conv for number in range(1, 5)]
            assert config.widths == tuple(layer.out_channels for layer in grouped)
            assert config.group_widths == tuple(layer.out_channels // layer.groups for layer in grouped)


def test_torchvisions_have_the_presets_shapes():
    names = {"regnet_x_400mf": "regnetx_004_tv", "regnet_y_400mf": "regnety_004", "regnet_y_800mf": "regnety_008_tv"}
    for theirs, ours in names.items():
        module = getattr(torchvision, theirs)()
        config = ARCHITECTURES[ours].config
        shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        widths = [shapes[f"trunk_output.block{stage}.block{stage}-0.f.b.0.weight"][:2] for stage in range(1, 5)]
        assert widths == [*zip(config.widths, config.group_widths, strict=True)]


def test_parameters_are_timms():
    assert_counts(("regnetx_002", "regnety_004"), timm.create_model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regnetx_004_tv", "regnety_016"])
def test_the_full_size_equals_timm(name):
    module = randomise(timm.create_model(name))
    model = converted(FAMILY, ARCHITECTURES[name].config, state_dict(module), "timm")
    pixels = images(1, 224, 224)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
