"""The names that timm, torchvision and transformers give to a Swin Transformer's parameters."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from camjax.models.layout import Layout, Read, Table, Tensors, conv, linear, norm


def timm_table(config: Any) -> Table:  # noqa: ANN401
    """Names of timm, which are ours."""
    table = conv("patch_embed.proj", "patch_embed.proj", bias=True) | linear("head", "head.fc") | norm("norm", "norm")
    table |= norm("patch_embed.norm", "patch_embed.norm")
    for stage in _merged(config):
        table |= _merging(f"layers.{stage}.downsample", f"layers.{stage}.downsample")
    for stage, index in _blocks(config):
        block = f"layers.{stage}.blocks.{index}"
        table |= norm(f"{block}.norm1", f"{block}.norm1") | norm(f"{block}.norm2", f"{block}.norm2")
        table |= linear(f"{block}.mlp.fc1", f"{block}.mlp.fc1") | linear(f"{block}.mlp.fc2", f"{block}.mlp.fc2")
        table |= _attention(config, f"{block}.attn", f"{block}.attn")
        if config.version == 2:
            parts = (f"{block}.attn.q_bias", f"{block}.attn.v_bias")
            table[f"{block}.attn.qv_bias"] = Read(parts, lambda *parts: np.concatenate(parts))
    return table


def torchvision_table(config: Any) -> Table:  # noqa: ANN401
    """Names of torchvision: stages and what merges before them by their places."""
    table = conv("patch_embed.proj", "features.0.0", bias=True) | norm("patch_embed.norm", "features.0.2")
    table |= linear("head", "head") | norm("norm", "norm")
    for stage in _merged(config):
        table |= _merging(f"layers.{stage}.downsample", f"features.{2 * stage}")
    for stage, index in _blocks(config):
        block, theirs = f"layers.{stage}.blocks.{index}", f"features.{2 * stage + 1}.{index}"
        table |= norm(f"{block}.norm1", f"{theirs}.norm1") | norm(f"{block}.norm2", f"{theirs}.norm2")
        table |= linear(f"{block}.mlp.fc1", f"{theirs}.mlp.0") | linear(f"{block}.mlp.fc2", f"{theirs}.mlp.3")
        table |= _attention(config, f"{block}.attn", f"{theirs}.attn")
        if config.version == 2:
            table[f"{block}.attn.qv_bias"] = Read((f"{theirs}.attn.qkv.bias",), _without_keys)
    return table


def transformers_table(config: Any) -> Table:  # noqa: ANN401
    """Names of transformers' `SwinForImageClassification`."""
    embeddings = "swin.embeddings"
    table = conv("patch_embed.proj", f"{embeddings}.patch_embeddings.projection", bias=True)
    table |= norm("patch_embed.norm", f"{embeddings}.norm") | norm("norm", "swin.layernorm")
    table |= linear("head", "classifier")
    for stage in _merged(config):
        table |= _merging(f"layers.{stage}.downsample", f"swin.encoder.layers.{stage - 1}.downsample")
    for stage, index in _blocks(config):
        block, theirs = f"layers.{stage}.blocks.{index}", f"swin.encoder.layers.{stage}.blocks.{index}"
        table |= norm(f"{block}.norm1", f"{theirs}.layernorm_before")
        table |= norm(f"{block}.norm2", f"{theirs}.layernorm_after")
        table |= linear(f"{block}.mlp.fc1", f"{theirs}.intermediate.dense")
        table |= linear(f"{block}.mlp.fc2", f"{theirs}.output.dense")
        table |= linear(f"{block}.attn.proj", f"{theirs}.attention.output.dense")
        own = f"{theirs}.attention.self"
        table[f"{block}.attn.qkv.kernel"] = Read(_parts(own, "weight"), lambda *parts: np.concatenate(parts).T)
        table[f"{block}.attn.qkv.bias"] = Read(_parts(own, "bias"), lambda *parts: np.concatenate(parts))
        name = "relative_position_bias_table"
        table[f"{block}.attn.{name}"] = Read((f"{own}.{name}",))
    return table


def _parts(attention: str, leaf: str) -> tuple[str, ...]:
    return tuple(f"{attention}.{part}.{leaf}" for part in ("query", "key", "value"))


def _blocks(config: Any) -> Iterator[tuple[int, int]]:  # noqa: ANN401
    """Every block: its stage, and its place there."""
    return ((stage, index) for stage, depth in enumerate(config.depths) for index in range(depth))


def _merged(config: Any) -> range:  # noqa: ANN401
    """The stages that begin with a merging."""
    return range(1, len(config.depths))


def _merging(ours: str, theirs: str) -> Table:
    return norm(f"{ours}.norm", f"{theirs}.norm") | linear(f"{ours}.reduction", f"{theirs}.reduction", bias=False)


def _attention(config: Any, ours: str, theirs: str) -> Table:  # noqa: ANN401
    """What timm and torchvision name alike."""
    table = linear(f"{ours}.proj", f"{theirs}.proj")
    if config.version == 1:
        name = "relative_position_bias_table"
        return table | linear(f"{ours}.qkv", f"{theirs}.qkv") | {f"{ours}.{name}": Read((f"{theirs}.{name}",))}
    table |= linear(f"{ours}.qkv", f"{theirs}.qkv", bias=False) | linear(f"{ours}.cpb_mlp.fc1", f"{theirs}.cpb_mlp.0")
    table |= linear(f"{ours}.cpb_mlp.fc2", f"{theirs}.cpb_mlp.2", bias=False)
    return table | {f"{ours}.logit_scale": Read((f"{theirs}.logit_scale",))}


def _without_keys(bias: np.ndarray) -> np.ndarray:
    """What is read of it: the keys' third is set to zero first."""
    query, _, value = np.split(bias, 3)
    return np.concatenate([query, value])


def _as_in(library: str) -> Callable[[Tensors, Any], Any]:
    """A `Layout.more`: features are moved and filled up as this library does."""
    return lambda _, config: dataclasses.replace(config, library=library)


_BUFFERS = frozenset({"relative_position_index", "relative_coords_table", "attn_mask"})
LAYOUTS = {
    "timm": Layout(timm_table, "head.fc.weight", _as_in("timm"), unused=_BUFFERS),
    "torchvision": Layout(
        torchvision_table,
        "head.weight",
        _as_in("torchvision"),
        # The windows of all stages are alike, and V2's 8 places wide: no key tells how wide.
        holds=lambda config: {*config.windows} == {7 if config.version == 1 else 8} and not config.trained,
        unused=_BUFFERS,
    ),
    "transformers": Layout(
        transformers_table,
        "classifier.weight",
        _as_in("transformers"),
        holds=lambda config: config.version == 1 and len({*config.windows}) == 1,
        unused=_BUFFERS,
    ),
}
