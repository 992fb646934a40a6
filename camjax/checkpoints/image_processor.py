"""The image processors of transformers: `preprocessor_config.json` as camjax's preprocessing, or a refusal.

A processor resizes, cuts out the centre, rescales and normalises; each step has a switch, and what a file leaves out
or sets to null has the default of the processor's class.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from camjax.checkpoints.config_fields import Fields, warn_of_unknown
from camjax.checkpoints.description import LARGEST_INPUT, read_preprocess, shown
from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess

KIND = "preprocessor_config.json"

PILLOW_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for its filters, which preprocessor configs hold."""

WARPED_FROM = 384
"""Pixels from which ConvNeXt's processor resizes both sides and crops nothing."""

_HALVES = [0.5, 0.5, 0.5]
_SIDE_224 = {"height": 224, "width": 224}
_CENTRE = {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": _SIDE_224, "default_to_square": False}
_CLIP = {
    **_CENTRE,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "ViTImageProcessor": {"size": _SIDE_224, "resample": 2},
    "DeiTImageProcessor": {"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": _SIDE_224},
    "BeitImageProcessor": {"size": _SIDE_224, "crop_size": _SIDE_224},
    "BitImageProcessor": _CLIP,
    "CLIPImageProcessor": _CLIP,
    "ConvNextImageProcessor": {"size": {"shortest_edge": 384}, "default_to_square": False, "crop_pct": 224 / 256},
}
"""Defaults of the processors that compute nothing but the steps here, as far as they differ from `_DEFAULTS`."""

_DEFAULTS: Mapping[str, Any] = {
    "do_resize": True,
    "default_to_square": True,
    "resample": 3,
    "do_center_crop": False,
    "crop_size": None,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": _HALVES,
    "image_std": _HALVES,
    "do_pad": False,
    "pad_size": None,
}

MODEL_PROCESSORS = {
    "vit": "ViTImageProcessor",
    "swin": "ViTImageProcessor",
    "dinov2": "BitImageProcessor",
    "resnet": "ConvNextImageProcessor",
}
"""By `model_type`, the processor that transformers takes where the file names none."""

_REFUSED = {
    "do_flip_channel_order": "blue, green and red instead of red, green and blue",
    "rescale_offset": "pixels moved by an offset",
    "offset": "pixels moved by an offset",
    "include_top": "a second normalisation",
}
"""Switches of processors that compute something else, and what."""


@dataclasses.dataclass(frozen=True)
class _Resized:
    """Result of the steps that change an image's size.

    Attributes:
        size: (height, width) of the result in pixels.
        crop_pct: Part of the resized sides that the centre crop keeps, as in `Preprocess`.
        crop_mode: Treatment of proportions, as in `Preprocess`.
    """

    size: tuple[int, int]
    crop_pct: float
    crop_mode: str


def read_image_processor(config: Mapping[str, Any], model: Mapping[str, Any] | None = None) -> Preprocess:
    """Reads an untrusted `preprocessor_config.json`.

    Args:
        config: JSON object of the file.
        model: JSON object of the `config.json` beside it, untrusted, whose `image_processor_type` or `model_type`
            chooses the processor where the file names none.

    Returns:
        Preprocessing that, with the geometry `"crop"`, gives the processor's inputs.

    Raises:
        CheckpointError: A field has a value that camjax does not compute; the message names it.
    """
    fields = Fields(config)
    name = _processor(fields, model or {})
    for switch, meaning in _REFUSED.items():
        if fields.get(switch) not in (None, False):
            raise CheckpointError(f"{KIND} has {switch}={shown(fields[switch])} ({meaning}), which camjax does not do")
    options = {**_DEFAULTS, **PROCESSORS[name]}
    options = {key: usual if fields.get(key) is None else fields[key] for key, usual in options.items()}
    resample = options["resample"]
    if type(resample) is not int or resample not in PILLOW_FILTERS:
        raise CheckpointError(f"the resample {shown(resample)} is not Pillow's 2 (bilinear) or 3 (bicubic)")
    resized = _convnext(options) if name == "ConvNextImageProcessor" else _resized(options)
    pad = options["pad_size"]
    if _switch(options, "do_pad") and pad is not None and _sides("pad_size", pad, square=True) != resized.size:
        raise CheckpointError(f"{KIND} pads images to pad_size {shown(pad)}, which camjax does not do")
    mean, std = _normalisation(options)
    preprocess = read_preprocess(
        {
            "input_size": resized.size,
            "crop_pct": resized.crop_pct,
            "interpolation": PILLOW_FILTERS[resample],
            "mean": mean,
            "std": std,
            "crop_mode": resized.crop_mode,
            "crop_rounding": "down",
        }
    )
    warn_of_unknown(fields, KIND)
    return preprocess


def _processor(fields: Fields, model: Mapping[str, Any]) -> str:
    """Returns the name of the processor's class, without what older and faster variants of it add to the name."""
    if fields.get("auto_map"):
        raise CheckpointError(f"{KIND} asks for code of the repository's own, which camjax does not run")
    name = fields.get("image_processor_type") or fields.get("feature_extractor_type")
    name = name or model.get("image_processor_type")
    if name is None:
        kind = model.get("model_type")
        usual = MODEL_PROCESSORS.get(kind) if isinstance(kind, str) else None
        if usual is None:
            raise CheckpointError(f"{KIND} names no image_processor_type, and no config.json with a known model_type")
        return usual
    plain = (
        re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "ImageProcessor", name) if type(name) is str else ""
    )
    if plain not in PROCESSORS:
        raise CheckpointError(
            f"{KIND} has the image_processor_type {shown(name)}, which is not one of {', '.join(PROCESSORS)}"
        )
    return plain


def _resized(options: Mapping[str, Any]) -> _Resized:
    """Resizes to `size`, then cuts out `crop_size`."""
    if not _switch(options, "do_resize"):
        raise CheckpointError(
            f"{KIND} has do_resize=False, so that inputs have any size; say with preprocess=Preprocess(...) which"
        )
    size = _sides("size", options["size"], square=_switch(options, "default_to_square"))
    if not _switch(options, "do_center_crop"):
        if isinstance(size, int):
            raise CheckpointError(f"{KIND} resizes shorter sides to {size} and crops nothing, so inputs have any size")
        return _Resized(size, 1.0, "squash")
    crop = _sides("crop_size", options["crop_size"], square=True)
    if isinstance(crop, int):
        raise CheckpointError(f"the crop_size {shown(options['crop_size'])} is not a height and a width")
    whole = (size, size) if isinstance(size, int) else size
    crop_pct = _share(crop[0], whole[0])
    resized = tuple(math.floor(side / crop_pct) for side in crop)
    if crop_pct > 1 or resized != whole or (isinstance(size, int) and crop[0] != crop[1]):
        raise CheckpointError(
            f"{KIND} cuts the crop_size {shown(options['crop_size'])} out of the size {shown(options['size'])}; camjax "
            "crops the same part of both sides"
        )
    return _Resized(crop, crop_pct, "center" if isinstance(size, int) else "squash")


def _convnext(options: Mapping[str, Any]) -> _Resized:
    """Resizes by ConvNeXt's rule: crops `crop_pct` of small sizes, and nothing of large ones."""
    if _switch(options, "do_center_crop") or not _switch(options, "do_resize"):
        raise CheckpointError(f"{KIND} has a do_resize or do_center_crop that ConvNextImageProcessor usually has not")
    side = _sides("size", options["size"], square=_switch(options, "default_to_square"))
    if not isinstance(side, int):
        raise CheckpointError(
            f"the size {shown(options['size'])} has no shortest_edge, which ConvNextImageProcessor needs"
        )
    if side >= WARPED_FROM:
        return _Resized((side, side), 1.0, "squash")
    crop_pct = options["crop_pct"]
    if type(crop_pct) not in (int, float) or not 0 < crop_pct <= 1:
        raise CheckpointError(f"the crop_pct {shown(crop_pct)} is not a number above 0 and at most 1")
    return _Resized((side, side), crop_pct, "center")


def _share(part: int, whole: int) -> float:
    """Returns the largest float by which the division of `part` gives at least `whole`, before it is rounded down."""
    share = part / whole
    while math.floor(part / share) < whole:
        share = math.nextafter(share, 0)
    return share


def _sides(name: str, size: Any, *, square: bool) -> int | tuple[int, int]:  # noqa: ANN401
    """Returns a height and a width, or the length of the shorter side, in pixels.

    Args:
        name: Field of the file, for errors.
        size: Value of the field: a number, a list of height and width, or an object.
        square: Whether a number means a square rather than the shorter side.
    """
    if isinstance(size, dict):
        size = {key: side for key, side in size.items() if side is not None}
    sides = [size] if type(size) is int else size if isinstance(size, list) else None
    if isinstance(size, dict) and size.keys() == {"shortest_edge"}:
        sides, square = [size["shortest_edge"]], False
    elif isinstance(size, dict) and size.keys() == {"height", "width"}:
        sides = [size["height"], size["width"]]
    if not sides or not all(type(side) is int and 0 < side <= LARGEST_INPUT for side in sides) or len(sides) > 2:
        raise CheckpointError(
            f"the {name} {shown(size)} is neither a height and a width nor a shortest_edge, from 1 to {LARGEST_INPUT} "
            "pixels"
        )
    if len(sides) == 2:
        return sides[0], sides[1]
    return (sides[0], sides[0]) if square else sides[0]


def _switch(options: Mapping[str, Any], name: str) -> bool:
    if type(options[name]) is not bool:
        raise CheckpointError(f"the {name} {shown(options[name])} is neither true nor false")
    return bool(options[name])


def _normalisation(options: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Returns mean and std of images in [0, 1] for `(image * factor - mean) / std` of images in [0, 255]."""
    factor = options["rescale_factor"] if _switch(options, "do_rescale") else 1.0
    if type(factor) not in (int, float) or not 0 < factor < math.inf:
        raise CheckpointError(f"the rescale_factor {shown(factor)} is not a number above 0")
    normalises = _switch(options, "do_normalize")
    mean = _channels("image_mean", options["image_mean"]) if normalises else [0.0] * 3
    std = _channels("image_std", options["image_std"]) if normalises else [1.0] * 3
    # A factor of exactly 1/255, which nearly all have, leaves the numbers as they are.
    scale = 1.0 if factor == 1 / 255 else 255 * factor
    return [value / scale for value in mean], [value / scale for value in std]


def _channels(name: str, value: Any) -> list[float]:  # noqa: ANN401
    """Returns three numbers, of three or of one for all channels."""
    values = value if isinstance(value, list) else [value]
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not all(type(item) in (int, float) and math.isfinite(item) for item in values):
        raise CheckpointError(f"the {name} {shown(value)} is not of one or three finite numbers")
    return [float(item) for item in values]
