"""ViT, DeiT and DINOv2 as checkpoints have them: which configs there are, and what timm and transformers call them."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.vit_layouts import LAYOUTS
from camjax.models.vit_network import ViT, ViTConfig

POOLS = ("token", "avg", "token_and_avg")
RESAMPLINGS = ("antialias", "bicubic")


def check_config(config: ViTConfig) -> None:
    """Bounds of a config that was read from a file."""
    within("width", config.width, 1, 1 << 13)
    within("depth", config.depth, 1, 64)
    within("heads and patch", (config.heads, config.patch), 1, 64)
    within("grid", config.grid, 1, 256)
    within("mlp_ratio", config.mlp_ratio, 0.25, 16)
    within("registers", config.registers, 0, 64)
    within("eps", config.eps, 0, 1)
    if config.width % config.heads:
        raise ValueError(f"width {config.width} is not a multiple of {config.heads} heads")
    for name, value, known in (("pool", config.pool, POOLS), ("resampling", config.resampling, RESAMPLINGS)):
        if value not in known:
            raise ValueError(f"{name} {value!r} is not one of {', '.join(known)}")
    if config.distilled and (config.pool != "token" or not config.position_of_class):
        raise ValueError("a distilled network reads its two tokens, which have positions")


def at_size(config: ViTConfig, size: tuple[int, int]) -> ViTConfig:
    """Returns the config with the position grid of inputs of that (height, width) in pixels."""
    rows, columns = size[0] // config.patch, size[1] // config.patch
    return dataclasses.replace(config, grid=(rows, columns)) if min(rows, columns) else config


def built_for(config: ViTConfig) -> tuple[int, int]:
    """Returns the (height, width) in pixels of the inputs that the position grid lies on."""
    return config.grid[0] * config.patch, config.grid[1] * config.patch


def from_timm(config: ViTConfig, arguments: Mapping[str, Any]) -> ViTConfig:
    """The config changed by timm's `model_args`, or a refusal of what camjax does not compute."""
    side = arguments.get("img_size")
    if side is not None:
        sides = tuple(side) if isinstance(side, list | tuple) else (side, side)
        if len(sides) != 2 or not all(type(side) is int and side >= config.patch for side in sides):
            raise ValueError(f"img_size {side!r} is not two sides of {config.patch} pixels or more")
        config = at_size(config, (sides[0], sides[1]))
    scaled = "init_values" in arguments and (arguments["init_values"] is not None) == config.layer_scale
    read = timm_arguments(
        img_size=side,
        patch_size=config.patch,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        reg_tokens=config.registers,
        no_embed_class=not config.position_of_class,
        class_token=True,
        global_pool=config.pool,
        qkv_bias=True,
        pre_norm=False,
        final_norm=True,
        act_layer="gelu",
        **({"init_values": arguments["init_values"]} if scaled else {}),  # of the first weights
    )
    config = read(config, arguments)
    check_config(config)
    return config


TRANSFORMERS = {"num_channels": 3, "hidden_act": "gelu", "qkv_bias": True, "use_swiglu_ffn": False}
"""Options of transformers' configs that change what is computed, with the values that are ours."""


def from_transformers(document: Mapping[str, Any]) -> Architecture:
    """The ViT or DINOv2 that transformers' `config.json` describes; what it leaves out has transformers' default."""
    dino = document.get("model_type") == "dinov2"
    for option, ours in TRANSFORMERS.items():
        if document.get(option, ours) != ours:
            raise CheckpointError(f"the ViT has {option}={document[option]!r}, which camjax's does not")
    width, patch = document.get("hidden_size", 768), document.get("patch_size", 14 if dino else 16)
    side, inner = document.get("image_size", 224), document.get("intermediate_size", 3072)
    sides = side if isinstance(side, list) and len(side) == 2 else [side, side]
    if not all(type(number) is int and number > 0 for number in (width, patch, *sides, inner)):
        raise ValueError(
            f"hidden_size {width!r}, patch_size {patch!r}, image_size {side!r} and intermediate_size {inner!r} are not "
            "all whole numbers"
        )
    ratio = document.get("mlp_ratio", 4) if dino else inner / width
    fields = {
        "width": width,
        "depth": document.get("num_hidden_layers", 12),
        "heads": document.get("num_attention_heads", 12),
        "patch": patch,
        "grid": [side // patch for side in sides],
        "mlp_ratio": ratio,
        "layer_scale": dino,
        "pool": "token_and_avg" if dino else "token",
        "resampling": "bicubic",
        "eps": document.get("layer_norm_eps", 1e-6 if dino else 1e-12),
    }
    config = FAMILY.read_config(fields)
    return Architecture(f"{'dinov2' if dino else 'vit'}_{config.width}_patch{config.patch}", FAMILY, config)


FAMILY = Family(
    name="vit",
    title="ViT (Dosovitskiy et al. 2020), DeiT, DINOv2",
    config=ViTConfig,
    module=ViT,
    layouts=LAYOUTS,
    check=check_config,
    from_timm=from_timm,
    at_size=at_size,
    built_for=built_for,
    from_transformers={"vit": from_transformers, "dinov2": from_transformers},
)

_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
_halves = (0.5, 0.5, 0.5)
_augreg = Preprocess(crop_pct=0.9, interpolation="bicubic", mean=_halves, std=_halves)
_imagenet = dataclasses.replace(_augreg, mean=Preprocess().mean, std=Preprocess().std)


def _preset(name: str, size: str, preprocess: Preprocess, *, side: int = 224, **fields: Any) -> Architecture:  # noqa: ANN401
    width, depth, heads = _SIZES[size]
    config = ViTConfig(width=width, depth=depth, heads=heads, **fields)
    config = dataclasses.replace(config, grid=(side // config.patch, side // config.patch))
    return Architecture(name, FAMILY, config, dataclasses.replace(preprocess, input_size=(side, side)))


_dino = functools.partial(
    _preset, preprocess=dataclasses.replace(_imagenet, crop_pct=1.0), side=518, patch=14, layer_scale=True
)
ARCHITECTURES = (
    *(_preset(f"vit_{size}_patch16_224", size, _augreg) for size in _SIZES),
    *(_preset(f"vit_{size}_patch32_224", size, _augreg, patch=32) for size in ("small", "base")),
    _preset("vit_base_patch8_224", "base", _augreg, patch=8),
    *(_preset(f"deit_{size}_patch16_224", size, _imagenet) for size in ("tiny", "small", "base")),
    *(
        _preset(f"deit_{size}_distilled_patch16_224", size, _imagenet, distilled=True)
        for size in ("tiny", "small", "base")
    ),
    *(
        _preset(f"deit3_{size}_patch16_224", size, _imagenet, position_of_class=False, layer_scale=True)
        for size in ("small", "base", "large")
    ),
    *(_dino(f"vit_{size}_patch14_dinov2", size) for size in ("small", "base", "large")),
    *(
        _dino(f"vit_{size}_patch14_reg4_dinov2", size, registers=4, position_of_class=False)
        for size in ("small", "base", "large")
    ),
)
