"""camjax's own weight file."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from toys import toy_model

from camjax import load_model
from camjax.checkpoints.formats import read_safetensors_metadata
from camjax.checkpoints.store import is_stored_model, load_stored_model, save_model
from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.registry import ARCHITECTURES


@pytest.fixture
def model():
    architecture = ARCHITECTURES["resnet18"]
    config = dataclasses.replace(architecture.config, widths=(4, 8, 8, 16), stem_width=4, num_classes=3)
    described = {"name": "resnet18", "family": "resnet", "config": dataclasses.asdict(config)}
    return dataclasses.replace(
        architecture.family.initialise(config),
        preprocess=Preprocess((96, 128), 0.9, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "squash", "down"),
        activation="sigmoid",
        labels=("cat", "Hündchen", "cup"),
        name="tiny",
        architecture=described,
        origin={"source": "here", "licence": "apache-2.0"},
    )


def rewrite(path, change):
    """The same file with another description."""
    description = json.loads(read_safetensors_metadata(path)["camjax"])
    change(description)
    save_file(load_file(path), path, metadata={"camjax": json.dumps(description)})


def test_round_trip(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    assert is_stored_model(path)
    loaded = load_stored_model(path)
    assert (loaded.name, loaded.labels, loaded.preprocess) == (model.name, model.labels, model.preprocess)
    assert (loaded.origin, loaded.architecture["name"]) == (model.origin, "resnet18")
    assert loaded.activation == "sigmoid"
    assert jax.tree.structure(loaded.params) == jax.tree.structure(model.params)
    for ours, theirs in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(model.params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    images = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    ours, theirs = (jax.jit(each.features)(each.params, images)["layer4"] for each in (loaded, model))
    np.testing.assert_array_equal(ours, theirs)
    save_model(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid", "none"])
def test_the_activation_is_kept(model, tmp_path, activation):
    path = tmp_path / "model.safetensors"
    save_model(dataclasses.replace(model, activation=activation), path)
    assert load_stored_model(path).activation == load_model(path).activation == activation


def test_a_file_of_the_first_version(model, tmp_path):
    """It says nothing of an activation, nor of how a crop is resized and rounded."""
    path = tmp_path / "model.safetensors"
    save_model(model, path)

    def age(description):
        description["version"] = 1
        del (
            description["activation"],
            description["preprocess"]["crop_mode"],
            description["preprocess"]["crop_rounding"],
        )

    rewrite(path, age)
    loaded = load_stored_model(path)
    assert loaded.activation is None
    assert loaded.preprocess == dataclasses.replace(model.preprocess, crop_mode="center", crop_rounding="nearest")


def test_a_failed_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")

    def break_off(arrays, target, metadata):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("camjax.checkpoints.store.save_file", break_off)
    with pytest.raises(OSError, match="No space"):
        save_model(model, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(version=99), "newer camjax"),
        (lambda d: d.update(version="1"), "version '1' does not exist"),
        (lambda d: d.update(version=0), "version 0 does not exist"),
        (lambda d: d.update(activation="relu"), "activation 'relu' is not one of softmax, sigmoid, none"),
        (lambda d: d.update(activation=["softmax"]), r"activation \['softmax'\] is not one of"),
        (lambda d: d.pop("activation"), "lacks 'activation'"),
        (lambda d: d["preprocess"].update(crop_mode="border"), "crop_mode 'border' is not one of center, squash"),
        (lambda d: d["preprocess"].update(crop_rounding=1), "crop_rounding 1 is not one of nearest, down"),
        (lambda d: d["architecture"].update(family="alexnet"), "family 'alexnet' is not one of resnet, "),
        (lambda d: d["architecture"].update(family=[]), r"family \[\] is not one of"),
        (lambda d: d["architecture"]["config"].update(depths=[10**9, 1, 1, 1]), "depths 1000000000 is not"),
        (lambda d: d["architecture"]["config"].update(depths=[16777216, 1, 1, 1]), "depths 16777216 is not"),
        (lambda d: d["architecture"]["config"].update(depths=[129, 1, 1, 1]), "is not from 1 to 128"),
        (lambda d: d["architecture"]["config"].update(depths=["a"]), "damaged"),
        (lambda d: d["architecture"]["config"].update(depths=[]), r"depths \[\] is not"),
        (lambda d: d["architecture"]["config"].update(depths=[1.5, 2, 2, 2]), "depths 1.5 is not int"),
        (lambda d: d["architecture"]["config"].update(depths=[True, 2, 2, 2]), "depths True is not int"),
        (lambda d: d["architecture"]["config"].update(bottleneck=1), "bottleneck 1 is not bool"),
        (lambda d: d["architecture"]["config"].update(group_width=0), "is not from 1"),
        (lambda d: d["architecture"]["config"].update(depths=[2, 2, 2, 1]), "extra"),
        (lambda d: d["architecture"]["config"].update(colour="red"), "'colour' is not a field"),
        (lambda d: d["architecture"]["config"].pop("depths"), "depths is missing"),
        (lambda d: d["architecture"]["config"].update(num_classes=5), "3 labels for 5 classes"),
        (lambda d: [d["architecture"]["config"].update(num_classes=5), d.update(labels=[])], "misshaped"),
        (lambda d: d["architecture"].update(config=[]), "not a table"),
        (lambda d: d.pop("preprocess"), "lacks 'preprocess'"),
        (lambda d: d["preprocess"].update(std=[0, 1, 1]), "std"),
        (lambda d: d["preprocess"].update(std=[float("nan"), 1, 1]), "std"),
        (lambda d: d["preprocess"].update(mean=[1e400, 1, 1]), "mean"),
        (lambda d: d["preprocess"].update(mean=[0.5]), "mean"),
        (lambda d: d["preprocess"].update(input_size=96), "input_size 96"),
        (lambda d: d["preprocess"].update(input_size=[96, 0]), r"input_size \[96, 0\]"),
        (lambda d: d["preprocess"].update(input_size=[96, 10**6]), r"input_size \[96, 1000000\]"),
        (lambda d: d["preprocess"].update(crop_pct=0), "crop_pct 0"),
        (lambda d: d["preprocess"].update(crop_pct=1.5), "crop_pct 1.5"),
        (lambda d: d["preprocess"].update(interpolation="nearest"), "interpolation 'nearest'"),
        (lambda d: d["preprocess"].pop("interpolation"), "preprocessing does not consist of"),
        (lambda d: d.update(labels=3), "labels 3 are not a list"),
        (lambda d: d.update(labels=["a", "b"]), "2 labels for 3 classes"),
        (lambda d: d.update(labels=["a", "b", 3]), "label 3 is not a text"),
        (lambda d: d.update(labels="abc"), "labels 'abc' are not a list"),
        (lambda d: d.update(name=None), "name None is not a text"),
        (lambda d: d.update(name="\ud800"), "name '.*' is not a text"),
        (lambda d: d["origin"].update(licence=4), "origin 4 is not a text"),
        (lambda d: d.update(origin=[]), "damaged"),
    ],
)
def test_a_damaged_description_is_one_line(model, tmp_path, change, words):
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_stored_model(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"version": 1}', '{"version": 1e999}'])
def test_what_is_no_description(model, tmp_path, text):
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    save_file(load_file(path), path, metadata={"camjax": text})
    with pytest.raises(CheckpointError, match="is not a whole camjax file"):
        load_stored_model(path)


def test_unlabelled_classes_are_numbered(model, tmp_path):
    save_model(dataclasses.replace(model, labels=()), tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").labels == ("class 0", "class 1", "class 2")


def test_a_plain_file_is_not_ours(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file({"conv1.weight": np.zeros(3, np.float32)}, path)
    assert not is_stored_model(path)


def test_a_network_of_the_users_own_cannot_be_stored(tmp_path):
    with pytest.raises(ValueError, match="toy is not one of camjax's"):
        save_model(toy_model(), tmp_path / "toy.safetensors")
    assert not list(tmp_path.iterdir())
