"""camjax's own weight file."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from toys import toy_model

from camjax.checkpoints.formats import read_safetensors_metadata
from camjax.checkpoints.store import is_stored_model, load_stored_model, save_model
from camjax.core.model import Model
from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.registry import ARCHITECTURES


@pytest.fixture
def model():
    architecture = ARCHITECTURES["resnet18"]
    config = dataclasses.replace(architecture.config, widths=(4, 8, 8, 16), stem_width=4, num_classes=3)
    described = {"name": "resnet18", "family": "resnet", "config": dataclasses.asdict(config)}
    preprocess = Preprocess((96, 128), 0.9, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    origin = {"source": "here", "licence": "apache-2.0"}
    return Model(
        architecture.family.initialise(config), preprocess, ("cat", "Hündchen", "cup"), "tiny", described, origin
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
    assert jax.tree.structure(loaded.params) == jax.tree.structure(model.params)
    for ours, theirs in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(model.params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    images = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    np.testing.assert_array_equal(
        loaded.features(loaded.params, images)["layer4"], model.features(model.params, images)["layer4"]
    )
    save_model(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


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
        (lambda d: d["architecture"].update(family="alexnet"), "damaged"),
        (lambda d: d["architecture"]["config"].update(depths=[10**9, 1, 1, 1]), "damaged"),
        (lambda d: d["architecture"]["config"].update(depths=["a"]), "damaged"),
        (lambda d: d["architecture"]["config"].update(depths=[2, 2, 2, 1]), "extra"),
        (lambda d: d["architecture"]["config"].update(colour="red"), "damaged"),
        (lambda d: d["architecture"]["config"].update(num_classes=5), "misshaped"),
        (lambda d: d.pop("preprocess"), "damaged"),
        (lambda d: d["preprocess"].update(input_size=96), "damaged"),
        (lambda d: d["preprocess"].update(input_size=[96, 0]), "damaged"),
        (lambda d: d.update(labels=3), "damaged"),
    ],
)
def test_a_damaged_description_is_one_line(model, tmp_path, change, words):
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_stored_model(path)
    assert "\n" not in str(caught.value)


def test_a_plain_file_is_not_ours(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file({"conv1.weight": np.zeros(3, np.float32)}, path)
    assert not is_stored_model(path)


def test_a_network_of_the_users_own_cannot_be_stored(tmp_path):
    with pytest.raises(ValueError, match="toy is not one of camjax's"):
        save_model(toy_model(), tmp_path / "toy.safetensors")
    assert not list(tmp_path.iterdir())
