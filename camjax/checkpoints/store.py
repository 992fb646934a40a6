"""camjax's own weight file: safetensors that holds everything a model needs, so that it loads with no other file.

Tensors have our dotted names and axis order. The metadata's entry `camjax` is JSON with the architecture,
preprocessing, labels and origin.
"""

import dataclasses
import json
import os
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from camjax.atomic import atomic_path
from camjax.checkpoints.conversion import flatten, place
from camjax.checkpoints.formats import read_checkpoint, read_safetensors_metadata
from camjax.core.model import Model
from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.registry import FAMILIES

METADATA_KEY = "camjax"
VERSION = 1


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
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in flatten(model.params)}
    description = {
        "version": VERSION,
        "name": model.name,
        "architecture": model.architecture,
        "preprocess": dataclasses.asdict(model.preprocess),
        "labels": list(model.labels),
        "origin": model.origin,
    }
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={METADATA_KEY: json.dumps(description)})


def is_stored_model(path: str | os.PathLike[str]) -> bool:
    """Whether a safetensors file is camjax's own."""
    return METADATA_KEY in read_safetensors_metadata(path)


def load_stored_model(path: str | os.PathLike[str]) -> Model:
    """Reads what `save_model` wrote.

    Raises:
        CheckpointError: the file is not such a file, is damaged, or was written by a newer camjax.
    """
    text = read_safetensors_metadata(path).get(METADATA_KEY, "")
    tensors = read_checkpoint(path)
    try:
        description = json.loads(text)
        if description["version"] > VERSION:
            raise CheckpointError(f"{path} was written by a newer camjax; update with: pip install -U camjax")
        architecture = description["architecture"]
        family = FAMILIES[architecture["family"]]
        config = _config(family.config, architecture["config"], len(tensors))
        preprocess = Preprocess(**_tuples(description["preprocess"]))
        labels = tuple(str(label) for label in description["labels"])
        name, origin = str(description["name"]), dict(description["origin"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a whole camjax file: its description is damaged ({error!r})") from error
    outline = family.outline(config)
    return dataclasses.replace(
        outline,
        params=place(tensors, outline.params),
        preprocess=preprocess,
        labels=labels,
        name=name,
        architecture=architecture,
        origin=origin,
    )


def _config(kind: type, fields: dict[str, Any], tensors: int) -> Any:  # noqa: ANN401
    """The family's config; one that claims more blocks than the file has tensors would take for ever to outline."""
    config = kind(**_tuples(fields))
    if not all(isinstance(depth, int) and depth > 0 for depth in config.depths) or sum(config.depths) > tensors:
        raise ValueError(f"depths {config.depths}")
    return config


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples, and configs no lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
