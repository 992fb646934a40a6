"""What the config files of a hub repository say: `config.json` of timm and transformers, and the preprocessor's.

How a config describes a network is the family's to know; what they have in common is here.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from camjax.checkpoints.description import read_labels, read_preprocess, shown
from camjax.errors import CheckpointError, printable
from camjax.images.preprocess import Preprocess
from camjax.models.family import Architecture
from camjax.models.registry import ARCHITECTURES, FAMILIES

PILLOW_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for its filters, which preprocessor configs hold."""

Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class HubConfig:
    """What a repository says about its weights.

    Attributes:
        architecture: None where the repository does not say, so that the keys must tell.
        preprocess: None where it does not say.
        labels: empty where it does not say.
    """

    architecture: Architecture | None = None
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()


def read_hub_config(
    config: Json | None, preprocessor: Json | None, architecture: Architecture | None = None
) -> HubConfig:
    """Reads `config.json` and `preprocessor_config.json`, either of which may be missing (None).

    Args:
        config: untrusted.
        preprocessor: untrusted.
        architecture: in place of what the config says, where the user says so.

    Raises:
        CheckpointError: a file lacks what it should hold, or describes a network that camjax does not have.
    """
    try:
        if config is None:
            return HubConfig(architecture, _transformers_preprocess(preprocessor))
        if "architecture" in config and "model_type" not in config:
            return _timm(config, architecture)
        return HubConfig(
            architecture or _transformers_architecture(config), _transformers_preprocess(preprocessor), _labels(config)
        )
    except CheckpointError as error:
        raise CheckpointError(printable(str(error))) from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"the repository's config is not understood: {printable(reason)}") from error


def _timm(config: Json, architecture: Architecture | None) -> HubConfig:
    # Old repositories have everything on one level.
    details = config.get("pretrained_cfg", config)
    sizes = details["input_size"]
    if not isinstance(sizes, list) or len(sizes) != 3 or sizes[0] != 3:
        raise CheckpointError(f"the input_size {shown(sizes)} is not three channels, a height and a width")
    fields = {name: details[name] for name in ("crop_pct", "interpolation", "mean", "std")}
    preprocess = read_preprocess({"input_size": sizes[1:], **fields})
    return HubConfig(architecture or _timm_architecture(config), preprocess, _timm_labels(config, details))


def _timm_architecture(config: Json) -> Architecture:
    """The architecture of exactly that name, with the arguments it was made with."""
    name, arguments = config["architecture"], config.get("model_args") or {}
    if not isinstance(name, str) or name not in ARCHITECTURES:
        close = difflib.get_close_matches(str(name), ARCHITECTURES)
        hint = f"; it has {', '.join(close)}, which may compute something else" if close else ""
        raise CheckpointError(f"the repository holds timm's {shown(name)}, which camjax does not have{hint}")
    found = ARCHITECTURES[name]
    try:
        return dataclasses.replace(found, config=found.family.from_timm(found.config, arguments))
    except CheckpointError as error:
        raise CheckpointError(f"the repository's {name}: {error}") from error


def _timm_labels(config: Json, details: Json) -> tuple[str, ...]:
    """The labels, spelled out where short names have descriptions."""
    said = {**details, **config}
    names = read_labels(_in_order(said.get("label_names") or said.get("labels") or []))
    descriptions = said.get("label_descriptions") or {}
    return read_labels([descriptions.get(name, name) for name in names])


def _transformers_architecture(config: Json) -> Architecture:
    kind = config.get("model_type")
    for family in FAMILIES.values():
        if isinstance(kind, str) and kind in family.from_transformers:
            return family.from_transformers[kind](config)
    raise CheckpointError(f"the repository holds a {shown(kind)} model, which camjax does not have")


def _transformers_preprocess(config: Json | None) -> Preprocess | None:
    """What transformers' image processors do: `size` is cut to `crop_size`, or to `crop_pct` of it."""
    if config is None:
        return None
    size, crop = (_sides(config.get(name, 224)) for name in ("size", "crop_size"))
    cropped = bool(config.get("do_center_crop") and "crop_size" in config)
    resample = config.get("resample", 3)
    if type(resample) is not int or resample not in PILLOW_FILTERS:
        raise CheckpointError(f"the resample {shown(resample)} is not Pillow's 2 (bilinear) or 3 (bicubic)")
    return read_preprocess(
        {
            "input_size": crop if cropped else size,
            "crop_pct": crop[0] / size[0] if cropped else config.get("crop_pct") or 0.875,
            "interpolation": PILLOW_FILTERS[resample],
            "mean": config["image_mean"],
            "std": config["image_std"],
        }
    )


def _sides(size: Any) -> list[int]:  # noqa: ANN401
    """Height and width: of one number, `{"shortest_edge": side}` or `{"height": height, "width": width}`."""
    sides = [size, size]
    if isinstance(size, dict):
        short = size.get("shortest_edge")
        sides = [short, short] if short else [size["height"], size["width"]]
    if not all(type(side) is int and side > 0 for side in sides):
        raise CheckpointError(f"the size {shown(size)} is not a number of pixels")
    return sides


def _labels(config: Json) -> tuple[str, ...]:
    """The repository's own labels, unless they are transformers' stand-ins (`LABEL_0`)."""
    labels = read_labels(_in_order(config.get("id2label") or {}))
    return () if not labels or labels[0] == "LABEL_0" else labels


def _in_order(names: Any) -> Any:  # noqa: ANN401
    """A list as it is, and a table by number, none of which may be left out, as a list."""
    if not isinstance(names, dict):
        return names
    numbered = {int(number): name for number, name in names.items()}
    if sorted(numbered) != list(range(len(names))):
        raise CheckpointError(f"the labels' numbers are not 0 to {len(names) - 1}")
    return [numbered[number] for number in range(len(names))]
