"""The names that timm, transformers and torchvision give to a ViT's parameters."""

import dataclasses
import math
from typing import Any

import numpy as np

from camjax.models.layout import Layout, Read, Table, Tensors, conv, linear, norm


def timm_table(config: Any) -> Table:  # noqa: ANN401
    """Names of timm, which are ours."""
    table = {name: Read((name,)) for name in ("cls_token", "pos_embed")} | linear("head", "head")
    table |= conv("patch_embed.proj", "patch_embed.proj", bias=True)
    if config.distilled:
        table |= {"dist_token": Read(("dist_token",))} | linear("head_dist", "head_dist")
    if config.registers:
        table |= {"reg_token": Read(("reg_token",))}
    for number in range(config.depth):
        block = f"blocks.{number}"
        table |= norm(f"{block}.norm1", f"{block}.norm1") | norm(f"{block}.norm2", f"{block}.norm2")
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            table |= linear(f"{block}.{layer}", f"{block}.{layer}")
        if config.layer_scale:
            table |= {f"{block}.{scale}.gamma": Read((f"{block}.{scale}.gamma",)) for scale in ("ls1", "ls2")}
    last = "fc_norm" if config.pool == "avg" else "norm"
    return table | norm(last, last)


def vit_table(config: Any) -> Table:  # noqa: ANN401
    """Names of transformers' `ViTForImageClassification`."""
    table = _embeddings("vit") | linear("head", "classifier") | norm("norm", "vit.layernorm")
    for number in range(config.depth):
        ours, theirs = f"blocks.{number}", f"vit.encoder.layer.{number}"
        table |= norm(f"{ours}.norm1", f"{theirs}.layernorm_before") | norm(
            f"{ours}.norm2", f"{theirs}.layernorm_after"
        )
        table |= _attention(ours, theirs)
        table |= linear(f"{ours}.mlp.fc1", f"{theirs}.intermediate.dense")
        table |= linear(f"{ours}.mlp.fc2", f"{theirs}.output.dense")
    return table


def dinov2_table(config: Any) -> Table:  # noqa: ANN401
    """Names of transformers' `Dinov2ForImageClassification`."""
    table = _embeddings("dinov2") | linear("head", "classifier") | norm("norm", "dinov2.layernorm")
    for number in range(config.depth):
        ours, theirs = f"blocks.{number}", f"dinov2.encoder.layer.{number}"
        table |= norm(f"{ours}.norm1", f"{theirs}.norm1") | norm(f"{ours}.norm2", f"{theirs}.norm2")
        table |= _attention(ours, theirs)
        table |= linear(f"{ours}.mlp.fc1", f"{theirs}.mlp.fc1") | linear(f"{ours}.mlp.fc2", f"{theirs}.mlp.fc2")
        for scale in ("1", "2"):
            table[f"{ours}.ls{scale}.gamma"] = Read((f"{theirs}.layer_scale{scale}.lambda1",))
    return table


def torchvision_table(config: Any) -> Table:  # noqa: ANN401
    """Names of torchvision's `VisionTransformer`."""
    table = {"cls_token": Read(("class_token",)), "pos_embed": Read(("encoder.pos_embedding",))}
    table |= (
        conv("patch_embed.proj", "conv_proj", bias=True) | linear("head", "heads.head") | norm("norm", "encoder.ln")
    )
    for number in range(config.depth):
        ours, theirs = f"blocks.{number}", f"encoder.layers.encoder_layer_{number}"
        table |= norm(f"{ours}.norm1", f"{theirs}.ln_1") | norm(f"{ours}.norm2", f"{theirs}.ln_2")
        table |= linear(f"{ours}.attn.proj", f"{theirs}.self_attention.out_proj")
        table[f"{ours}.attn.qkv.kernel"] = Read((f"{theirs}.self_attention.in_proj_weight",), np.transpose)
        table[f"{ours}.attn.qkv.bias"] = Read((f"{theirs}.self_attention.in_proj_bias",))
        table |= linear(f"{ours}.mlp.fc1", f"{theirs}.mlp.0") | linear(f"{ours}.mlp.fc2", f"{theirs}.mlp.3")
    return table


def _embeddings(prefix: str) -> Table:
    embeddings = f"{prefix}.embeddings"
    table = {
        "cls_token": Read((f"{embeddings}.cls_token",)),
        "pos_embed": Read((f"{embeddings}.position_embeddings",)),
    }
    return table | conv("patch_embed.proj", f"{embeddings}.patch_embeddings.projection", bias=True)


def _attention(ours: str, theirs: str) -> Table:
    """Queries, keys and values are three layers there, one here."""
    parts = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
    return linear(f"{ours}.attn.proj", f"{theirs}.attention.output.dense") | {
        f"{ours}.attn.qkv.kernel": Read(tuple(f"{part}.weight" for part in parts), _joined_columns),
        f"{ours}.attn.qkv.bias": Read(tuple(f"{part}.bias" for part in parts), _joined),
    }


def _joined(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


def _joined_columns(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts).T


LONGEST_GRID = 4
"""Ratio of the sides of a grid that is still guessed from the number of its positions."""


def grid_of(count: int, prefix: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Returns the (rows, columns) of a position embedding.

    A grid of another size than the expected one is taken for a square where it can be one, as timm and transformers
    do, and otherwise for the rectangle that is nearest to a square, upright; whoever loads it says so.

    Args:
        count: Number of position embeddings, those of other tokens included.
        prefix: Number of those that belong to no position.
        grid: Expected (rows, columns), which is kept where the number fits it and where nothing is likely.
    """
    places = count - prefix
    if places < 1 or places == math.prod(grid):
        return grid
    side = math.isqrt(places)
    if side * side == places:
        return side, side
    if math.isqrt(count) ** 2 == count:  # a square where no other token has a position: another network's
        return grid
    columns = next(side for side in range(side, 0, -1) if places % side == 0)
    rows = places // columns
    return (rows, columns) if rows <= LONGEST_GRID * columns else grid


def _layout(table: Any, head: str, positions: str, **more: Any) -> Layout:  # noqa: ANN401
    """A layout whose position embedding's shape tells the grid."""

    def with_grid(tensors: Tensors, config: Any) -> Any:  # noqa: ANN401
        if positions in tensors and tensors[positions].ndim == 3:
            prefix = config.positions - math.prod(config.grid)
            config = dataclasses.replace(config, grid=grid_of(tensors[positions].shape[1], prefix, config.grid))
        return config

    return Layout(table, head, with_grid, **more)


def _is_plain(config: Any) -> bool:  # noqa: ANN401
    return not (config.distilled or config.registers or config.layer_scale) and config.position_of_class


LAYOUTS = {
    "timm": _layout(timm_table, "head.weight", "pos_embed", holds=lambda config: config.pool != "token_and_avg"),
    "transformers": _layout(
        vit_table,
        "classifier.weight",
        "vit.embeddings.position_embeddings",
        holds=lambda config: _is_plain(config) and config.pool == "token" and config.resampling == "bicubic",
    ),
    "transformers dinov2": _layout(
        dinov2_table,
        "classifier.weight",
        "dinov2.embeddings.position_embeddings",
        holds=lambda config: (config.pool, config.layer_scale, config.registers) == ("token_and_avg", True, 0),
        unused=frozenset({"mask_token"}),
    ),
    "torchvision": _layout(
        torchvision_table,
        "heads.head.weight",
        "encoder.pos_embedding",
        holds=lambda config: _is_plain(config) and config.pool == "token",
    ),
}
