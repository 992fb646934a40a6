"""What transformers say of themselves: which tokens attention carries to where the head reads.

A network's attention are its named arrays (b, heads, queries, keys) of weights, in the order of computation.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from camjax.core.flow import Flow, attention_flow, attention_groups, token_layers
from camjax.core.layers import is_attention
from camjax.core.model import Model
from camjax.core.names import cut, named_arrays, tap
from camjax.core.precision import at_least_float32
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.errors import LayerError
from camjax.methods.gradient import one_hot
from camjax.methods.reading import reading_weights
from camjax.methods.tail import Look
from camjax.methods.target import MethodError, Probability, Target, Wanted, answer, chosen_classes, score_table


class Attended(NamedTuple):
    """A network's attention, for one batch of images.

    Attributes:
        flow: `flow()`: the attention `(b, heads, tokens, tokens)` of each block, one after the other, and the network
            behind it. A MethodError where the head reads more than the tokens behind the last block.
        block_scores: `block_scores()`: for each attention, itself and `scores(weights) -> outputs`, what the end of the
            network makes of the mean of the tokens that its block gives, where the attention is that. A MethodError
            where these tokens have no name.
        grid: The tokens (b, n) that lie on the image, in rows and columns.
        prefix: The number of tokens before those.
    """

    flow: Callable[[], Flow]
    block_scores: Callable[[], list[tuple[Array, Callable[[Array], Array]]]]
    grid: Callable[[Array], Array]
    prefix: int


def attention_names(model: Model, arrays: Mapping[str, jax.ShapeDtypeStruct], size: tuple[int, int]) -> tuple[str, ...]:
    """Returns the names of a network's attention.

    An array with two equal token axes is attention where there are as many tokens; a feature map `(b, c, h, w)` may be
    square too.

    Args:
        model: The network.
        arrays: Its named arrays at images of the size.
        size: Height and width of the images.

    Raises:
        MethodError: None is attention.
    """
    square = {name: value.shape[-1] for name, value in arrays.items() if is_attention(model, value)}
    counts = {value.shape[1] for value in arrays.values() if value.ndim == 3}
    names = tuple(name for name, count in square.items() if count in counts or _lie(model, count, size))
    if not names:
        raise MethodError(
            f"{model.name} names no attention (b, heads, tokens, tokens); a transformer's own model needs "
            "tokens=TokenGrid(…), and a name for each softmax"
        )
    return names


def _lie(model: Model, count: int, size: tuple[int, int]) -> bool:
    """Returns whether so many tokens fill the model's grid."""
    tokens = jax.ShapeDtypeStruct((1, count, 1), jnp.float32)  # type: ignore[no-untyped-call]
    try:
        jax.eval_shape(lambda tokens: _on_grid(model, tokens, size), tokens)
    except LayerError:
        return False
    return True


def _on_grid(model: Model, tokens: Float[Array, "b n c"], size: tuple[int, int]) -> Float[Array, "b h w c"]:
    assert model.tokens is not None  # else nothing is attention
    return model.tokens.place(tokens, size)


def attended(model: Model, images: Float[Array, "b h w c"]) -> Attended:
    """Returns the attention of any network that names it.

    Args:
        model: The network, with `tokens`.
        images: Normalised images.

    Raises:
        MethodError: It names no attention, or attention for different numbers of tokens.
    """
    arrays, size = named_arrays(model.forward, model.params, images), (images.shape[1], images.shape[2])
    names = attention_names(model, arrays, size)
    try:
        groups = attention_groups(model.forward, model.params, images, names)
    except LayerError as error:
        raise MethodError(f"{model.name}: {error}; rollout, chefer and legrad cannot explain this network") from error

    def flow() -> Flow:
        try:
            return attention_flow(model.forward, model.params, images, names)
        except LayerError as error:
            raise MethodError(f"{model.name}: {error}; rollout and chefer cannot explain this network") from error

    def grid(tokens: Array) -> Array:
        return _on_grid(model, tokens[..., None], size)[..., 0]

    scores = functools.partial(_block_scores, model, images, arrays, groups)
    return Attended(flow, scores, grid, 0 if model.tokens is None else model.tokens.prefix)


def check_attention(model: Model, *, blocks: bool) -> None:
    """Checks a network for the methods of this module, at its own input size; nothing is computed.

    Args:
        model: Any model.
        blocks: Whether the tokens that each block gives must have names, as for LeGrad; else its scores must be
            computed from the tokens behind the last block, as for the other methods.

    Raises:
        MethodError: See `attended` and `Attended`.
        LayerError: The model's `tokens` do not fit the number of tokens.
    """

    def names(_: object, images: Array) -> None:
        attention = attended(model, images)
        weights = attention.block_scores()[0][0] if blocks else next(iter(attention.flow().weights.values()))
        attention.grid(weights.mean((1, 2)))

    jax.eval_shape(names, model.params, jax.ShapeDtypeStruct(model.image_shape(), jnp.float32))  # type: ignore[no-untyped-call]


def _block_scores(
    model: Model, images: Array, arrays: Mapping[str, jax.ShapeDtypeStruct], groups: Sequence[Sequence[str]]
) -> list[tuple[Array, Callable[[Array], Array]]]:
    """Returns each attention, and the scores of its block as a function of it; see `Attended`."""
    blocks = _blocks(model, images, arrays, groups)
    last = list(blocks.values())[-1]
    _, weights = tap(model.forward, read=blocks)(model.params, images)

    @functools.cache
    def end() -> Callable[[Array], Array]:
        """Returns the network behind the last block."""
        return cut(model.forward, last)(model.params, images)[1]

    def block_scores(name: str, block: str) -> Callable[[Array], Array]:
        def scores(attention: Array) -> Array:
            def tokens_of(params: object, images: Array) -> Array:
                return tap(model.forward, read=[block])(params, images)[1][block]

            tokens = cut(tokens_of, name)(model.params, images)[1](attention)
            return end()(jnp.broadcast_to(tokens.mean(1, keepdims=True), tokens.shape))

        return scores

    return [(weights[name], block_scores(name, block)) for name, block in blocks.items()]


def _blocks(
    model: Model, images: Array, arrays: Mapping[str, jax.ShapeDtypeStruct], groups: Sequence[Sequence[str]]
) -> dict[str, str]:
    """Returns the named tokens that each attention's block gives.

    They are the outermost layer of tokens around a block's attention, by its path, and no other block's: `blocks.3` of
    `blocks.3.attn.weights`, `encoder/block_3` of `encoder/block_3/attention/weights`. Attention whose path names no
    such layer, as where all of it is called `attention`, has the layer that follows it; see
    `camjax.core.flow.token_layers`.

    Raises:
        MethodError: A block's tokens have no name.
    """
    around = {name: _around(name) for group in groups for name in group}
    beside = {name: group for group in groups for name in group}
    own = {
        name: next(
            (
                outer
                for outer in around[name]
                if outer in arrays
                and arrays[outer].ndim == 3
                and not any(outer in around[other] for other in around if other not in beside[name])
            ),
            None,
        )
        for name in around
    }
    if None in own.values():
        behind = token_layers(model.forward, model.params, images, groups)
        own = {name: block or behind.get(name) for name, block in own.items()}
    for name, block in own.items():
        if block is None:
            raise MethodError(
                f"{model.name} has no name for the tokens (b, n, c) of the block whose attention is {name!r}; legrad "
                "needs one behind each block, by jax.ad_checkpoint.checkpoint_name"
            )
    return {name: block for name, block in own.items() if block is not None}


def _around(name: str) -> list[str]:
    """Returns the paths of the modules around a layer, the outermost first; `.` and `/` separate their parts."""
    ends = [match.start() for match in re.finditer(r"[./]", name)]
    return [name[:end] for end in ends]


@dataclasses.dataclass(frozen=True)
class Rollout:
    """Abnar & Zuidema 2020 (attention rollout): how much of each token attention carries to where the head reads.

    Each block is taken as half its heads' mean attention and half what goes past it; the blocks are multiplied. The map
    is the row of the product that belongs to the token that the head reads. Where the head reads several tokens it is
    the sum of their rows by their parts in what is read: `reading_weights` of the gradient, at the tokens that the head
    reads, of a random sum of all logits, or of all scores of a target of one's own. It is the same for every class.
    """

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        attention = look.attended()
        flow = attention.flow()
        tokens, rest = flow.until(None)
        outputs, backward = jax.vjp(rest, tokens)
        scores = score_table(outputs, wanted.target)
        classes = chosen_classes(scores, wanted)
        # A class of probability 1 has no gradient, so that the logits tell what the head reads.
        read: Target = "logit" if isinstance(wanted.target, str | Probability) else wanted.target
        table, of_scores = jax.vjp(functools.partial(score_table, target=read), outputs)
        mixture = jnp.asarray(np.random.default_rng(0).normal(size=(1, table.shape[1])), table.dtype)
        (slopes,) = backward(*of_scores(varying_like(jnp.broadcast_to(mixture, table.shape), table)))
        row = reading_weights(flow.by_token(slopes), attention.prefix)
        for weights in reversed(flow.weights.values()):
            mean = weights.astype(row.dtype).mean(1)
            row = (row + jnp.einsum("bq,bqk->bk", row, mean)) / 2
        one = attention.grid(row)
        maps = jnp.broadcast_to(one[:, None], (*classes.shape, *one.shape[1:]))
        return answer(outputs, scores, classes, maps)


@dataclasses.dataclass(frozen=True)
class Relevance:
    """Chefer et al. 2021 (for self-attention): rollout of what raises the class's score.

    Each block is taken as the identity and the mean over its heads of what is positive in attention times its gradient.
    The map is the row of the product that belongs to the token that the head reads; where it reads several, the sum of
    their rows by `reading_weights` of the gradient of the class's own score.
    """

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        attention = look.attended()
        flow = attention.flow()
        weights = flow.weights
        tokens, _ = flow.until(None)

        def scores_with(changes: dict[str, Array], change: Array) -> tuple[Array, Array]:
            tokens, rest = flow.until(changes)
            outputs = rest(tokens + change)
            return score_table(outputs, wanted.target), outputs

        zeros = {name: varying_like(jnp.zeros_like(array), array) for name, array in weights.items()}
        nothing = varying_like(jnp.zeros_like(tokens), tokens)
        scores, backward, outputs = jax.vjp(scores_with, zeros, nothing, has_aux=True)
        fixed = lax.stop_gradient(scores)
        classes = chosen_classes(fixed, wanted)

        def explain(cotangent: Float[Array, "b n"]) -> Float[Array, "b h w"]:
            slopes, of_tokens = backward(cotangent)
            row = reading_weights(flow.by_token(of_tokens), attention.prefix)
            for name in reversed(weights):
                gain = jax.nn.relu(weights[name] * slopes[name]).astype(row.dtype).mean(1)
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
        rows = varying_like(one_hot(lax.stop_gradient(scores), classes), scores)
        total: Array | float = 0.0
        blocks = attention.block_scores()
        for weights, block_scores in blocks:
            _, backward = jax.vjp(lambda weights, f=block_scores: score_table(f(weights), wanted.target), weights)
            slopes = jax.vmap(lambda row, back=backward: back(row)[0], 1, 1)(rows)
            total = total + jax.nn.relu(slopes.astype(at_least_float32(scores.dtype))).mean((2, 3))
        maps = jax.vmap(attention.grid, 1, 1)(total / len(blocks))
        return answer(outputs, scores, classes, maps)
