"""What transformers say of themselves: which tokens attention carries to where the head reads.

A network's attention are its named arrays (b, heads, queries, keys) of weights, in the order of computation.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from camjax.core.layers import is_attention
from camjax.core.model import Model
from camjax.core.names import cut, named_arrays, tap
from camjax.core.precision import at_least_float32
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.methods.gradient import one_hot
from camjax.methods.tail import Look
from camjax.methods.target import MethodError, Wanted, answer, chosen_classes, score_table


class Attended(NamedTuple):
    """A network's attention, for one batch of images.

    Attributes:
        weights: of each block, (b, heads, tokens, tokens).
        run: `run(changes) -> outputs`: what the network gives where these are added to the weights.
        block_scores: for each block, `scores(weights) -> outputs`: what the end of the network makes of the mean of the
            tokens that the block gives, where its attention is that.
        grid: the tokens (b, n) that lie on the image, in rows and columns.
        prefix: how many tokens come before those.
    """

    weights: tuple[Array, ...]
    run: Callable[[list[Array]], Array]
    block_scores: tuple[Callable[[Array], Array], ...]
    grid: Callable[[Array], Array]
    prefix: int


def attention_names(model: Model, arrays: Mapping[str, jax.ShapeDtypeStruct]) -> tuple[str, ...]:
    """Which of a network's named arrays are attention.

    Raises:
        MethodError: none is.
    """
    names = tuple(name for name, value in arrays.items() if is_attention(model, value))
    if not names:
        raise MethodError(
            f"{model.name} names no attention (b, heads, tokens, tokens); a transformer's own model needs "
            "tokens=TokenGrid(…), and a name for each softmax"
        )
    return names


def attended(model: Model, images: Float[Array, "b h w c"]) -> Attended:
    """The attention of any network that names it.

    Raises:
        MethodError: it names none.
    """
    arrays = named_arrays(model.forward, model.params, images)
    names = attention_names(model, arrays)
    _, weights = tap(model.forward, read=names)(model.params, images)
    blocks = [_block(name, arrays) for name in names]

    def run(changes: list[Array]) -> Array:
        return tap(model.forward, add=dict(zip(names, changes, strict=True)))(model.params, images)[0]

    @functools.cache
    def end() -> Callable[[Array], Array]:
        """What comes after the last block."""
        return cut(model.forward, blocks[-1])(model.params, images)[1]

    def block_scores(name: str, block: str) -> Callable[[Array], Array]:
        def scores(attention: Array) -> Array:
            def tokens_of(params: object, images: Array) -> Array:
                return tap(model.forward, read=[block])(params, images)[1][block]

            tokens = cut(tokens_of, name)(model.params, images)[1](attention)
            return end()(jnp.broadcast_to(tokens.mean(1, keepdims=True), tokens.shape))

        return scores

    def grid(tokens: Array) -> Array:
        assert model.tokens is not None  # else nothing is attention
        size = (images.shape[1], images.shape[2])
        return model.tokens.place(tokens[..., None], size)[..., 0]

    return Attended(
        tuple(weights[name] for name in names),
        run,
        tuple(map(block_scores, names, blocks)),
        grid,
        0 if model.tokens is None else model.tokens.prefix,
    )


def _block(name: str, arrays: Mapping[str, jax.ShapeDtypeStruct]) -> str:
    """The outermost layer of tokens that an attention stands in: `blocks.3` of `blocks.3.attn.weights`."""
    parts = name.split(".")
    for count in range(1, len(parts)):
        around = ".".join(parts[:count])
        if around in arrays and arrays[around].ndim == 3:
            return around
    raise MethodError(f"the attention {name!r} stands in no named layer of tokens, such as {parts[0]!r}")


def _first_reader(look: Attended) -> Float[Array, "b n"]:
    """Where the head reads: the first token, or all alike where every token has a place."""
    like = look.weights[0]
    row = jnp.zeros(like.shape[-1]).at[0].set(1) if look.prefix else jnp.full(like.shape[-1], 1 / like.shape[-1])
    return varying_like(jnp.broadcast_to(row, (like.shape[0], like.shape[-1])), like)


@dataclasses.dataclass(frozen=True)
class Rollout:
    """Abnar & Zuidema 2020 (attention rollout): how much of each token attention carries to where the head reads.

    Each block is taken as half its heads' mean attention and half what goes past it; the blocks are multiplied. It is
    the same for every class.
    """

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        attention = look.attended()
        outputs = look.forward(look.images)
        scores = score_table(outputs, wanted.target)
        classes = chosen_classes(scores, wanted)
        row = _first_reader(attention)
        for weights in reversed(attention.weights):
            mean = weights.astype(row.dtype).mean(1)
            row = (row + jnp.einsum("bq,bqk->bk", row, mean)) / 2
        one = attention.grid(row)
        maps = jnp.broadcast_to(one[:, None], (*classes.shape, *one.shape[1:]))
        return answer(outputs, scores, classes, maps)


@dataclasses.dataclass(frozen=True)
class Relevance:
    """Chefer et al. 2021 (for self-attention): rollout of what raises the class's score.

    Each block is taken as the identity and the mean over its heads of what is positive in attention times its gradient.
    """

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        attention = look.attended()

        def scores_with(changes: list[Array]) -> tuple[Array, Array]:
            outputs = attention.run(changes)
            return score_table(outputs, wanted.target), outputs

        zeros = [varying_like(jnp.zeros_like(weights), weights) for weights in attention.weights]
        scores, backward, outputs = jax.vjp(scores_with, zeros, has_aux=True)
        fixed = lax.stop_gradient(scores)
        classes = chosen_classes(fixed, wanted)

        def explain(cotangent: Float[Array, "b n"]) -> Float[Array, "b h w"]:
            (slopes,) = backward(cotangent)
            row = _first_reader(attention)
            for weights, slope in zip(reversed(attention.weights), reversed(slopes), strict=True):
                gain = jax.nn.relu(weights * slope).astype(row.dtype).mean(1)
                row = row + jnp.einsum("bq,bqk->bk", row, gain)
            return attention.grid(row)

        # One class after the other: the gradients are as many as the attention of all blocks.
        rows = varying_like(jnp.moveaxis(one_hot(fixed, classes), 1, 0), scores)
        return answer(outputs, scores, classes, jnp.moveaxis(lax.map(explain, rows), 0, 1))


@dataclasses.dataclass(frozen=True)
class LeGrad:
    """Bousselham et al. 2024 (LeGrad): how fast each block's own score rises with the attention to a token.

    A block's score is what the end of the network makes of the mean of the block's tokens. What is positive in its
    gradient is averaged over heads, queries and blocks.
    """

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        attention = look.attended()
        outputs = look.forward(look.images)
        scores = score_table(outputs, wanted.target)
        classes = chosen_classes(scores, wanted)
        rows = one_hot(lax.stop_gradient(scores), classes)
        total = jnp.zeros((*classes.shape, attention.weights[0].shape[-1]), at_least_float32(scores.dtype))
        for weights, block_scores in zip(attention.weights, attention.block_scores, strict=True):
            _, backward = jax.vjp(lambda weights, f=block_scores: score_table(f(weights), wanted.target), weights)
            slopes = jax.vmap(lambda row, back=backward: back(row)[0], 1, 1)(rows)
            total = total + jax.nn.relu(slopes.astype(total.dtype)).mean((2, 3))
        maps = jax.vmap(attention.grid, 1, 1)(total / len(attention.weights))
        return answer(outputs, scores, classes, maps)
