"""What the config files of a hub repository say: `config.json` of timm and transformers, and the preprocessor's."""

import dataclasses
from typing import Any

from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.family import Architecture
from camjax.models.registry import find_architecture
from camjax.models.resnet import FAMILY as RESNET
from camjax.models.resnet import ResNetConfig

PILLOW_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for its filters, which preprocessor configs hold."""

TIMM_ALIASES = {"tf_efficientnet_lite0": "efficientnet_lite0"}
"""Architectures that timm calls otherwise."""


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


def read_hub_config(config: dict[str, Any] | None, preprocessor: dict[str, Any] | None) -> HubConfig:
    """Reads `config.json` and `preprocessor_config.json`, either of which may be missing (None).

    Raises:
        CheckpointError: a file lacks what it should hold, or describes a network that camjax does not have.
    """
    try:
        if config is None:
            return HubConfig(None, _transformers_preprocess(preprocessor))
        if "pretrained_cfg" in config:
            return _timm(config)
        return HubConfig(_transformers_architecture(config), _transformers_preprocess(preprocessor), _labels(config))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"the repository's config is not understood: {error!r}") from error


def _timm(config: dict[str, Any]) -> HubConfig:
    details = config["pretrained_cfg"]
    architecture = find_architecture(TIMM_ALIASES.get(config["architecture"], config["architecture"]))
    preprocess = Preprocess(
        input_size=tuple(details["input_size"][-2:]),
        crop_pct=details["crop_pct"],
        interpolation=details["interpolation"],
        mean=tuple(details["mean"]),
        std=tuple(details["std"]),
    )
    return HubConfig(architecture, preprocess, tuple(config.get("label_names", ())))


def _transformers_architecture(config: dict[str, Any]) -> Architecture | None:
    if config.get("model_type") != "resnet":
        raise CheckpointError(f"the repository holds a {config.get('model_type')!r} model, which camjax does not have")
    for option in ("downsample_in_first_stage", "downsample_in_bottleneck"):
        if config.get(option):
            raise CheckpointError(f"the repository's ResNet has {option}, which camjax's does not")
    bottleneck = config.get("layer_type", "bottleneck") == "bottleneck"
    expansion = 4 if bottleneck else 1
    shape = ResNetConfig(
        depths=tuple(config["depths"]),
        bottleneck=bottleneck,
        widths=tuple(width // expansion for width in config["hidden_sizes"]),
        stem_width=config["embedding_size"],
    )
    return Architecture(f"resnet-{2 + sum(shape.depths) * (3 if bottleneck else 2)}", RESNET, shape)


def _transformers_preprocess(config: dict[str, Any] | None) -> Preprocess | None:
    if config is None:
        return None
    return Preprocess(
        input_size=_transformers_size(config.get("size", 224)),
        crop_pct=config.get("crop_pct") or 0.875,
        interpolation=PILLOW_FILTERS.get(config.get("resample", 3), "bicubic"),
        mean=tuple(config["image_mean"]),
        std=tuple(config["image_std"]),
    )


def _transformers_size(size: Any) -> tuple[int, int]:  # noqa: ANN401 (anything that JSON can hold)
    """From one number, `{"shortest_edge": side}` or `{"height": height, "width": width}`."""
    if not isinstance(size, dict):
        return size, size
    if side := size.get("shortest_edge"):
        return side, side
    return size["height"], size["width"]


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    """The repository's own labels, unless they are transformers' stand-ins (`LABEL_0`)."""
    names = {int(number): name for number, name in config.get("id2label", {}).items()}
    labels = tuple(names[number] for number in sorted(names))
    return () if not labels or labels[0] == "LABEL_0" else labels
