"""Inception v3 against torchvision and timm, a sixteenth as wide and with one block of each kind."""

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
    assert_inference_and_files,
    assert_stages_are_the_forward_pass,
    converted,
)
from references import images, outlined, randomise, relative_error, state_dict, to_torch
from torchvision.models import inception as torchvision_inception

from camjax.errors import CheckpointError
from camjax.models.inception_v3 import FAMILY, InceptionV3Config
from camjax.models.registry import ARCHITECTURES

PRESET = ARCHITECTURES["inception_v3"]
TINY = InceptionV3Config((64,), (160,), expanded=1, thinner=16, num_classes=5)
LEFT_OUT = ("Mixed_5c", "Mixed_5d", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7c")
SIZE = (107, 139)


def build(_name="inception_v3", **arguments):
    return torchvision.models.Inception3(init_weights=False, **arguments)


def narrow(inputs, outputs, **arguments):
    return torchvision_inception.BasicConv2d(inputs if inputs == 3 else inputs // 16, outputs // 16, **arguments)


@functools.cache
def tiny():
    """In torchvision a block that is left out is the identity, where as many channels leave it as enter."""
    original = torchvision_inception
    blocks = [getattr(original, f"Inception{kind}") for kind in ("A", "B", "C", "D", "E", "Aux")]
    module = build(num_classes=5, inception_blocks=[narrow, *(functools.partial(b, conv_block=narrow) for b in blocks)])
    module.Mixed_5b = original.InceptionA(192, 64, conv_block=narrow)
    module.Mixed_6b = original.InceptionC(768, 160, conv_block=narrow)
    for name in LEFT_OUT:
        setattr(module, name, torch.nn.Identity())
    module.AuxLogits.fc, module.fc = torch.nn.Linear(48, 5), torch.nn.Linear(128, 5)
    randomise(module)
    return converted(FAMILY, dataclasses.replace(TINY, num_classes=1000), state_dict(module), "torchvision"), module


def test_tiny_networks_equal_torchvision():
    model, module = tiny()
    auxiliary = [name for name, _ in module.named_modules() if name.startswith("AuxLogits")]
    assert auxiliary
    assert_equals(model, module, SIZE, others=auxiliary, at="Mixed_6b.branch7x7dbl_2")


def test_inference_and_files(tmp_path):
    assert_inference_and_files(*tiny(), FAMILY, TINY, tmp_path, SIZE, "AuxLogits")


def test_keys_shapes_and_parameters_are_timms_and_torchvisions():
    assert_counts(("inception_v3",), functools.partial(build, aux_logits=False))
    with outlined():
        modules = build(aux_logits=False), timm.create_model("inception_v3")
    ours, theirs = ({key: value.shape for key, value in module.state_dict().items()} for module in modules)
    assert ours == theirs
    keys = {key for read in FAMILY.layouts["torchvision"].table(PRESET.config).values() for key in read.keys}
    assert keys == {key for key in theirs if not key.endswith("num_batches_tracked")}


def test_what_timm_makes_differently_is_refused():
    assert FAMILY.from_timm(TINY, {"norm_eps": 1e-3, "aux_logits": False, "drop_rate": 0.1}) == TINY
    for arguments in ({"norm_eps": 1e-5}, {"act_layer": "silu"}, {"global_pool": "max"}):
        with pytest.raises(CheckpointError, match=next(iter(arguments))):
            FAMILY.from_timm(TINY, arguments)


@pytest.mark.parametrize("fields", [{"pooled": [8], "thinner": 16}, {"inner": [16] * 17}, {"expanded": -1}])
def test_configs_beyond_all_bounds(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        FAMILY.read_config(fields)


@pytest.mark.slow
def test_stages_are_the_forward_pass():
    assert_stages_are_the_forward_pass(tiny()[0], (98, 76))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(299, 299), (86, 123), (75, 75)])
def test_the_full_size_equals_torchvision_and_timm(size):
    """Two implementations of one state dict; torchvision names 75 pixels as the fewest."""
    module = randomise(build(aux_logits=False))
    model = converted(FAMILY, PRESET.config, state_dict(module), "torchvision")
    assert_equals(model, module, size)
    other = timm.create_model("inception_v3").eval()
    other.load_state_dict(module.state_dict())
    pixels = images(1, *size)
    with torch.no_grad():
        expected = other(to_torch(pixels)).numpy()
    assert relative_error(jax.jit(model.forward)(model.params, pixels), expected) < TOLERANCE
