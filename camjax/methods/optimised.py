"""Opti-CAM: the weights of the channels whose map, as a mask, leaves most of the score."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from camjax.core.canonical import scan
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.methods.clean import clean_pass
from camjax.methods.loops import at_a_time, in_chunks
from camjax.methods.own import own_scores
from camjax.methods.rules import weighed
from camjax.methods.score import mask
from camjax.methods.tail import Look
from camjax.methods.target import Target, Wanted, answer


class Adam(NamedTuple):
    """Where Adam stands. Written out: optax does not run under strict dtype promotion.

    Attributes:
        weights: before the softmax.
        mean: of the gradients, fading.
        square: likewise, of their squares.
    """

    weights: Float[Array, "b m c"]
    mean: Float[Array, "b m c"]
    square: Float[Array, "b m c"]


@dataclasses.dataclass(frozen=True)
class Optimised:
    """Zhang et al. 2023 (Opti-CAM): Adam finds, for each picture and class, the channels' weights.

    The weights are a softmax, all equal at first; the activations' positive parts by these weights, as a mask over the
    picture, are to leave as much of the class's score as can be. Each class has passes of its own.

    The map is the mask, in [0, 1] and as large as the picture. The weights themselves are not to be relied on: a
    channel that is 0 everywhere changes no mask, so that rounding alone moves its weight, and the others' with it.

    Attributes:
        steps: of Adam.
        rate: its learning rate.
    """

    steps: int = 50
    rate: float = 0.1

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail, outputs, scores, classes = clean_pass(look, wanted)
        grid = jax.nn.relu(tail.grid(tail.activations))

        def explain(numbers: Int[Array, " m"]) -> Float[Array, "m b *size"]:
            return jnp.moveaxis(self._maps(look, wanted.target, grid, classes[:, numbers]), 1, 0)

        maps = in_chunks(explain, classes.shape[1], at_a_time(look))
        return answer(outputs, scores, classes, jnp.moveaxis(maps, 0, 1))

    def _maps(
        self, look: Look, target: Target, grid: Float[Array, "b *space c"], classes: Int[Array, "b m"]
    ) -> Float[Array, "b m *size"]:
        """The masks of some classes, by as many optimisations side by side."""
        size = look.images.shape[1:-1]

        def masks_of(weights: Float[Array, "b m c"]) -> Float[Array, "b m *size"]:
            return mask(jax.vmap(jax.vmap(weighed, (None, 0)))(grid, jax.nn.softmax(weights)), size)

        def loss(weights: Float[Array, "b m c"]) -> Float[Array, ""]:
            shown = masks_of(weights)[..., None].astype(look.images.dtype)
            found = own_scores(look, target, look.images[:, None] * shown, classes)
            # A class that does not exist has no score to raise.
            return -jnp.where(jnp.isnan(found), 0, found).sum()

        def step(state: Adam, number: Array) -> tuple[Adam, None]:
            slopes = jax.grad(loss)(state.weights)
            mean = 0.9 * state.mean + 0.1 * slopes
            square = 0.999 * state.square + 0.001 * slopes**2
            # Both begin at zero, which the divisors make up for.
            size = jnp.sqrt(square / (1 - 0.999**number)) + 1e-8
            return Adam(state.weights - self.rate * mean / (1 - 0.9**number) / size, mean, square), None

        start = varying_like(jnp.full((*classes.shape, grid.shape[-1]), 0.5, grid.dtype), grid)
        still = jnp.zeros_like(start)
        numbers = jnp.arange(1, self.steps + 1).astype(grid.dtype)
        last, _ = scan(step, Adam(start, varying_like(still, grid), varying_like(still, grid)), numbers)
        return masks_of(last.weights)
