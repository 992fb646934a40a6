"""`load_model` from files of every kind, each compared with the network that wrote it."""

import dataclasses
import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
import transformers
from references import images, outlined, randomise, relative_error, to_torch

from camjax import CheckpointError, LabelError, UnknownModelError, imagenet_labels, load_model
from camjax.checkpoints.manifest import find_source
from camjax.checkpoints.packages import packaged_file
from camjax.images.preprocess import Preprocess
from camjax.models.registry import ARCHITECTURES, FAMILIES

TOLERANCE = 1e-5  # float32, sums in another order


@functools.cache
def resnet18(num_classes=1000):
    return randomise(torchvision.models.resnet18(num_classes=num_classes))


def assert_same(model, module):
    pixels = images(1, 65, 97)
    with torch.no_grad():
        expected = module(to_torch(pixels))
    logits = jax.jit(model.forward)(model.params, jnp.asarray(pixels))
    assert relative_error(logits, getattr(expected, "logits", expected)) < TOLERANCE


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_pth_zip_and_older(tmp_path, zipped, wrapper):
    state = {f"module.{key}": value for key, value in resnet18().state_dict().items()}
    state = resnet18().state_dict() if wrapper is None else {wrapper: state, "epoch": 3}
    path = tmp_path / "checkpoint.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    model = load_model(path)
    assert_same(model, resnet18())
    assert model.architecture["name"] == "resnet18"
    assert model.labels[:2] == ("class 0", "class 1")  # a thousand classes that nothing calls ImageNet's
    assert load_model(path, labels="imagenet").labels == imagenet_labels()
    assert model.origin.get("state_dict") == wrapper
    assert model.preprocess == Preprocess()
    assert model.origin["layout"] == "torchvision"


def test_safetensors_of_timm(tmp_path):
    module = randomise(timm.create_model("resnet34", num_classes=5))
    safetensors.torch.save_file(module.state_dict(), tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors", labels=["a", "b", "c", "d", "e"])
    assert_same(model, module)
    assert (model.architecture["name"], model.labels[4]) == ("resnet34", "e")


def test_safetensors_of_transformers(tmp_path):
    module = randomise(
        transformers.ResNetForImageClassification(
            transformers.ResNetConfig(
                hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=3
            )
        )
    )
    module.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"no preprocessor_config\.json beside its config\.json"):
        model = load_model(tmp_path / "model.safetensors")
    assert_same(model, module)
    assert model.origin["layout"] == "transformers"
    assert model.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_efficientnet_of_timm(tmp_path):
    """Its two have the same keys and shapes, and other padding and epsilon: a bare file of one is not guessed at."""
    for name in ("efficientnet_lite0", "tf_efficientnet_lite0"):
        module = randomise(timm.create_model(name))
        torch.save(module.state_dict(), tmp_path / "lite0.pth")
        with pytest.raises(CheckpointError, match=r"efficientnet_lite0 and tf_efficientnet_lite0.*--architecture"):
            load_model(tmp_path / "lite0.pth")
        model = load_model(tmp_path / "lite0.pth", architecture=name)
        assert_same(model, module)
        theirs = timm.models.get_pretrained_cfg(name)
        assert (model.preprocess.mean, model.preprocess.interpolation) == (theirs.mean, theirs.interpolation)


def keys_and_shapes(name):
    with outlined():
        return {key: value.shape for key, value in timm.create_model(name, num_classes=4).state_dict().items()}


@pytest.mark.parametrize(
    ("name", "taken_for"), [("resnetblur18", "resnet18"), ("resnetblur50", "resnet50"), ("resnetaa50", "resnet50")]
)
def test_a_file_named_after_a_network_with_anothers_keys(tmp_path, name, taken_for):
    assert name in FAMILIES["resnet"].others
    assert keys_and_shapes(name) == keys_and_shapes(taken_for)
    for file in (f"{name}.pth", f"{name.title()}_a1-0123abcd.pth"):
        torch.save(resnet18(4).state_dict(), tmp_path / file)
        with pytest.raises(CheckpointError, match=f"{file}: is named after {name}, which camjax does not have"):
            load_model(tmp_path / file)
    assert load_model(tmp_path / f"{name}.pth", architecture="resnet18").architecture["name"] == "resnet18"
    torch.save(resnet18(4).state_dict(), tmp_path / f"{name}0.pth")
    assert load_model(tmp_path / f"{name}0.pth").architecture["name"] == "resnet18"


@pytest.mark.slow
def test_no_other_of_timms_resnets_has_the_keys_of_one_here():
    ours = [keys_and_shapes(name) for name in ARCHITECTURES if ARCHITECTURES[name].family is FAMILIES["resnet"]]
    others = {name for name in timm.list_models("*resne*t*") if name not in ARCHITECTURES}
    assert {name for name in others if keys_and_shapes(name) in ours} == set(FAMILIES["resnet"].others)


def test_the_packages_own_keys_are_of_one_network_only():
    path = packaged_file(*(getattr(find_source("efficientnet_lite0"), key) for key in ("package", "file", "sha256")))
    model = load_model(path)
    assert model.architecture == load_model("efficientnet_lite0").architecture
    assert model.architecture["name"] == "tf_efficientnet_lite0"
    assert model.preprocess == load_model("efficientnet_lite0").preprocess


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_compiled_networks(tmp_path, prefix):
    torch.save({f"{prefix}{key}": value for key, value in resnet18(4).state_dict().items()}, tmp_path / "model.pth")
    assert_same(load_model(tmp_path / "model.pth"), resnet18(4))


def test_half_precision_weights_are_float32_here(tmp_path):
    state = {
        key: value.half() if value.is_floating_point() else value for key, value in resnet18(4).state_dict().items()
    }
    safetensors.torch.save_file(state, tmp_path / "half.safetensors")
    model = load_model(tmp_path / "half.safetensors")
    np.testing.assert_array_equal(model.params["fc"]["kernel"], state["fc.weight"].float().T)


def test_labels_must_be_as_many_as_classes(tmp_path):
    torch.save(resnet18(4).state_dict(), tmp_path / "four.pth")
    with pytest.raises(LabelError, match="there are 2 labels, but four has 4 classes"):
        load_model(tmp_path / "four.pth", labels=["a", "b"])


def test_a_given_architecture_is_held_to(tmp_path):
    torch.save(resnet18(4).state_dict(), tmp_path / "four.pth")
    with pytest.raises(CheckpointError, match=r"four\.pth: taken for resnet34, .* 80 missing: layer1\.2\.bn1\.bias"):
        load_model(tmp_path / "four.pth", architecture="resnet34")
    with pytest.raises(UnknownModelError, match="did you mean resnet"):
        load_model(tmp_path / "four.pth", architecture="resnet19")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("layer3.1.bn2.running_mean"), "1 missing: layer3.1.bn2.running_mean"),
        (lambda state: state.update({"layer3.1.bn2.extra": torch.ones(2)}), "1 extra: layer3.1.bn2.extra"),
        (lambda state: state.update({"conv1.weight": torch.ones(64, 3, 3, 3)}), "1 misshaped: conv1.weight"),
    ],
)
def test_what_does_not_fit_is_listed(tmp_path, change, words):
    state = dict(resnet18(4).state_dict())
    change(state)
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
        load_model(tmp_path / "model.pth")
    assert str(caught.value).startswith(str(tmp_path / "model.pth"))
    assert "\n" not in str(caught.value)


def test_a_hostile_file_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="system"):
        load_model(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["resnet5O", "no/such/model", "efficientnet_lite"])
def test_unknown_names(name):
    with pytest.raises(UnknownModelError, match=re.escape(repr(name))):
        load_model(name)


def test_models_are_frozen():
    model = load_model("efficientnet_lite0")
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.name = "other"
