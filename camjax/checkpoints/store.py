"""camjax's own weight file: safetensors that holds everything a model needs, so that it loads with no other file.

Tensors have our dotted names and axis order. The metadata's entry `camjax` is JSON with the architecture,
preprocessing, labels, activation and origin.
"""

import dataclasses
import json
import os
from typing import Any, NoReturn

import numpy as np
from safetensors.numpy import save_file

from camjax.atomic import atomic_path
from camjax.checkpoints.conversion import check_names, flatten, place
from camjax.checkpoints.description import read_activation, read_labels, read_preprocess, read_text, shown
from camjax.checkpoints.formats import Tensors, read_checkpoint, read_safetensors_metadata
from camjax.core.model import Activation, Model
from camjax.errors import CheckpointError, printable
from camjax.images.preprocess import Preprocess
from camjax.json_text import json_text
from camjax.models.family import Architecture, Family
from camjax.models.registry import FAMILIES

METADATA_KEY = "camjax"
VERSION = 2
OLDEST = 1
"""Version whose files have no activation, and preprocessing without `crop_mode` and `crop_rounding`."""


def save_model(model: Model, path: str | os.PathLike[str]) -> None:
    """Writes a model to one file, moved into place when it is whole.

    Args:
        model: one of camjax's architectures.
        path: the file, by custom with the suffix `.safetensors`.

    Raises:
        ValueError: the model has no architecture that the file could be rebuilt from.
    """
    if not model.architecture:
        raise ValueError(
            f"{model.name} is not one of camjax's architectures, so a file of it could not be loaded again"
        )
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in flatten(model.params)}
    description = {
        "version": VERSION,
        "name": model.name,
        "architecture": model.architecture,
        "preprocess": dataclasses.asdict(model.preprocess),
        "labels": list(model.labels),
        "activation": model.activation,
        "origin": model.origin,
    }
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={METADATA_KEY: json_text(description)})


def is_stored_model(path: str | os.PathLike[str]) -> bool:
    """Whether a safetensors file is camjax's own."""
    return METADATA_KEY in read_safetensors_metadata(path)


def load_stored_model(path: str | os.PathLike[str]) -> Model:
    """Reads what `save_model` wrote; a file whose labels are an empty list has unlabelled classes.

    Raises:
        CheckpointError: the file is not such a file, is damaged, or was written by a newer camjax.
    """
    text = read_safetensors_metadata(path).get(METADATA_KEY, "")
    tensors = read_checkpoint(path)
    try:
        return rebuild(text, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error


def rebuild(text: str, tensors: Tensors) -> Model:
    """The model of a file's metadata and tensors.

    Args:
        text: the metadata's JSON, untrusted.
        tensors: by our names.

    Raises:
        CheckpointError: as for `read_description`, or the tensors are not those of the network.
    """
    described = read_description(text)
    # Names first: outlining a network of a hundred blocks takes seconds.
    for layout in described.family.layouts.values():
        if layout.holds(described.config):
            check_names(tensors, layout.table(described.config))
    outline = described.family.outline(described.config)
    return dataclasses.replace(
        outline,
        params=place(tensors, outline.params),
        preprocess=described.preprocess,
        labels=described.labels or default_labels(described.config.num_classes),
        name=described.name,
        architecture=described.architecture,
        origin=described.origin,
        activation=described.activation,
    )


@dataclasses.dataclass(frozen=True)
class Description:
    """What the metadata of a file says, checked.

    Attributes:
        family: the network's definition.
        config: what its module is built from.
        architecture: the two and the architecture's name, as `Model.architecture`.
        name: of the model.
        preprocess: as in `Model`.
        labels: as many as classes, or none.
        origin: as in `Model`.
        activation: as in `Model`.
    """

    family: Family
    config: Any
    architecture: dict[str, Any]
    name: str
    preprocess: Preprocess
    labels: tuple[str, ...]
    origin: dict[str, str]
    activation: Activation | None


def read_description(text: str) -> Description:
    """Reads the metadata's JSON, and builds nothing.

    Args:
        text: untrusted.

    Raises:
        CheckpointError: it is damaged, of a newer camjax, or of a family that is not registered.
    """
    try:
        document = json.loads(text)
        version = document["version"]
        if type(version) is not int or not OLDEST <= version <= VERSION:
            return _refuse_version(version)
        return _checked(document)
    except CheckpointError as error:
        raise CheckpointError(f"is not a whole camjax file: {printable(str(error))}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"is not a whole camjax file: its description is damaged ({printable(reason)})"
        ) from error


def described(architecture: Architecture) -> dict[str, Any]:
    """What a network can be rebuilt from, as `Model.architecture`."""
    config = dataclasses.asdict(architecture.config)
    return {"name": architecture.name, "family": architecture.family.name, "config": config}


def default_labels(count: int) -> tuple[str, ...]:
    """Returns the labels of classes that nothing names: "class 0" and so on."""
    return tuple(f"class {number}" for number in range(count))


def _refuse_version(version: Any) -> NoReturn:  # noqa: ANN401
    if type(version) is int and version > VERSION:
        raise CheckpointError("it was written by a newer camjax; update with: pip install -U camjax")
    raise CheckpointError(f"its version {shown(version)} does not exist")


def _checked(document: dict[str, Any]) -> Description:
    architecture, origin = document["architecture"], document["origin"]
    kind = architecture["family"]
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise CheckpointError(f"the family {shown(kind)} is not one of {', '.join(FAMILIES)}")
    family = FAMILIES[kind]
    config = family.read_config(architecture["config"])
    labels = read_labels(document["labels"])
    if labels and len(labels) != config.num_classes:
        raise CheckpointError(f"there are {len(labels)} labels for {config.num_classes} classes")
    return Description(
        family=family,
        config=config,
        architecture=described(Architecture(read_text("architecture", architecture["name"]), family, config)),
        name=read_text("name", document["name"]),
        preprocess=read_preprocess(document["preprocess"]),
        labels=labels,
        origin={read_text("origin", key): read_text("origin", value) for key, value in origin.items()},
        activation=read_activation(document["activation"] if document["version"] > OLDEST else None),
    )
