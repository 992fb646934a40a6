"""EfficientNets and MobileNetV2 in small against timm and torchvision; `test_efficientnet.py` has Lite0 as it is."""

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
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torchvision.models.efficientnet import MBConvConfig

from camjax.errors import CheckpointError
from camjax.models.efficientnet import FAMILY, EfficientNetConfig
from camjax.models.registry import ARCHITECTURES

LITE = EfficientNetConfig((2, 1, 2), (3, 5, 3), (1, 2, 2), (1, 6, 4), (8, 16, 24), 8, 32, 5, "symmetric", 1e-5)
FULL = dataclasses.replace(LITE, activation="silu", squeeze=4)
FORMS = {
    "lite": LITE,
    "tf lite": dataclasses.replace(LITE, padding="same", eps=1e-3),
    "full": FULL,
    "tf full": dataclasses.replace(FULL, padding="same", eps=1e-3),
}


def timm_module(config):
    rows = zip(config.depths, config.kernel_sizes, config.strides, config.expansions, config.widths, strict=True)
    squeeze = "_se0.25" if config.squeeze else ""
    names = [[f"{'ds' if e == 1 else 'ir'}_r{r}_k{k}_s{s}_e{e}_c{c}{squeeze}"] for r, k, s, e, c in rows]
    return EfficientNet(
        decode_arch_def(names),
        num_classes=config.num_classes,
        num_features=config.head_width,
        stem_size=config.stem_width,
        pad_type="same" if config.padding == "same" else "",
        act_layer={"relu6": torch.nn.ReLU6, "silu": torch.nn.SiLU}[config.activation],
        norm_layer=functools.partial(torch.nn.BatchNorm2d, eps=config.eps),
    )


@functools.cache
def tiny(form):
    module = randomise(timm_module(FORMS[form]))
    config = dataclasses.replace(FORMS[form], num_classes=1000)
    return converted(FAMILY, config, state_dict(module), "timm"), module


@pytest.mark.parametrize(
    ("form", "size"), [("lite", (61, 40)), ("tf lite", (40, 61)), ("full", (61, 40)), ("tf full", (61, 40))]
)
def test_tiny_networks_equal_timm(form, size):
    assert_equals(*tiny(form), size, at="blocks.1.0.conv_dw")


def torchvision_module(kind):
    if kind == "torchvision-mobilenet":
        module = torchvision.models.MobileNetV2(5, 1.0, [[1, 8, 2, 1], [6, 16, 1, 2], [4, 24, 2, 2]])
        return module, dataclasses.replace(LITE, kernel_sizes=(3, 3, 3), stem_width=32, head_width=1280)
    rows = zip(
        FULL.expansions, FULL.kernel_sizes, FULL.strides, (8, *FULL.widths), FULL.widths, FULL.depths, strict=False
    )
    module = torchvision.models.EfficientNet([MBConvConfig(*row) for row in rows], 0.2, num_classes=5, last_channel=32)
    return module, FULL


@pytest.mark.parametrize("layout", ["torchvision", "torchvision-mobilenet"])
def test_tiny_networks_equal_torchvision(layout):
    module, config = torchvision_module(layout)
    randomise(module)
    model = converted(FAMILY, config, state_dict(module), layout)
    pixels = images(2, 61, 40)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
    assert_known_by_its_keys(FAMILY, config, module, layout)


def test_torchvisions_large_ones_have_another_epsilon():
    layout = FAMILY.layouts["torchvision"]
    for number in range(8):
        name = f"efficientnet_b{number}"
        with outlined():
            module = torchvision.models.get_model(name)
        config = layout.config({}, ARCHITECTURES[name].config)
        assert config.eps == module.features[0][1].eps
        keys = {key for key in module.state_dict() if not key.endswith("num_batches_tracked")}
        assert {key for read in layout.table(config).values() for key in read.keys} == keys
    assert not layout.holds(ARCHITECTURES["tf_efficientnet_b0"].config)


@pytest.mark.parametrize("form", [pytest.param("tf lite", marks=pytest.mark.slow), "full"])
def test_folding_stages_and_files(form, tmp_path):
    model, _ = tiny(form)
    assert_folding_changes_nothing(model, (51, 38))
    assert_stages_are_the_forward_pass(model, (40, 33))
    assert_saved_is_loaded(model, tmp_path)


def test_known_by_its_keys():
    assert_known_by_its_keys(FAMILY, FULL, tiny("full")[1], "timm")


def test_what_timm_makes_differently_is_refused():
    tensorflow = FORMS["tf full"]
    assert FAMILY.from_timm(tensorflow, {"bn_eps": 1e-3, "pad_type": "same", "act_layer": "swish"}) == tensorflow
    assert FAMILY.from_timm(LITE, {"act_layer": "relu6", "drop_path_rate": 0.2}) == LITE
    for arguments in ({"act_layer": "swish"}, {"bn_eps": 1e-3}, {"pad_type": "same"}, {"se_layer": "eca"}):
        with pytest.raises(CheckpointError, match=next(iter(arguments))):
            FAMILY.from_timm(LITE, arguments)


@pytest.mark.parametrize("fields", [{"squeeze": -1}, {"activation": "gelu"}, {"padding": "valid"}, {"depths": [1]}])
def test_configs_beyond_all_bounds(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        FAMILY.read_config(fields)


def test_presets_have_timms_keys_shapes_and_epsilon():
    for name, architecture in ARCHITECTURES.items():
        if architecture.family is FAMILY:
            with outlined():
                module = timm.create_model(name)
            shapes = {key: x.shape for key, x in module.state_dict().items() if not key.endswith("num_batches_tracked")}
            config = architecture.config
            assert {key for read in FAMILY.layouts["timm"].table(config).values() for key in read.keys} == {*shapes}
            assert (config.stem_width, config.head_width) == (len(module.conv_stem.weight), module.num_features)
            last = [stage[-1].bn3 if hasattr(stage[-1], "bn3") else stage[-1].bn2 for stage in module.blocks]
            assert tuple(norm.num_features for norm in last) == config.widths
            assert module.bn1.eps == config.eps


def test_parameters_are_timms():
    assert_counts(("efficientnet_b0", "mobilenetv2_110d"), timm.create_model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "efficientnet_b3", "mobilenetv2_100"])
def test_the_full_size_equals_timm(name):
    module = randomise(timm.create_model(name))
    model = converted(FAMILY, ARCHITECTURES[name].config, state_dict(module), "timm")
    pixels = images(1, 224, 224)
    with torch.no_grad():
        expected = module(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
