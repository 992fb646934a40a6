"""Key tables, the two-sided check, and telling a checkpoint's network by its keys."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import torchvision
from references import outlined

from camjax.checkpoints.conversion import convert, flatten, unflatten
from camjax.checkpoints.identify import identify
from camjax.errors import CheckpointError
from camjax.models.layout import columns, hwio
from camjax.models.registry import ARCHITECTURES
from camjax.models.resnet import ResNetConfig

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d")


def shaped_like(module):
    """A state dict with the module's keys and shapes whose arrays take no memory."""
    return {key: np.broadcast_to(np.float32(1.5), tuple(value.shape)) for key, value in module.state_dict().items()}


@functools.cache
def torch_outline(name):
    with outlined():
        return getattr(torchvision.models, name)()


@functools.cache
def resnet18():
    architecture = ARCHITECTURES["resnet18"]
    outline = architecture.family.outline(architecture.config).params
    return architecture.family.layouts["torchvision"], architecture.config, outline


@pytest.mark.parametrize("name", RESNETS)
def test_a_checkpoint_is_known_by_its_keys_and_shapes(name):
    match, params = identify(shaped_like(torch_outline(name)), ARCHITECTURES.values())
    assert (match.architecture.name, match.layout) == (name, "torchvision")
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))


EACH = {
    (one.family.name, tuple(one.family.layouts[key].holds(one.config) for key in one.family.layouts)): name
    for name, one in reversed(ARCHITECTURES.items())
}
"""The first of every family for which the same namings hold."""


@pytest.mark.parametrize("name", sorted({*EACH.values(), *(name for name in ARCHITECTURES if "resnet" in name)}))
def test_tables_make_every_parameter_of_a_key_of_its_own(name):
    architecture = ARCHITECTURES[name]
    names = [path for path, _ in flatten(architecture.family.outline(architecture.config).params)]
    layouts = [layout for layout in architecture.family.layouts.values() if layout.holds(architecture.config)]
    assert layouts
    for layout in layouts:
        table = layout.table(architecture.config)
        assert sorted(table) == sorted(names)
        keys = [key for read in table.values() for key in read.keys]
        assert len(keys) == len(set(keys))
        assert all(read.keys for read in table.values())


def test_the_head_tells_the_number_of_classes():
    tensors = shaped_like(torch_outline("resnet18"))
    tensors["fc.weight"], tensors["fc.bias"] = np.ones((7, 512), np.float32), np.ones(7, np.float32)
    match, params = identify(tensors, ARCHITECTURES.values())
    assert match.architecture.config.num_classes == 7
    assert params["fc"]["kernel"].shape == (512, 7)


def test_every_problem_is_listed_at_once():
    tensors = shaped_like(torch_outline("resnet18"))
    del tensors["layer1.0.bn2.running_var"], tensors["conv1.weight"]
    tensors["layer5.0.conv1.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    tensors["fc.scale"] = np.zeros(3, np.float32)
    tensors["layer2.0.conv1.weight"] = np.zeros((128, 64, 5, 5), np.float32)
    with pytest.raises(CheckpointError) as caught:
        convert(tensors, *resnet18())
    text = str(caught.value)
    assert "2 missing: conv1.weight, layer1.0.bn2.running_var" in text
    assert "2 extra: layer5.0.conv1.weight, fc.scale" in text
    assert "1 misshaped: layer2.0.conv1.weight" in text
    assert "(5, 5, 64, 128), not (3, 3, 64, 128)" in text


def test_long_lists_are_cut():
    with pytest.raises(CheckpointError, match=r"102 missing: .* and 94 more"):
        convert({}, *resnet18())


def test_a_sibling_that_does_not_fit_either_names_the_nearest():
    tensors = shaped_like(torch_outline("resnet50"))
    tensors["layer1.0.conv2.weight"] = np.zeros((64, 64, 5, 5), np.float32)
    with pytest.raises(CheckpointError, match=r"taken for resnet50.*layer1.0.conv2.weight"):
        identify(tensors, ARCHITECTURES.values())


@pytest.mark.parametrize("tensors", [{}, {"encoder.weight": np.ones((2, 2))}, {"a": np.ones(1)}])
def test_another_network_is_not_taken_for_ours(tensors):
    with pytest.raises(CheckpointError, match="are not those of resnet18"):
        identify(tensors, ARCHITECTURES.values())


def test_transposition():
    kernel = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    assert hwio(kernel)[4, 6, 1, 0] == kernel[0, 1, 4, 6]
    depthwise = np.arange(4 * 9).reshape(4, 1, 3, 3)
    assert hwio(depthwise).shape == (3, 3, 1, 4)
    assert (hwio(depthwise)[..., 0, 2] == depthwise[2, 0]).all()
    matrix = np.arange(40).reshape(10, 4)
    assert (columns(matrix)[3] == matrix[:, 3]).all()
    assert (columns(matrix[:, :, None, None]) == columns(matrix)).all()


def test_flatten_and_unflatten_are_inverse():
    tree = {"a": {"0": {"kernel": 1}, "1": {"kernel": 2}}, "b": 3}
    assert unflatten(dict(flatten(tree))) == tree


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ARCHITECTURES["resnet50"].config.depths = (1, 1, 1, 1)


def test_parameters_share_no_memory_with_the_checkpoint():
    tensors = {name: np.array(leaf) for name, leaf in shaped_like(torch_outline("resnet18")).items()}
    params = convert(tensors, *resnet18())
    before = jax.tree.map(np.array, params)
    for tensor in tensors.values():
        tensor += 1
    jax.tree.map(np.testing.assert_array_equal, before, params)


def test_parameters_are_made_without_a_program(caplog):
    family = ARCHITECTURES["resnet50"].family
    config = ResNetConfig((1, 1, 1, 1), bottleneck=True, group_width=37, num_classes=9)  # shapes of no other test
    with outlined():
        module = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1] * 4, 9, width_per_group=37)
    with jax.log_compiles():
        convert(shaped_like(module), family.layouts["torchvision"], config, family.params_outline(config))
    assert not [record for record in caplog.records if "ompil" in record.getMessage()]


def test_every_table_has_its_layouts_head():
    for architecture in ARCHITECTURES.values():
        for layout in architecture.family.layouts.values():
            if layout.holds(architecture.config):
                keys = {key for read in layout.table(architecture.config).values() for key in read.keys}
                assert layout.head in keys, architecture.name


def test_siblings_with_the_same_keys_are_told_apart_by_a_look():
    tensors = shaped_like(torch_outline("resnext50_32x4d"))
    layout = ARCHITECTURES["resnet50"].family.layouts["torchvision"]
    suits = [name for name in RESNETS if layout.suits(tensors, ARCHITECTURES[name].config)]
    assert suits == ["resnet18", "resnet34", "resnext50_32x4d"]  # the first two have other keys


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_the_outline_of_parameters_is_the_models(name):
    architecture = ARCHITECTURES[name]
    found = architecture.family.params_outline(architecture.config)
    model = architecture.family.outline(architecture.config)
    assert dict(flatten(found)) == dict(flatten(model.params))
