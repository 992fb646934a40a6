"""The configuration files of a repository or folder: `config.json` of timm and transformers, and the preprocessor's.

How a config describes a network is the family's to know; what they have in common is here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from camjax.checkpoints.config_fields import Fields, warn_of_unknown
from camjax.checkpoints.description import LARGEST_INPUT, in_order, read_count, read_labels, shown
from camjax.checkpoints.image_processor import read_image_processor
from camjax.checkpoints.timm_config import read_timm_config
from camjax.core.model import Activation
from camjax.errors import CheckpointError, printable
from camjax.images.preprocess import Preprocess
from camjax.models.family import Architecture
from camjax.models.registry import FAMILIES

KIND = "config.json"

Json = Mapping[str, Any]

ACTIVATIONS: Mapping[str | None, Activation | None] = {
    None: None,
    "single_label_classification": None,
    "multi_label_classification": "sigmoid",
    "regression": "none",
}
"""By transformers' `problem_type`, the activation that its image-classification pipeline applies. The outputs of a
regression are quantities: they are ranked and explained as they are."""

_EMPTY = ("auto_map", "per_layer_config", "pruned_heads", "quantization_config")
"""Fields that describe another network than the family's wherever they have a value."""


@dataclasses.dataclass(frozen=True)
class HubConfig:
    """Contents of the configuration files.

    Attributes:
        architecture: Network; None where the files do not say, so that the keys must tell.
        preprocess: Preprocessing of the inputs; None where the files do not say.
        labels: Names of the classes; empty where the files have none.
        activation: Function from logits to probabilities, as in `camjax.Model`.
        num_classes: Number of outputs; None where the files do not say.
        input_size: (height, width) in pixels of the inputs that the network is built for; None where the files do not
            say, or where weights of another size are resampled.
        fixed_size: Whether the network takes inputs of that size only, as transformers has it.
        described: Whether transformers' `config.json` describes the network.
    """

    architecture: Architecture | None = None
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()
    activation: Activation | None = None
    num_classes: int | None = None
    input_size: tuple[int, int] | None = None
    fixed_size: bool = False
    described: bool = False

    def labels_for(self, count: int) -> tuple[str, ...]:
        """Returns the labels of a head with that many outputs; empty where the files name none.

        Args:
            count: Number of rows of the head's kernel.

        Raises:
            CheckpointError: The files say that there are more or fewer.
        """
        for name, found in (("classes", self.num_classes), ("labels", len(self.labels) or None)):
            if found not in (None, count):
                raise CheckpointError(f"{KIND} has {found} {name}, but the weights have {count} outputs")
        return self.labels


def read_hub_config(
    config: Json | None,
    preprocessor: Json | None,
    architecture: Architecture | None = None,
    preprocess: Preprocess | None = None,
) -> HubConfig:
    """Reads `config.json` and `preprocessor_config.json`, either of which may be missing (None).

    Fields that camjax neither knows nor reads are warned of.

    Args:
        config: JSON object of the first file, untrusted.
        preprocessor: JSON object of the second file, untrusted.
        architecture: Network to take instead of the one that the config names.
        preprocess: Preprocessing to take instead of what the files say.

    Raises:
        CheckpointError: A file lacks what it should hold, or describes something that camjax does not compute.
    """
    try:
        found = _read(config, preprocessor, architecture, preprocess)
    except CheckpointError as error:
        raise CheckpointError(printable(str(error))) from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"the repository's config is not understood: {printable(reason)}") from error
    return found if preprocess is None else dataclasses.replace(found, preprocess=preprocess)


def _read(
    config: Json | None, preprocessor: Json | None, architecture: Architecture | None, preprocess: Preprocess | None
) -> HubConfig:
    if config is not None and "architecture" in config and "model_type" not in config:
        timm = read_timm_config(config, architecture, preprocess)
        return HubConfig(timm.architecture, timm.preprocess, timm.labels, num_classes=timm.num_classes)
    found = HubConfig(architecture) if config is None else _transformers(Fields(config), architecture)
    if preprocessor is None or preprocess is not None:
        return found
    return dataclasses.replace(found, preprocess=read_image_processor(preprocessor, config))


def _transformers(config: Fields, architecture: Architecture | None) -> HubConfig:
    for name in _EMPTY:
        if config.get(name):
            raise CheckpointError(f"{KIND} has {name}={shown(config[name])}, which camjax does not have")
    problem = config.get("problem_type")
    if not isinstance(problem, str | None) or problem not in ACTIVATIONS:
        raise CheckpointError(f"the problem_type {shown(problem)} is not one of {', '.join(filter(None, ACTIVATIONS))}")
    labels = read_labels(_as_text(in_order(config.get("id2label") or [])))
    count = config.get("num_labels")
    if count is not None and labels and read_count(count) != len(labels):
        raise CheckpointError(f"{KIND} has num_labels={count}, but {len(labels)} labels in id2label")
    kind, size = config.get("model_type"), config.get("image_size")
    found = HubConfig(
        architecture or _transformers_architecture(config),
        labels=labels,
        activation=ACTIVATIONS[problem],
        num_classes=len(labels) or (None if count is None else read_count(count)),
        input_size=None if size is None else read_size(size),
        fixed_size=kind == "vit",
        described=True,
    )
    if architecture is None:
        warn_of_unknown(config, KIND)
    return found


def _as_text(names: Any) -> Any:  # noqa: ANN401
    """Returns a list whose whole numbers are texts, as some repositories of digits have labels; else what came."""
    return [str(name) if type(name) is int else name for name in names] if isinstance(names, list) else names


def _transformers_architecture(config: Fields) -> Architecture:
    kind = config.get("model_type")
    for family in FAMILIES.values():
        if isinstance(kind, str) and kind in family.from_transformers:
            return family.from_transformers[kind](config)
    raise CheckpointError(f"the repository holds a {shown(kind)} model, which camjax does not have")


def read_size(size: Any) -> tuple[int, int]:  # noqa: ANN401
    """Reads transformers' `image_size`: a side, or a height and a width, in pixels.

    Raises:
        CheckpointError: It is neither.
    """
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and 0 < side <= LARGEST_INPUT for side in sides):
        raise CheckpointError(f"the image_size {shown(size)} is not one or two sides from 1 to {LARGEST_INPUT} pixels")
    return sides[0], sides[1]
