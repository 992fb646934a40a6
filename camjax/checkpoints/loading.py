"""`load_model`: from a name, a hub reference or a file to a model that is ready to explain."""

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from camjax.checkpoints.checksums import sha256_of
from camjax.checkpoints.formats import read_checkpoint
from camjax.checkpoints.hub import PREFIX, Fetched, MissingFileError, fetch_checked, fetch_json, parse_hub_reference
from camjax.checkpoints.hub_config import read_hub_config
from camjax.checkpoints.identify import identify
from camjax.checkpoints.manifest import WeightSource, find_source
from camjax.checkpoints.mxnet import checkpoint as mxnet
from camjax.checkpoints.packages import packaged_file
from camjax.checkpoints.store import default_labels, described, is_stored_model, load_stored_model
from camjax.core.model import Model, Params
from camjax.errors import CheckpointError
from camjax.images.labels import LabelError, read_labels
from camjax.images.preprocess import Preprocess
from camjax.models.family import Architecture
from camjax.models.registry import ARCHITECTURES, FAMILIES, find_architecture

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
RAW_RGB = Preprocess(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
"""MXNet's networks take red, green and blue from 0 to 255 and normalise them by themselves."""

WEIGHT_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin", ".ckpt"})


def load_model(
    source: str | os.PathLike[str], *, architecture: str | None = None, labels: Sequence[str] | None = None
) -> Model:
    """Loads a pretrained classifier.

    Args:
        source: one of

            - a name that `camjax models` lists: `"resnet50"`, `"resnet50.a1_in1k"`, `"microsoft/resnet-50"`,
              `"efficientnet_lite0"`;
            - `"hf-hub:owner/name"` or `"hf-hub:owner/name@revision"`: a repository of timm's or transformers' weights;
            - a file: camjax's own, safetensors, or PyTorch's `.pth`, `.pt` or `.bin`;
            - `"mxnet:PATH/PREFIX@EPOCH"`: an MXNet checkpoint of a ResNet v2, `PREFIX-symbol.json` and
              `PREFIX-EPOCH.params`.
        architecture: which network a file or repository holds, whatever its config says. Without it, the repository's
            config tells, and where there is none, keys and shapes. These tell no padding, epsilon or activation: a
            file that fits two of camjax's architectures (`efficientnet_lite0` and `tf_efficientnet_lite0`) is refused
            without it. So is one that is named after a network that camjax does not have and that has another's keys
            and shapes (timm's `resnetblur50` and `resnetaa50` have those of `resnet50`); under another name it is
            taken for the other.
        labels: the classes' names; by default the file's or the repository's own, the `synset.txt` beside an MXNet
            checkpoint, or ImageNet's for 1000 classes.

    Returns:
        The model; its parameters are float32 on JAX's default device.

    Raises:
        UnknownModelError: no such name or file.
        CheckpointError: the file or the repository's config is damaged, does not fit the network, fits several, or
            describes one that camjax does not have.
        HubError: the hub could not be reached, or has no such file.
        LabelError: there are not as many labels as classes.
    """
    text = os.fspath(source)
    if text.startswith(PREFIX):
        model = _from_hub(text, architecture)
    elif text.startswith(mxnet.PREFIX):
        model = _from_mxnet(text)
    elif Path(text).is_file() or Path(text).suffix in WEIGHT_SUFFIXES:
        model = _from_path(Path(text), architecture)
    else:
        model = _from_manifest(find_source(text))
    return model if labels is None else dataclasses.replace(model, labels=_checked_labels(labels, model))


def _from_manifest(source: WeightSource) -> Model:
    origin = {"source": source.name, "licence": source.licence, "file": source.file}
    if source.package:
        path, sha256 = packaged_file(source.package, source.file, source.sha256), source.sha256
        origin["package"] = source.package
    else:
        assert source.repository is not None  # the manifest's reader saw to it
        path, sha256 = fetch_checked(source.repository, source.file, source.revision, sha256=source.sha256)
        origin |= {"repository": source.repository, "revision": source.revision}
    choice = [find_architecture(source.architecture)]
    return _build(Fetched(path, sha256), choice, source.name, _preprocess(source), (), origin, source.layout)


def _from_hub(text: str, architecture: str | None) -> Model:
    reference = parse_hub_reference(text)
    repository, revision = reference.repository, reference.revision
    said = fetch_json(repository, "config.json", revision)
    preprocessor = fetch_json(repository, "preprocessor_config.json", revision)
    try:
        config = read_hub_config(said, preprocessor, find_architecture(architecture) if architecture else None)
    except CheckpointError as error:
        raise CheckpointError(f"{repository}: {error}") from error
    fetched = _fetch_weights(repository, revision)
    origin = {"source": text, "repository": repository, "revision": revision, "file": fetched.path.name}
    choice = _choice(None) if config.architecture is None else [config.architecture]
    return _build(fetched, choice, text, config.preprocess, config.labels, origin)


def _from_path(path: Path, architecture: str | None) -> Model:
    if not path.exists():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix == ".safetensors" and is_stored_model(path):
        return load_stored_model(path)
    if architecture is None:
        _check_name(path)
    origin = {"source": path.name, "file": path.name}
    return _build(Fetched(path, None), _choice(architecture), path.stem, None, (), origin)


def _check_name(path: Path) -> None:
    """Refuses a file that is named after a network that another would be taken for; timm names files so."""
    for other in itertools.chain.from_iterable(family.others for family in FAMILIES.values()):
        if re.match(rf"{other}(?![a-z0-9])", path.name, re.IGNORECASE):
            raise CheckpointError(
                f"{path}: is named after {other}, which camjax does not have, and whose keys and shapes are those of "
                "another network; where that is what the file holds, say so with architecture=NAME (--architecture "
                "NAME)"
            )


def _from_mxnet(text: str) -> Model:
    symbol, path = mxnet.checkpoint_files(text)
    architecture, params = mxnet.read_mxnet(symbol, path)
    synset = symbol.with_name("synset.txt")
    labels = read_labels(synset) if synset.is_file() else ()
    origin = {"source": path.name, "file": path.name, "layout": "mxnet", "sha256": sha256_of(path)}
    return _assemble(architecture, params, path.stem, RAW_RGB, labels, origin)


def _build(
    fetched: Fetched,
    choice: Sequence[Architecture],
    name: str,
    preprocess: Preprocess | None,
    labels: tuple[str, ...],
    origin: dict[str, str],
    layout: str | None = None,
) -> Model:
    """The model of a checkpoint whose network is one of `choice`; what is not known is the architecture's usual."""
    path = fetched.path
    with ThreadPoolExecutor(1) as beside:
        sha256 = beside.submit(lambda: fetched.sha256 or sha256_of(path))
        try:
            match, params = identify(read_checkpoint(path), choice, layout)
        except CheckpointError as error:
            raise CheckpointError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    origin = {**origin, "layout": match.layout, "sha256": sha256.result()}
    preprocess = preprocess or match.architecture.preprocess
    return _assemble(match.architecture, params, name, preprocess, labels, origin)


def _assemble(
    architecture: Architecture,
    params: Params,
    name: str,
    preprocess: Preprocess,
    labels: tuple[str, ...],
    origin: dict[str, str],
) -> Model:
    """The model of converted parameters."""
    outline = architecture.family.outline(architecture.config)
    model = dataclasses.replace(
        outline, params=params, preprocess=preprocess, name=name, architecture=described(architecture), origin=origin
    )
    labels = labels or default_labels(architecture.config.num_classes)
    return dataclasses.replace(model, labels=_checked_labels(labels, model))


def _choice(architecture: str | None) -> list[Architecture]:
    return list(ARCHITECTURES.values()) if architecture is None else [find_architecture(architecture)]


def _fetch_weights(repository: str, revision: str) -> Fetched:
    """The repository's weights: safetensors where it has them."""
    for filename in HUB_FILES[:-1]:
        with contextlib.suppress(MissingFileError):
            return fetch_checked(repository, filename, revision)
    return fetch_checked(repository, HUB_FILES[-1], revision)


def _preprocess(source: WeightSource) -> Preprocess:
    return Preprocess(source.input_size, source.crop_pct, source.interpolation, source.mean, source.std)


def _checked_labels(labels: Sequence[str], model: Model) -> tuple[str, ...]:
    count = model.architecture["config"]["num_classes"]
    if len(labels) != count:
        raise LabelError(f"there are {len(labels)} labels, but {model.name} has {count} classes")
    return tuple(labels)
