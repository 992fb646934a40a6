"""timm's `config.json`: which network, made with which arguments, and how its inputs are made."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from camjax.checkpoints.config_fields import Fields, warn_of_unknown
from camjax.checkpoints.description import in_order, read_count, read_labels, read_preprocess, shown
from camjax.errors import CheckpointError
from camjax.images.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from camjax.models.family import Architecture
from camjax.models.registry import ARCHITECTURES

KIND = "timm's config.json"

DEFAULTS: Mapping[str, Any] = {
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
}
"""What timm takes where its `pretrained_cfg` has no value or null."""


@dataclasses.dataclass(frozen=True)
class TimmConfig:
    """Contents of a file that timm wrote.

    Attributes:
        architecture: Network, with the arguments that it was made with.
        preprocess: Preprocessing of its inputs.
        labels: Names of the classes; empty where the file has none.
        num_classes: Number of outputs; None where the file does not say.
    """

    architecture: Architecture
    preprocess: Preprocess
    labels: tuple[str, ...]
    num_classes: int | None


def read_timm_config(
    config: Mapping[str, Any], architecture: Architecture | None = None, preprocess: Preprocess | None = None
) -> TimmConfig:
    """Reads an untrusted `config.json` of timm's, in its present form or the older one on a single level.

    Args:
        config: JSON object of the file.
        architecture: Network to take instead of the one that the file names.
        preprocess: Preprocessing to take instead of the file's.

    Raises:
        CheckpointError: The file describes something that camjax does not compute; the message names the field.
    """
    fields = Fields(config)
    details = Fields(fields["pretrained_cfg"]) if "pretrained_cfg" in fields else fields
    values = {name: usual if details.get(name) is None else details[name] for name, usual in DEFAULTS.items()}
    size = _size(values["input_size"])
    if details.get("label_offset"):
        raise CheckpointError(
            f"label_offset={shown(details['label_offset'])} says that outputs before the first class are to be left "
            "out, which camjax does not do; save the network again with timm"
        )
    arguments = fields.get("model_args") or {}
    result = TimmConfig(
        architecture or _architecture(fields, arguments, size if details.get("fixed_input_size") else None),
        preprocess or _preprocess(values, size),
        _labels(fields, details),
        _num_classes(fields, details, arguments),
    )
    for read in (fields, details):
        for name in ("architecture", "fixed_input_size", "global_pool", "model_args", "num_classes"):
            read.get(name)  # whatever way was taken above
        warn_of_unknown(read, KIND)
    return result


def _size(sizes: object) -> list[Any]:
    if not isinstance(sizes, list) or len(sizes) != 3 or sizes[0] != 3:
        raise CheckpointError(f"the input_size {shown(sizes)} is not three channels, a height and a width")
    return sizes[1:]


def _preprocess(values: Mapping[str, Any], size: list[Any]) -> Preprocess:
    if values["crop_mode"] == "border":
        raise CheckpointError("the crop_mode 'border' pads images with their mean colour, which camjax does not do")
    statistics = {name: values[name] for name in ("mean", "std")}
    tripled = {name: value * 3 for name, value in statistics.items() if isinstance(value, list) and len(value) == 1}
    return read_preprocess({**values, **tripled, "input_size": size})


def _architecture(fields: Fields, arguments: Mapping[str, Any], size: list[Any] | None) -> Architecture:
    """Returns the architecture of exactly that name, with the arguments it was made with.

    Args:
        fields: Contents of the file.
        arguments: Arguments that timm was given.
        size: Height and width for which timm builds the network where no argument says; None where it builds it for
            any size.
    """
    name = fields["architecture"]
    if not isinstance(name, str) or name not in ARCHITECTURES:
        close = difflib.get_close_matches(str(name), ARCHITECTURES)
        hint = f"; it has {', '.join(close)}, which may compute something else" if close else ""
        raise CheckpointError(f"the repository holds timm's {shown(name)}, which camjax does not have{hint}")
    found = ARCHITECTURES[name]
    implied: dict[str, Any] = {}
    if pool := fields.get("global_pool"):
        implied["global_pool"] = pool
    if size is not None:
        implied["img_size"] = size
    arguments = {**implied, **arguments}
    usual = list(found.preprocess.input_size)
    if arguments.get("img_size") in (usual, usual[0] if usual[0] == usual[1] else usual):
        del arguments["img_size"]  # the size that it is built for anyway
    try:
        return dataclasses.replace(found, config=found.family.from_timm(found.config, arguments))
    except CheckpointError as error:
        raise CheckpointError(f"the repository's {name}: {error}") from error


def _num_classes(fields: Fields, details: Fields, arguments: Mapping[str, Any]) -> int | None:
    """Returns the number of outputs, which the top level says before `pretrained_cfg`."""
    outer, inner, argument = (where.get("num_classes") for where in (fields, details, arguments))
    counts = [read_count(count) for count in (inner if outer is None else outer, argument) if count is not None]
    if len({*counts}) > 1:
        raise CheckpointError(f"the network was made with num_classes={counts[1]}, but is said to have {counts[0]}")
    return counts[0] if counts else None


def _labels(fields: Fields, details: Fields) -> tuple[str, ...]:
    """Returns the labels, spelled out where short names have descriptions.

    Raises:
        CheckpointError: The descriptions are neither a table by name nor a list of one for each name.
    """
    names, old, descriptions = (
        fields.get(key) or details.get(key) for key in ("label_names", "labels", "label_descriptions")
    )
    short = read_labels(in_order(names or old or []))
    if not descriptions:
        return short
    if isinstance(descriptions, Mapping):
        return read_labels([descriptions.get(name, name) for name in short])
    spelled = read_labels(in_order(descriptions))
    if short and len(spelled) != len(short):
        raise CheckpointError(f"it has {len(short)} label_names, but {len(spelled)} label_descriptions")
    return spelled
