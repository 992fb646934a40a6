"""GoogLeNet against torchvision, an eighth as wide and with one block a stage."""

import dataclasses
import functools

import numpy as np
import pytest
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
from references import randomise, relative_error, state_dict, to_nhwc, to_torch
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux

from camjax.images.preprocess import Preprocess, normalize_images
from camjax.models.googlenet import FAMILY, TABLE_1, GoogLeNetConfig, outputs_of
from camjax.models.registry import ARCHITECTURES

PRESET = ARCHITECTURES["googlenet"]
WIDTHS = tuple(stage[0] for stage in TABLE_1)
TINY = GoogLeNetConfig((8, 8, 24), tuple((tuple(width // 8 for width in block),) for block in WIDTHS), 5)
SIZE = (79, 106)


def build(_name="googlenet", **arguments):
    return torchvision.models.GoogLeNet(init_weights=False, **arguments)


def narrow(inputs, outputs, **arguments):
    return BasicConv2d(inputs if inputs == 3 else inputs // 8, outputs // 8, **arguments)


@functools.cache
def tiny():
    """In torchvision a block that is left out is the identity."""
    blocks = [narrow, *(functools.partial(block, conv_block=narrow) for block in (Inception, InceptionAux))]
    module = build(num_classes=5, blocks=blocks)
    for name in [name for name, _ in module.named_children() if name.startswith("inception")]:
        setattr(module, name, torch.nn.Identity())
    inputs = 192
    for number, widths in enumerate(WIDTHS, start=3):
        setattr(module, f"inception{number}a", Inception(inputs, *widths, conv_block=narrow))
        inputs = outputs_of(widths)
    module.fc = torch.nn.Linear(inputs // 8, 5)
    randomise(module)
    return converted(FAMILY, dataclasses.replace(TINY, num_classes=1000), state_dict(module), "torchvision"), module


def test_tiny_networks_equal_torchvision():
    """At this size the last window of most max-pools is only partly filled."""
    model, module = tiny()
    auxiliary = [name for name, _ in module.named_modules() if name.startswith("aux")]
    assert auxiliary
    assert_equals(model, module, SIZE, others=auxiliary, at="inception4a.branch3.0")


def test_inference_and_files(tmp_path):
    assert_inference_and_files(*tiny(), FAMILY, TINY, tmp_path, SIZE, "aux")


def test_the_preprocessing_is_what_torchvision_does_inside():
    pictures = np.random.default_rng(0).integers(0, 256, (1, 5, 4, 3), np.uint8)
    module = build(transform_input=True, aux_logits=False)
    inside = module._transform_input(to_torch(np.asarray(normalize_images(pictures, Preprocess()))))
    assert relative_error(normalize_images(pictures, PRESET.preprocess), to_nhwc(inside)) < TOLERANCE


@pytest.mark.parametrize(
    ("field", "value"), [("stem", [8, 8, 0]), ("stages", [[[8] * 6] * 27, [], []]), ("stages", [[[1 << 13] * 6]] * 3)]
)
def test_configs_beyond_all_bounds(field, value):
    with pytest.raises(ValueError, match=field):
        FAMILY.read_config({field: value})


def test_parameters_are_torchvisions():
    assert_counts(("googlenet",), functools.partial(build, aux_logits=False))


@pytest.mark.slow
def test_stages_are_the_forward_pass():
    assert_stages_are_the_forward_pass(tiny()[0], (40, 37))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(224, 224), (15, 15)])
def test_the_full_size_equals_torchvision(size):
    """And the smallest that torchvision names, where max-pools have windows larger than what they pool."""
    module = randomise(build(aux_logits=False))
    assert_equals(converted(FAMILY, PRESET.config, state_dict(module), "torchvision"), module, size)
