"""`load_model`: from a name, a hub reference or a file to a model that is ready to explain."""

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from camjax.checkpoints.building import Told, assemble, build, checked_labels
from camjax.checkpoints.checksums import sha256_of
from camjax.checkpoints.folders import CONFIG, PREPROCESSOR, WEIGHT_SUFFIXES, find_weights, read_beside
from camjax.checkpoints.hub import PREFIX, Fetched, MissingFileError, fetch_checked, fetch_json, parse_hub_reference
from camjax.checkpoints.hub_config import HubConfig, read_hub_config
from camjax.checkpoints.manifest import WeightSource, find_source
from camjax.checkpoints.mxnet import checkpoint as mxnet
from camjax.checkpoints.packages import packaged_file
from camjax.checkpoints.store import is_stored_model, load_stored_model
from camjax.core.model import Activation, Model
from camjax.errors import CheckpointError, LabelError, UnknownModelError, printable
from camjax.images.labels import IMAGENET, imagenet_labels, read_labels
from camjax.images.preprocess import Preprocess
from camjax.models.registry import FAMILIES, find_architecture

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
RAW_RGB = Preprocess(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
"""MXNet's networks take red, green and blue from 0 to 255 and normalise them by themselves."""


def load_model(
    source: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    labels: Sequence[str] | None = None,
    input_size: tuple[int, int] | None = None,
    preprocess: Preprocess | None = None,
    activation: Activation | None = None,
) -> Model:
    """Loads a pretrained classifier.

    Configuration files are read wherever they lie beside the weights, in a repository or a folder: `config.json` and
    `preprocessor_config.json` of transformers, `config.json` of timm. What in them changes the inputs or the meaning
    of the outputs is honoured or refused; fields that camjax does not know are warned of.

    Args:
        source: one of

            - a name that `camjax models` lists: `"resnet50"`, `"resnet50.a1_in1k"`, `"microsoft/resnet-50"`,
              `"efficientnet_lite0"`;
            - `"hf-hub:owner/name"` or `"hf-hub:owner/name@revision"`: a repository of timm's or transformers' weights;
            - a file: camjax's own, safetensors, or PyTorch's `.pth`, `.pt` or `.bin`. Of several sets of weights in it
              the one that timm would load is taken (averaged before raw), with a warning;
            - a folder that timm or transformers saved; a name that `camjax models` lists comes before a folder of that
              name;
            - `"mxnet:PATH/PREFIX@EPOCH"`: an MXNet checkpoint of a ResNet v2, `PREFIX-symbol.json` and
              `PREFIX-EPOCH.params`.
        architecture: which network a file or repository holds, whatever its config says. Without it, the config tells,
            and where there is none, keys and shapes. These tell no padding, epsilon or activation: a
            file that fits two of camjax's architectures (`efficientnet_lite0` and `tf_efficientnet_lite0`) is refused
            without it. So is one that is named after a network that camjax does not have and that has another's keys
            and shapes (timm's `resnetblur50` and `resnetaa50` have those of `resnet50`); under another name it is
            taken for the other.
        labels: the classes' names, or `"imagenet"` for ImageNet's; by default the file's or the repository's own, or
            the `synset.txt` beside an MXNet checkpoint. Weights without names have ImageNet's where they are known to
            be an ImageNet classifier's (those of the manifest, of torchvision, and of timm's own repositories), and
            otherwise `"class 0"` and so on.
        input_size: (height, width) in pixels of the inputs, in place of what files say. A ViT's position embedding is
            laid on the grid of that size where the number of its positions fits.
        preprocess: Preprocessing of the inputs, in place of what files say, which are not read for it then.
        activation: The function that turns logits into probabilities, in place of what files say: `"sigmoid"` for a
            multi-label network whose weight file does not say so; see `camjax.Model`.

    Returns:
        The model; its parameters are float32 on JAX's default device. `origin` says where they came from, `state_dict`
        which set of weights of a file.

    Raises:
        UnknownModelError: no such name or file.
        CheckpointError: the file or the repository's config is damaged, does not fit the network, fits several, or
            describes one that camjax does not have; or two of its files contradict each other.
        HubError: the hub could not be reached, or has no such file.
        LabelError: there are not as many labels as classes.
    """
    text = os.fspath(source)
    told = Told(find_architecture(architecture) if architecture else None, input_size, preprocess)
    if text.startswith(PREFIX):
        model = _from_hub(text, told)
    elif text.startswith(mxnet.PREFIX):
        model = _from_mxnet(text, told)
    elif Path(text).is_file() or Path(text).suffix in WEIGHT_SUFFIXES:
        model = _from_path(Path(text), told)
    else:
        model = _from_name(text, told)
    if activation is not None:
        model = dataclasses.replace(model, activation=activation)
    if labels is None:
        return model
    if isinstance(labels, str) and labels != IMAGENET:
        raise LabelError(f"labels must be a sequence of names, or {IMAGENET!r}, got {printable(repr(labels), 80)}")
    named = imagenet_labels() if isinstance(labels, str) else labels
    return dataclasses.replace(model, labels=checked_labels(named, model))


def _from_name(text: str, told: Told) -> Model:
    """Loads weights of the manifest, or of a folder."""
    try:
        source = find_source(text)
    except UnknownModelError:
        if not Path(text).is_dir():
            raise
        return _from_path(find_weights(Path(text)), told)
    return _from_manifest(source, told)


def _from_manifest(source: WeightSource, told: Told) -> Model:
    origin = {"source": source.name, "licence": source.licence, "file": source.file}
    if source.package:
        path, sha256 = packaged_file(source.package, source.file, source.sha256), source.sha256
        origin["package"] = source.package
    else:
        assert source.repository is not None  # the manifest's reader saw to it
        path, sha256 = fetch_checked(source.repository, source.file, source.revision, sha256=source.sha256)
        origin |= {"repository": source.repository, "revision": source.revision}
    config = HubConfig(find_architecture(source.architecture), _preprocess(source), imagenet_labels())
    return build(Fetched(path, sha256), config, told, source.name, origin, source.layout)


def _from_hub(text: str, told: Told) -> Model:
    reference = parse_hub_reference(text)
    repository, revision = reference.repository, reference.revision
    said, preprocessor = (fetch_json(repository, name, revision) for name in (CONFIG, PREPROCESSOR))
    try:
        config = read_hub_config(said, preprocessor, told.architecture, told.preprocess)
    except CheckpointError as error:
        raise CheckpointError(f"{repository}: {error}") from error
    fetched = _fetch_weights(repository, revision)
    origin = {"source": text, "repository": repository, "revision": revision, "file": fetched.path.name}
    return build(fetched, config, told, text, origin)


def _from_path(path: Path, told: Told) -> Model:
    if not path.exists():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix == ".safetensors" and is_stored_model(path):
        model = load_stored_model(path)
        return dataclasses.replace(model, preprocess=told.apply(model.preprocess))
    try:
        config = read_hub_config(*read_beside(path), told.architecture, told.preprocess)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if config.architecture is None:
        _check_name(path)
    return build(Fetched(path, None), config, told, path.stem, {"source": path.name, "file": path.name})


def _check_name(path: Path) -> None:
    """Refuses a file that is named after a network that another would be taken for; timm names files so."""
    for other in itertools.chain.from_iterable(family.others for family in FAMILIES.values()):
        if re.match(rf"{other}(?![a-z0-9])", path.name, re.IGNORECASE):
            raise CheckpointError(
                f"{path}: is named after {other}, which camjax does not have, and whose keys and shapes are those of "
                "another network; where that is what the file holds, say so with architecture=NAME (--architecture "
                "NAME)"
            )


def _from_mxnet(text: str, told: Told) -> Model:
    symbol, path = mxnet.checkpoint_files(text)
    architecture, params = mxnet.read_mxnet(symbol, path)
    synset = symbol.with_name("synset.txt")
    labels = read_labels(synset) if synset.is_file() else ()
    origin = {"source": path.name, "file": path.name, "layout": "mxnet", "sha256": sha256_of(path)}
    return assemble(architecture, params, path.stem, told.apply(RAW_RGB), labels, origin)


def _fetch_weights(repository: str, revision: str) -> Fetched:
    """The repository's weights: safetensors where it has them."""
    for filename in HUB_FILES[:-1]:
        with contextlib.suppress(MissingFileError):
            return fetch_checked(repository, filename, revision)
    return fetch_checked(repository, HUB_FILES[-1], revision)


def _preprocess(source: WeightSource) -> Preprocess:
    return Preprocess(**{field.name: getattr(source, field.name) for field in dataclasses.fields(Preprocess)})
