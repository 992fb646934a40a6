"""MobileNetV3 against timm and torchvision."""

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
from references import images, outlined, randomise, relative_error, state_dict, to_torch
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.mobilenetv3 import MobileNetV3
from torchvision.models.mobilenetv3 import InvertedResidualConfig

from camjax import make_explainer
from camjax.errors import CamjaxError, CheckpointError
from camjax.models.mobilenet_v3 import FAMILY, MobileNetV3Config
from camjax.models.registry import ARCHITECTURES

TINY = MobileNetV3Config(
    depths=(1, 2, 1),
    kernel_sizes=(3, 5, 3),
    strides=(2, 1, 2),
    widths=(8, 8, 16),
    inner=(8, 24, 16, 32),
    squeezed=(True, False, True),
    rectified=(True, True, False),
    stem_width=8,
    last_width=24,
    head_width=12,
    num_classes=5,
)
FORMS = {"": TINY, "tf": dataclasses.replace(TINY, padding="same", eps=1e-3)}
BLOCKS = [
    ["ds_r1_k3_s2_e1_c8_se0.25_nre"],
    ["ir_r1_k5_s1_e3_c8_nre", "ir_r1_k5_s1_e2_c8_nre"],
    ["ir_r1_k3_s2_e4_c16_se0.25"],
    ["cn_r1_k1_s1_c24"],
]


@functools.cache
def tiny(form):
    config = FORMS[form]
    module = MobileNetV3(
        decode_arch_def(BLOCKS),
        num_classes=5,
        num_features=12,
        stem_size=8,
        pad_type="same" if form else "",
        act_layer=torch.nn.Hardswish,
        norm_layer=functools.partial(torch.nn.BatchNorm2d, eps=config.eps),
        se_layer=functools.partial(
            SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=torch.nn.ReLU, rd_round_fn=round_channels
        ),
    )
    randomise(module)
    return converted(FAMILY, dataclasses.replace(config, num_classes=1000), state_dict(module), "timm"), module


@pytest.mark.parametrize("form", FORMS)
def test_tiny_networks_equal_timm(form):
    assert_equals(*tiny(form), (61, 40), others=("conv_head",), at="blocks.1.0.conv_dw")


def test_tiny_networks_equal_torchvision():
    row = functools.partial(InvertedResidualConfig, dilation=1, width_mult=1)
    rows = [
        row(8, 3, 8, 8, True, "RE", 2),
        row(8, 5, 24, 8, False, "RE", 1),
        row(8, 5, 16, 8, False, "RE", 1),
        row(8, 3, 32, 16, True, "HS", 2),
    ]
    module = randomise(torchvision.models.MobileNetV3(rows, 12, num_classes=5))
    config = dataclasses.replace(TINY, last_width=96)
    model = converted(FAMILY, config, state_dict(module), "torchvision")
    pixels = images(2, 61, 40)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
    assert_known_by_its_keys(FAMILY, config, module, "torchvision")


def test_torchvisions_have_the_presets_shapes():
    for size in ("large", "small"):
        with outlined():
            module = torchvision.models.get_model(f"mobilenet_v3_{size}")
        layout, architecture = FAMILY.layouts["torchvision"], ARCHITECTURES[f"mobilenetv3_{size}_100"]
        config = layout.config({}, architecture.config)
        assert config.eps == module.features[0][1].eps
        keys = {key for key in module.state_dict() if not key.endswith("num_batches_tracked")}
        assert {key for read in layout.table(config).values() for key in read.keys} == keys


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[pytest.mark.slow] if number else []) for number, form in enumerate(FORMS)]
)
def test_folding_stages_and_files(form, tmp_path):
    model, module = tiny(form)
    assert_folding_changes_nothing(model, (51, 38))
    assert_stages_are_the_forward_pass(model, (40, 33))
    assert_saved_is_loaded(model, tmp_path)
    if not form:
        assert_known_by_its_keys(FAMILY, TINY, module, "timm")


def test_cam_needs_another_head_and_says_which_methods_fit():
    model, _ = tiny("")
    assert model.layer == "blocks.3"
    with pytest.raises(CamjaxError, match="grad-cam"):
        make_explainer(model, method="cam")


def test_what_timm_makes_differently_is_refused():
    tensorflow = ARCHITECTURES["tf_mobilenetv3_small_100"].config
    assert FAMILY.from_timm(tensorflow, {"bn_eps": 1e-3, "pad_type": "same"}) == tensorflow
    for arguments in ({"act_layer": "relu"}, {"bn_eps": 1e-3}, {"pad_type": "same"}, {"head_norm": True}):
        with pytest.raises(CheckpointError, match=next(iter(arguments))):
            FAMILY.from_timm(TINY, arguments)


@pytest.mark.parametrize("changed", [{"widths": [8]}, {"inner": [8] * 3}, {"activation": "gelu"}, {"padding": "valid"}])
def test_configs_beyond_all_bounds(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        FAMILY.read_config({**dataclasses.asdict(TINY), **changed})


def test_presets_have_timms_keys_shapes_and_epsilon():
    for name, architecture in ARCHITECTURES.items():
        if architecture.family is FAMILY:
            with outlined():
                module = timm.create_model(name)
            keys = {key for key in module.state_dict() if not key.endswith("num_batches_tracked")}
            config = architecture.config
            assert {key for read in FAMILY.layouts["timm"].table(config).values() for key in read.keys} == keys
            stages = module.blocks[:-1]
            blocks = [block for stage in stages for block in stage]
            assert config.inner == tuple(block.conv_dw.out_channels for block in blocks)
            last = [stage[-1].conv_pwl if hasattr(stage[-1], "conv_pwl") else stage[-1].conv_pw for stage in stages]
            assert config.widths == tuple(layer.out_channels for layer in last)
            assert (config.stem_width, config.last_width) == (module.conv_stem.out_channels, module.num_features)
            assert config.kernel_sizes == tuple(stage[0].conv_dw.kernel_size[0] for stage in stages)
            assert module.bn1.eps == config.eps
            kinds = [type(stage[0].bn1.act).__name__ for stage in stages]
            plain = config.activation == "relu"
            assert [kind == "ReLU" for kind in kinds] == [plain or rectified for rectified in config.rectified]


def test_parameters_are_timms():
    assert_counts(
        ("mobilenetv3_large_100", "mobilenetv3_small_050", "tf_mobilenetv3_large_minimal_100"), timm.create_model
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf_mobilenetv3_large_100", "mobilenetv3_small_075"])
def test_the_full_size_equals_timm(name):
    module = randomise(timm.create_model(name))
    model = converted(FAMILY, ARCHITECTURES[name].config, state_dict(module), "timm")
    pixels = images(1, 224, 224)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
