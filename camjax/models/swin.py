"""Swin Transformers as checkpoints have them: which configs there are, and what timm and transformers say of them."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.swin_layouts import LAYOUTS
from camjax.models.swin_network import PATCH, Swin, SwinConfig
from camjax.models.swin_windows import LIBRARIES


def check_config(config: SwinConfig) -> None:
    """Bounds of a config that was read from a file."""
    stages = (config.depths, config.heads, config.windows, config.moved, config.trained or config.windows)
    if len({len(values) for values in stages}) != 1:
        raise ValueError(f"depths {config.depths}, heads, windows, moved and trained differ in length")
    within("number of stages", len(config.depths), 1, 8)
    within("depths", config.depths, 1, 64)
    within("width", config.width, 1, 1 << 10)
    within("heads", config.heads, 1, 256)
    within("windows", config.windows, 1, 64)
    within("trained", config.trained, 1, 64)
    within("version", config.version, 1, 2)
    for stage, heads in enumerate(config.heads):
        if (config.width << stage) % heads:
            raise ValueError(f"width {config.width << stage} of stage {stage} is not a multiple of {heads} heads")
    if config.library not in LIBRARIES:
        raise ValueError(f"library {config.library!r} is not one of {', '.join(LIBRARIES)}")


def _at_size(config: SwinConfig, size: Any) -> SwinConfig:  # noqa: ANN401
    """Returns the config of the network that timm builds with that `img_size`, a side or (height, width) in pixels.

    A stage whose features are no larger than a window has one window of their size, which never moves.

    Raises:
        CheckpointError: Windows would not be square or would move along one axis only, or the config does not tell
            which windows were asked for.
        ValueError: The size is none.
    """
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and side >= PATCH and side % PATCH == 0 for side in sides):
        raise ValueError(f"img_size {size!r} is not two multiples of {PATCH} pixels")
    lengths = [[-(-(side // PATCH) // (1 << stage)) for side in sides] for stage in range(len(config.depths))]
    asked = max(config.windows)
    windows = [[min(length, asked) for length in pair] for pair in lengths]
    moved = [[length > asked for length in pair] for pair in lengths]
    if len({*config.windows}) > 1 or any(rows != columns for rows, columns in (*windows, *moved)):
        raise CheckpointError(f"the network was made with img_size={size!r}, for which camjax's has no windows")
    return dataclasses.replace(
        config, windows=tuple(pair[0] for pair in windows), moved=tuple(pair[0] for pair in moved)
    )


def from_timm(config: SwinConfig, arguments: Mapping[str, Any]) -> SwinConfig:
    """The config changed by timm's `model_args`, or a refusal of what camjax does not compute."""
    arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    read = timm_arguments(
        patch_size=PATCH,
        embed_dim=config.width,
        depths=list(config.depths),
        num_heads=list(config.heads),
        window_size=max(config.windows),
        pretrained_window_sizes=list(config.trained or (0,) * len(config.depths)),
        mlp_ratio=4.0,
        qkv_bias=True,
        always_partition=False,
        img_size=arguments.get("img_size"),  # which may change the windows, see below
    )
    size, read_config = arguments.get("img_size"), read(config, arguments)
    return read_config if size is None else _at_size(read_config, size)


TRANSFORMERS = {
    "num_channels": 3,
    "patch_size": PATCH,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "use_absolute_embeddings": False,
    "layer_norm_eps": 1e-5,
}
"""Options of transformers' `SwinConfig` that change what is computed, with the values that are ours."""


def from_transformers(document: Mapping[str, Any]) -> Architecture:
    """The Swin that transformers' `config.json` describes; what it leaves out has transformers' own default."""
    for option, ours in TRANSFORMERS.items():
        if document.get(option, ours) != ours:
            raise CheckpointError(f"the Swin has {option}={document[option]!r}, which camjax's does not")
    depths = document.get("depths", [2, 2, 6, 2])
    fields = {
        "depths": depths,
        "heads": document.get("num_heads", [3, 6, 12, 24]),
        "width": document.get("embed_dim", 96),
        "windows": [document.get("window_size", 7)] * len(depths),
        "moved": [True] * len(depths),
        "library": "transformers",
    }
    config = FAMILY.read_config(fields)
    return Architecture(f"swin_{config.width}_window{config.windows[0]}", FAMILY, config, _PREPROCESS)


FAMILY = Family(
    name="swin",
    title="Swin Transformer (Liu et al. 2021), Swin Transformer V2 (Liu et al. 2022)",
    config=SwinConfig,
    module=Swin,
    layouts=LAYOUTS,
    check=check_config,
    from_timm=from_timm,
    from_transformers={"swin": from_transformers},
)

_PREPROCESS = Preprocess(crop_pct=0.9, interpolation="bicubic")
_SIZES = {
    "tiny": ((2, 2, 6, 2), 96, 3),
    "small": ((2, 2, 18, 2), 96, 3),
    "base": ((2, 2, 18, 2), 128, 4),
    "large": ((2, 2, 18, 2), 192, 6),
}


def _preset(
    name: str,
    size: str,
    windows: int | tuple[int, ...],
    side: int,
    *,
    depth: int | None = None,
    **fields: Any,  # noqa: ANN401
) -> Architecture:
    """A network for pictures of that side: no window is wider than the features there are."""
    depths, width, heads = _SIZES[size]
    asked = (windows,) * 4 if isinstance(windows, int) else windows
    lengths = [side // PATCH >> stage for stage in range(4)]
    config = SwinConfig(
        depths=(2, 2, depths[2] if depth is None else depth, 2),
        heads=tuple(heads << stage for stage in range(4)),
        width=width,
        windows=tuple(map(min, asked, lengths)),
        moved=tuple(length > window for length, window in zip(lengths, asked, strict=True)),
        **fields,
    )
    crop_pct = 1.0 if side == 384 else _PREPROCESS.crop_pct
    return Architecture(
        name, FAMILY, config, dataclasses.replace(_PREPROCESS, input_size=(side, side), crop_pct=crop_pct)
    )


_second = functools.partial(_preset, version=2)
_again = functools.partial(_second, trained=(12, 12, 12, 6))
_LARGE = ("base", "large")
ARCHITECTURES = (
    *(_preset(f"swin_{size}_patch4_window7_224", size, 7, 224) for size in _SIZES),
    *(_preset(f"swin_{size}_patch4_window12_384", size, 12, 384) for size in _LARGE),
    _preset("swin_s3_tiny_224", "tiny", (7, 7, 14, 7), 224),
    _preset("swin_s3_small_224", "small", (14, 14, 14, 7), 224),
    _preset("swin_s3_base_224", "small", (7, 7, 14, 7), 224, depth=30),
    *(_second(f"swinv2_{size}_window8_256", size, 8, 256) for size in ("tiny", "small", "base")),
    *(_second(f"swinv2_{size}_window16_256", size, 16, 256) for size in ("tiny", "small", "base")),
    *(_second(f"swinv2_{size}_window12_192", size, 12, 192) for size in _LARGE),
    *(_again(f"swinv2_{size}_window12to16_192to256", size, 16, 256) for size in _LARGE),
    *(_again(f"swinv2_{size}_window12to24_192to384", size, 24, 384) for size in _LARGE),
)
