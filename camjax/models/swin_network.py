"""Swin Transformer (Liu et al. 2021) and Swin Transformer V2 (Liu et al. 2022) from one definition.

Attention inside windows that every second block moves, and half the height and width from stage to stage. V2 compares
directions instead of vectors, computes its position bias from distances, and normalises what a block adds instead of
what it reads. Modules have timm's names (`layers.2.blocks.1.mlp`); `layers.2.blocks.1.attn.weights` is the attention,
(b, rows, columns, heads, queries, keys) of the windows.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jaxtyping import Float

from camjax.core.names import named_array
from camjax.core.precision import at_least_float32
from camjax.models.layers import MLP, Chain, Conv, Dense, LayerNorm, Linear, drawn
from camjax.models.network import Network
from camjax.models.swin_windows import Windows, log_distances, relative_places

PATCH = 4
"""Side of the square that is a place of the first stage, in pixels."""

EPS = 1e-5
"""Of every normalisation."""

HIDDEN = 512
"""Width of the perceptron that makes V2's position bias."""


@dataclasses.dataclass(frozen=True)
class SwinConfig:
    """What tells one member of the family from another.

    Attributes:
        depths: blocks in each stage.
        heads: of each stage's attention.
        width: channels of the first stage; each further one has twice as many.
        windows: side of each stage's windows.
        moved: for each stage, whether timm moves the windows of every second block. It does not where one window
            covers all features at the size that the network was built for.
        version: 1 or 2.
        trained: V2's windows in a first training at another size, which its position bias is relative to; empty where
            there was none.
        library: whose way it is to move and fill up features; see `Windows`.
        num_classes: outputs of the head.
    """

    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    width: int = 96
    windows: tuple[int, ...] = (7, 7, 7, 7)
    moved: tuple[bool, ...] = (True, True, True, False)
    version: int = 1
    trained: tuple[int, ...] = ()
    library: str = "timm"
    num_classes: int = 1000


class WindowAttention(nnx.Module):
    """Every place reads those of its window; how much of each depends also on how far apart they are.

    Args:
        width: channels.
        heads: of the attention.
        windows: where they lie.
        path: the module's name.
        rngs: for the initial weights.
    """

    def __init__(self, width: int, heads: int, windows: Windows, path: str, *, rngs: nnx.Rngs) -> None:
        distances = (2 * windows.side - 1) ** 2
        self.qkv = Dense(width, 3 * width, rngs=rngs)
        self.relative_position_bias_table = nnx.Param(drawn(rngs, nnx.initializers.normal(0.02), (distances, heads)))
        self.proj = Dense(width, width, rngs=rngs)
        self.heads = heads
        self.windows = windows
        self.path = path

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """What each place read."""
        windows = self.windows.cut(x)
        query, key, value = jnp.unstack(self.projected(windows).reshape(*windows.shape[:4], 3, self.heads, -1), axis=4)
        scores = self.scores(query, key).astype(at_least_float32(x.dtype))
        places = relative_places(self.windows.side)
        scores = scores + jnp.moveaxis(self.position_bias()[places], -1, 0).astype(scores.dtype)[None, None, None]
        apart = self.windows.apart(*x.shape[1:3])
        scores = scores if apart is None else scores + jnp.asarray(apart, scores.dtype)[None, :, :, None]
        weights = named_array(jax.nn.softmax(scores).astype(x.dtype), f"{self.path}.weights")
        read = jnp.einsum("brwhqk,brwkhd->brwqhd", weights, value).reshape(windows.shape)
        return self.windows.join(self.proj(read), *x.shape[1:3])

    def projected(self, windows: Float[Array, "b rows columns n c"]) -> Float[Array, "b rows columns n c3"]:
        """Queries, keys and values in a row."""
        return self.qkv(windows)

    def scores(
        self, query: Float[Array, "b rows columns n heads d"], key: Float[Array, "b rows columns n heads d"]
    ) -> Float[Array, "b rows columns heads n n"]:
        """How alike each query and each key are."""
        return jnp.einsum("brwqhd,brwkhd->brwhqk", query * float(query.shape[-1]) ** -0.5, key)

    def position_bias(self) -> Float[Array, "distances heads"]:
        """What each distance adds to the scores."""
        return self.relative_position_bias_table[...]


class PositionBias(nnx.Module):
    """A perceptron from a distance to what it adds to the scores, for windows of any size."""

    def __init__(self, heads: int, *, rngs: nnx.Rngs) -> None:
        self.fc1 = Dense(2, HIDDEN, rngs=rngs)
        self.fc2 = Dense(HIDDEN, heads, bias=False, rngs=rngs)

    def __call__(self, distances: Float[Array, "distances 2"]) -> Float[Array, "distances heads"]:
        """One number a head."""
        return self.fc2(jax.nn.relu(self.fc1(distances)))


class CosineAttention(WindowAttention):
    """V2's: queries and keys count by their directions, and the position bias is a function of the distance.

    Args:
        width: channels.
        heads: of the attention.
        windows: where they lie.
        path: the module's name.
        trained: side of the windows that distances are relative to.
        rngs: for the initial weights.
    """

    def __init__(self, width: int, heads: int, windows: Windows, path: str, *, trained: int, rngs: nnx.Rngs) -> None:
        self.qkv = Dense(width, 3 * width, bias=False, rngs=rngs)
        self.qv_bias = nnx.Param(jnp.zeros(2 * width, jnp.float32))
        self.logit_scale = nnx.Param(jnp.full((heads, 1, 1), math.log(10), jnp.float32))
        self.cpb_mlp = PositionBias(heads, rngs=rngs)
        self.proj = Dense(width, width, rngs=rngs)
        self.heads = heads
        self.windows = windows
        self.path = path
        self.trained = trained

    def projected(self, windows: Float[Array, "b rows columns n c"]) -> Float[Array, "b rows columns n c3"]:
        """Queries, keys, which have no bias, and values in a row."""
        query, value = jnp.split(self.qv_bias[...].astype(windows.dtype), 2)
        bias = jnp.concatenate([query, jnp.zeros_like(query), value])
        return self.qkv(windows) + bias[None, None, None, None]

    def scores(
        self, query: Float[Array, "b rows columns n heads d"], key: Float[Array, "b rows columns n heads d"]
    ) -> Float[Array, "b rows columns heads n n"]:
        """The cosine between each query and each key, scaled at most a hundred times."""
        scale = jnp.exp(jnp.minimum(self.logit_scale[...], math.log(100)))
        cosines = jnp.einsum("brwqhd,brwkhd->brwhqk", _direction(query), _direction(key))
        return cosines * scale.astype(cosines.dtype)[None, None, None]

    def position_bias(self) -> Float[Array, "distances heads"]:
        """What each distance adds to the scores, between 0 and 16."""
        return 16 * jax.nn.sigmoid(self.cpb_mlp(jnp.asarray(log_distances(self.windows.side, self.trained))))


def _direction(x: Float[Array, "*places d"]) -> Float[Array, "*places d"]:
    """Vectors of length one, in at least float32; zero stays zero, with a gradient that is finite."""
    x = x.astype(at_least_float32(x.dtype))
    return x * lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))


class Block(nnx.Module):
    """Attention, then a perceptron, each added to what it reads: normalised before (V1) or after (V2)."""

    def __init__(self, width: int, attention: WindowAttention, *, version: int, rngs: nnx.Rngs) -> None:
        self.norm1 = LayerNorm(width, eps=EPS)
        self.attn = attention
        self.norm2 = LayerNorm(width, eps=EPS)
        self.mlp = MLP(width, 4 * width, rngs=rngs)
        self.version = version

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The block's features."""
        if self.version == 1:
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


class PatchMerging(nnx.Module):
    """Half the height and width: four places become one of twice the channels. An odd edge meets zeros."""

    def __init__(self, inputs: int, *, version: int, rngs: nnx.Rngs) -> None:
        self.norm = LayerNorm(4 * inputs if version == 1 else 2 * inputs, eps=EPS)
        self.reduction = Dense(4 * inputs, 2 * inputs, bias=False, rngs=rngs)
        self.version = version

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The stage's first features."""
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 4, 2, 5)
        x = x.reshape(batch, height // 2, width // 2, 4 * channels)
        return self.reduction(self.norm(x)) if self.version == 1 else self.norm(self.reduction(x))


class Stage(nnx.Module):
    """Half the height and width, but for the first stage, and blocks."""

    def __init__(self, config: SwinConfig, number: int, *, rngs: nnx.Rngs) -> None:
        width, side = config.width << number, config.windows[number]
        blocks = []
        for index in range(config.depths[number]):
            moved = index % 2 == 1 and (config.moved[number] or config.library != "timm")
            windows, path = Windows(side, moved, config.library), f"layers.{number}.blocks.{index}.attn"
            heads = config.heads[number]
            if config.version == 1:
                attention = WindowAttention(width, heads, windows, path, rngs=rngs)
            else:
                trained = config.trained[number] if config.trained else side
                attention = CosineAttention(width, heads, windows, path, trained=trained, rngs=rngs)
            blocks.append(Block(width, attention, version=config.version, rngs=rngs))
        self.downsample = PatchMerging(width // 2, version=config.version, rngs=rngs) if number else None
        self.blocks = Chain(blocks)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The stage's features."""
        return self.blocks(x if self.downsample is None else self.downsample(x))


class PatchEmbed(nnx.Module):
    """The picture cut into squares, each a place."""

    def __init__(self, config: SwinConfig, *, rngs: nnx.Rngs) -> None:
        self.proj = Conv(3, config.width, PATCH, stride=PATCH, padding="VALID", bias=True, rngs=rngs)
        self.norm = LayerNorm(config.width, eps=EPS)
        self.filled = config.library == "transformers"

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b rows columns c"]:
        """The squares' features. What is left of the picture at an edge is left out; transformers fills it up."""
        if self.filled:
            bottom, right = (-length % PATCH for length in images.shape[1:3])
            images = jnp.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)))
        return self.norm(self.proj(images))


class Swin(Network):
    """The network. Its stages: `patch_embed` (stride 4), `layers.0` to `layers.3` (strides 4 to 32), and `norm`.

    Its head reads the mean of what the last normalisation gives.

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    layer = "norm"
    linear = "head"

    def __init__(self, config: SwinConfig, *, rngs: nnx.Rngs) -> None:
        self.patch_embed = PatchEmbed(config, rngs=rngs)
        self.layers = nnx.List([Stage(config, number, rngs=rngs) for number in range(len(config.depths))])
        width = config.width << (len(config.depths) - 1)
        self.norm = LayerNorm(width, eps=EPS)
        self.head = Linear(width, config.num_classes, rngs=rngs)
        self.order = ("patch_embed", *(f"layers.{number}" for number in range(len(config.depths))), "norm")
