"""`load_model("hf-hub:…")` from repositories as timm and transformers write them, without a network.

What a repository's config says of a network beyond its keys and shapes is either computed or refused.
"""

import functools
import json

import jax
import jax.numpy as jnp
import pytest
import safetensors.torch
import timm
import torch
import transformers
from references import images, outlined, randomise, relative_error, to_torch
from timm.models._hub import save_config_for_hf

from camjax import CheckpointError, load_model
from camjax.checkpoints import loading
from camjax.checkpoints.hub import Fetched, MissingFileError
from camjax.images.preprocess import Preprocess

TOLERANCE = 1e-5  # float32, sums in another order
PREPROCESSOR = {"size": 224, "crop_pct": None, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder that the hub's client serves as any repository."""

    def fetch(_repository, filename, _revision="main", **_):
        if not (tmp_path / filename).is_file():
            raise MissingFileError(filename)
        return Fetched(tmp_path / filename, None)

    def fetch_json(_repository, filename, _revision="main"):
        path = tmp_path / filename
        return json.loads(path.read_text()) if path.is_file() else None

    monkeypatch.setattr(loading, "fetch_checked", fetch)
    monkeypatch.setattr(loading, "fetch_json", fetch_json)
    return tmp_path


def load(**options):
    return load_model("hf-hub:owner/name", **options)


def write_timm(folder, name, **arguments):
    module = randomise(timm.create_model(name, **arguments))
    save_config_for_hf(module, folder / "config.json")
    safetensors.torch.save_file(module.state_dict(), folder / "model.safetensors")
    return module


def write_transformers(folder, **options):
    small = {"embedding_size": 8, "hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 2, 1], "num_labels": 3}
    config = transformers.ResNetConfig(**small | options)
    module = randomise(transformers.ResNetForImageClassification(config))
    module.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return module


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_same(model, module):
    pixels = images(1, 65, 97)
    with torch.no_grad():
        expected = module(to_torch(pixels))
    logits = jax.jit(model.forward)(model.params, jnp.asarray(pixels))
    assert relative_error(logits, getattr(expected, "logits", expected)) < TOLERANCE


def refusal(**options):
    with pytest.raises(CheckpointError) as caught:
        load(**options)
    assert str(caught.value).startswith("owner/name: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "tf_efficientnet_lite0"])
def test_each_of_timms_efficientnets_is_its_own(repository, name):
    module = write_timm(repository, name, num_classes=4)
    model = load()
    assert_same(model, module)
    assert model.architecture["name"] == name
    assert model.preprocess.mean == module.pretrained_cfg["mean"]
    assert model.labels == ("class 0", "class 1", "class 2", "class 3")


@pytest.mark.parametrize("name", ["resnetblur50", "resnetaa50", "resnetblur18"])
def test_a_network_with_anothers_keys_is_refused_by_its_name(repository, name):
    write_timm(repository, name, num_classes=2)
    assert f"holds timm's '{name}', which camjax does not have" in refusal()


def test_the_user_may_say_otherwise(repository):
    write_timm(repository, "resnetblur18", num_classes=2)
    model = load(architecture="resnet18")
    assert model.architecture["name"] == "resnet18"
    assert model.preprocess.interpolation == "bicubic"


@pytest.mark.parametrize(
    "arguments", [{"act_layer": "gelu"}, {"output_stride": 16}, {"global_pool": "max"}, {"avg_down": True}]
)
def test_arguments_that_change_the_network_are_refused(repository, arguments):
    with outlined():
        save_config_for_hf(timm.create_model("resnet18", **arguments), repository / "config.json")
    ((name, value),) = arguments.items()
    assert f"resnet18: the network was made with {name}={value!r}" in refusal()


def test_arguments_that_change_nothing_are_not(repository):
    module = write_timm(repository, "resnet18", num_classes=2, drop_path_rate=0.1, output_stride=32)
    edit(repository / "config.json", model_args={"act_layer": "relu", "in_chans": 3, "drop_rate": 0.2})
    assert_same(load(), module)


def test_timms_labels_are_spelled_out(repository):
    write_timm(repository, "resnet18", num_classes=2)
    edit(repository / "config.json", label_names=["n1", "n2"], label_descriptions={"n1": "cat"})
    assert load().labels == ("cat", "n2")
    edit(repository / "config.json", label_descriptions=["a cat", "a dog"])
    assert load().labels == ("a cat", "a dog")
    edit(repository / "config.json", label_names=None)
    assert load().labels == ("a cat", "a dog")
    edit(repository / "config.json", label_names=["n1", "n2", "n3"])
    assert "it has 3 label_names, but 2 label_descriptions" in refusal()
    for descriptions in (7, "cats", [["a"], ["b"]]):
        edit(repository / "config.json", label_names=["n1", "n2"], label_descriptions=descriptions)
        refusal()
    edit(repository / "config.json", label_names={"1": "cup", "0": "dog"}, label_descriptions=None)
    assert load().labels == ("dog", "cup")
    edit(repository / "config.json", label_names={"1": "cup", "7": "dog"})
    assert "labels' numbers" in refusal()


def test_timms_older_configs(repository):
    write_timm(repository, "resnet18", num_classes=2)
    config = json.loads((repository / "config.json").read_text())
    flat = {"architecture": "resnet18", "labels": ["a", "b"], **config["pretrained_cfg"], "crop_pct": 0.7}
    (repository / "config.json").write_text(json.dumps(flat))
    model = load()
    assert (model.preprocess.crop_pct, model.labels) == (0.7, ("a", "b"))


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
def test_transformers(repository, layer_type):
    module = write_transformers(repository, layer_type=layer_type, id2label={0: "cat", 1: "dog", 2: "cup"})
    model = load()
    assert_same(model, module)
    assert model.labels == ("cat", "dog", "cup")
    statistics = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    assert model.preprocess == Preprocess((224, 224), 0.875, "bicubic", **statistics, crop_rounding="down")
    assert model.activation is None


@pytest.mark.parametrize(
    "option",
    [
        {"hidden_act": "gelu"},
        {"num_channels": 1},
        {"layer_type": "depthwise"},
        {"downsample_in_first_stage": True},
        {"downsample_in_bottleneck": True},
        {"depths": [1, 1, 2]},
        {"hidden_sizes": [16, 32, 64, 130]},
        {"embedding_size": "8"},
        {"model_type": "beit"},
    ],
)
def test_what_transformers_computes_otherwise_is_refused(repository, option):
    write_transformers(repository)
    edit(repository / "config.json", **option)
    ((name, value),) = option.items()
    words = {"depths": "depths", "hidden_sizes": "hidden_sizes", "embedding_size": "stem_width"}
    assert words.get(name, f"{value!r}") in refusal()


def test_transformers_gelu_would_be_something_else(repository):
    """The test above refuses what matters: the same weights under ReLU give other logits."""
    module = write_transformers(repository, hidden_act="gelu")
    edit(repository / "config.json", hidden_act="relu")
    with pytest.raises(AssertionError):
        assert_same(load(), module)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": {"shortest_edge": 96}}, ((96, 96), 0.875, "bicubic")),
        ({"size": {"shortest_edge": 96}, "resample": 2}, ((96, 96), 0.875, "bilinear")),
        ({"size": {"height": 96, "width": 96}}, "no shortest_edge, which ConvNextImageProcessor needs"),
        ({"do_center_crop": True}, "do_resize or do_center_crop"),
        ({"size": 96, "crop_pct": 0.95}, ((96, 96), 0.95, "bicubic")),
        ({"size": 0}, "size 0"),
        ({"size": {}}, "size {}"),
        ({"size": {"height": "96", "width": 96}}, "is neither a height and a width nor a shortest_edge"),
        ({"size": 100_000}, "size 100000"),
        ({"resample": 0}, "resample 0"),
        ({"crop_pct": "much"}, "crop_pct 'much'"),
        ({"image_mean": [0.5, 0.5]}, "mean"),
        ({"image_std": [0.0, 1.0, 1.0]}, "std"),
        ({"image_std": [float("nan"), 1.0, 1.0]}, "std"),
        ({"image_mean": [123.7, 116.3, 103.5], "image_std": [1, 1, 1e9]}, "std"),
    ],
)
def test_preprocessors(repository, changes, expected):
    write_transformers(repository)
    edit(repository / "preprocessor_config.json", **changes)
    if isinstance(expected, str):
        assert expected in refusal()
    else:
        found = load().preprocess
        assert (found.input_size, found.crop_pct, found.interpolation) == expected


@functools.cache
def timm_config():
    with outlined():
        return timm.create_model("resnet18").pretrained_cfg


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_size": [3, 224, 0]}, "input_size [224, 0]"),
        ({"input_size": [1, 224, 224]}, "three channels"),
        ({"input_size": 224}, "three channels"),
        ({"interpolation": "lanczos"}, "interpolation 'lanczos'"),
        ({"crop_pct": 2}, "crop_pct 2"),
        ({"std": [0, 0, 0]}, "std"),
    ],
)
def test_timms_preprocessing_is_checked(repository, changes, words):
    config = {key: timm_config()[key] for key in ("input_size", "interpolation", "crop_pct", "mean", "std")}
    (repository / "config.json").write_text(
        json.dumps({"architecture": "resnet18", "pretrained_cfg": config | changes})
    )
    assert words in refusal()


def test_a_repository_without_a_config_is_told_by_its_keys(repository):
    module = write_timm(repository, "resnet18", num_classes=2)
    (repository / "config.json").unlink()
    assert_same(load(), module)
    write_timm(repository, "efficientnet_lite0", num_classes=2)
    (repository / "config.json").unlink()
    with pytest.raises(CheckpointError, match="--architecture"):
        load()
