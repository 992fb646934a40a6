"""ViT (Dosovitskiy et al. 2020), DeiT (Touvron et al. 2020, 2022) and DINOv2 (Oquab et al. 2023) from one definition.

Modules have timm's names (`blocks.3.attn.qkv`). `stem` is the tokens with their positions, and `blocks.3.attn.weights`
the attention, (b, heads, queries, keys).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.core.maps import upsample
from camjax.core.model import TokenGrid
from camjax.core.names import named_array
from camjax.core.precision import at_least_float32
from camjax.models.flash_attention import flash_attention, has_flash, read_with, weights_of
from camjax.models.layers import MLP, Chain, Conv, Dense, LayerNorm, Linear, channelwise, drawn
from camjax.models.network import Network


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """What tells one member of the family from another.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: of each attention.
        patch: side of the square that is a token, in pixels.
        grid: (rows, columns) of the position embedding; other sizes are interpolated from it.
        mlp_ratio: how many times wider a block's perceptron is inside.
        distilled: a second token and head beside the class token's; the logits are the mean of both (DeiT).
        registers: tokens beside the class token that have no position.
        position_of_class: whether the class token has a position embedding.
        layer_scale: whether what a block adds is scaled by channel (DeiT III, DINOv2).
        pool: what the head reads: the class token, the mean of the places (normalised after it), or both in a row.
        resampling: of positions for other sizes: as timm does, or as transformers does.
        eps: of every normalisation.
        num_classes: outputs of the head.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 16
    grid: tuple[int, int] = (14, 14)
    mlp_ratio: float = 4.0
    distilled: bool = False
    registers: int = 0
    position_of_class: bool = True
    layer_scale: bool = False
    pool: str = "token"
    resampling: str = "antialias"
    eps: float = 1e-6
    num_classes: int = 1000

    @property
    def prefix(self) -> int:
        """Tokens before those of the image."""
        return 1 + self.distilled + self.registers

    @property
    def positions(self) -> int:
        """Position embeddings: one a place, and those of the class and distillation token where they have any."""
        return self.grid[0] * self.grid[1] + (1 + self.distilled if self.position_of_class else 0)


class Attention(nnx.Module):
    """Every token reads all others (Vaswani et al. 2017); `weights` says how much of each.

    With `flash`, weights are neither kept nor named where cuDNN can do without; see `flash_attention`.
    """

    flash = False

    def __init__(self, config: ViTConfig, path: str, *, rngs: nnx.Rngs) -> None:
        self.qkv = Dense(config.width, 3 * config.width, rngs=rngs)
        self.proj = Dense(config.width, config.width, rngs=rngs)
        self.heads = config.heads
        self.path = path

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """What each token read."""
        batch, count, width = x.shape
        query, key, value = jnp.unstack(self.qkv(x).reshape(batch, count, 3, self.heads, -1), axis=2)
        if self.flash and has_flash(query.shape, query.dtype):
            read = flash_attention(query, key, value)
        else:
            read = read_with(named_array(weights_of(query, key), f"{self.path}.weights"), value)
        return self.proj(read.reshape(batch, count, width))


class LayerScale(nnx.Module):
    """A factor for each channel (Touvron et al. 2021)."""

    def __init__(self, width: int) -> None:
        self.gamma = nnx.Param(jnp.full(width, 1e-5, jnp.float32))

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """The scaled tokens."""
        return x * channelwise(self.gamma[...], x)


class Block(nnx.Module):
    """Attention, then a perceptron, each of the normalised tokens and added to them."""

    def __init__(self, config: ViTConfig, path: str, *, rngs: nnx.Rngs) -> None:
        self.norm1 = LayerNorm(config.width, eps=config.eps)
        self.attn = Attention(config, f"{path}.attn", rngs=rngs)
        self.ls1 = LayerScale(config.width) if config.layer_scale else None
        self.norm2 = LayerNorm(config.width, eps=config.eps)
        # timm rounds down; a ratio of two whole numbers must not fall below the first by its own rounding.
        self.mlp = MLP(config.width, int(config.width * config.mlp_ratio + 1e-6), rngs=rngs)
        self.ls2 = LayerScale(config.width) if config.layer_scale else None

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """The tokens after the block."""
        y = self.attn(self.norm1(x))
        x = x + (y if self.ls1 is None else self.ls1(y))
        y = self.mlp(self.norm2(x))
        return x + (y if self.ls2 is None else self.ls2(y))


class PatchEmbed(nnx.Module):
    """The picture cut into squares, each a token."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs) -> None:
        self.proj = Conv(3, config.width, config.patch, stride=config.patch, padding="VALID", bias=True, rngs=rngs)
        self.patch = config.patch

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b rows columns c"]:
        """The squares' features."""
        if images.shape[1] % self.patch or images.shape[2] % self.patch:
            raise ValueError(
                f"images of {images.shape[1]}x{images.shape[2]} cannot be cut into patches of {self.patch}x{self.patch}"
            )
        return self.proj(images)


class ViT(Network):
    """The network. Its stages: `stem` (tokens with positions), `blocks.0` and so on, and `norm`.

    Where the head reads the class token, the last places that it was told of are those of the last block's first
    normalisation; behind it, no place has a gradient.

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    linear = None

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.tokens = TokenGrid(config.prefix, (config.patch, config.patch))
        self.patch_embed = PatchEmbed(config, rngs=rngs)
        self.cls_token = nnx.Param(jnp.zeros((1, 1, config.width), jnp.float32))
        self.dist_token = nnx.Param(jnp.zeros((1, 1, config.width), jnp.float32)) if config.distilled else None
        registers = jnp.zeros((1, config.registers, config.width), jnp.float32)
        self.reg_token = nnx.Param(registers) if config.registers else None
        positions = (1, config.positions, config.width)
        self.pos_embed = nnx.Param(drawn(rngs, nnx.initializers.normal(0.02), positions))
        self.blocks = Chain([Block(config, f"blocks.{number}", rngs=rngs) for number in range(config.depth)])
        norm = LayerNorm(config.width, eps=config.eps)
        self.norm = norm if config.pool != "avg" else None
        self.fc_norm = norm if config.pool == "avg" else None
        read = 2 * config.width if config.pool == "token_and_avg" else config.width
        self.head = Linear(read, config.num_classes, rngs=rngs)
        self.head_dist = Linear(read, config.num_classes, rngs=rngs) if config.distilled else None
        stages = [f"blocks.{number}" for number in range(config.depth)]
        self.order = ("stem", *stages, *(() if self.norm is None else ("norm",)))
        self.layer = f"{stages[-1]}.norm1" if config.pool == "token" else stages[-1]

    def stage(self, name: str, x: Float[Array, "b *places c"]) -> Float[Array, "b n c2"]:
        """One stage's features; see `Network.stage`."""
        if name != "stem":
            return super().stage(name, x)
        places = self.patch_embed(x)
        first, positions = self._positions((places.shape[1], places.shape[2]))
        x = places.reshape(len(places), -1, self.config.width) + positions.astype(x.dtype)
        tokens = [self.cls_token, self.dist_token, self.reg_token]
        prefix = jnp.concatenate([token[...] for token in tokens if token is not None], axis=1)
        positioned = prefix[:, : first.shape[1]] + first
        prefix = jnp.concatenate([positioned, prefix[:, first.shape[1] :]], axis=1).astype(x.dtype)
        prefix = jnp.broadcast_to(prefix, (len(x), *prefix.shape[1:]))
        return named_array(jnp.concatenate([prefix, x], axis=1), "stem")

    def _positions(self, grid: tuple[int, int]) -> tuple[Float[Array, "1 p c"], Float[Array, "1 n c"]]:
        """The position embeddings of the tokens before the image's, and of the image's, for a grid of that size."""
        config = self.config
        count = config.positions - config.grid[0] * config.grid[1]
        first, rest = self.pos_embed[...][:, :count], self.pos_embed[...][:, count:]
        if grid != config.grid:
            old = rest.reshape(1, *config.grid, config.width)
            if config.resampling == "antialias":
                rest = jax.image.resize(old, (1, *grid, config.width), "cubic", antialias=True)
            else:
                rest = jnp.moveaxis(upsample(jnp.moveaxis(old, -1, 1), grid, interpolation="bicubic-pytorch"), 1, -1)
        return first, rest.reshape(1, -1, config.width)

    def classify(self, x: Float[Array, "b n c"]) -> Float[Array, "b classes"]:
        """The logits, float32, from the last stage's tokens."""
        mean = functools.partial(jnp.mean, x[:, self.config.prefix :].astype(at_least_float32(x.dtype)), axis=1)
        if self.fc_norm is not None:
            return self.head(self.fc_norm(mean()))
        if self.config.pool == "token_and_avg":
            return self.head(jnp.concatenate([x[:, 0].astype(at_least_float32(x.dtype)), mean()], axis=1))
        if self.head_dist is not None:
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        return self.head(x[:, 0])
