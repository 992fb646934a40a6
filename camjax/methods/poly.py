"""Poly-CAM: channels weighed by what masks of them show and hide, layer by layer."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from camjax.core.maps import resize_space
from camjax.core.result import CamResult
from camjax.methods.clean import clean_pass
from camjax.methods.loops import scores_of_copies
from camjax.methods.rules import weighed
from camjax.methods.score import Mask
from camjax.methods.tail import Look
from camjax.methods.target import Target, Wanted, answer, score_table, scores_at

OUTLIERS = 0.001
"""The part of a channel's values, at either end, that does not scale its mask."""


def poly_mask(activations: Float[Array, "*batch_and_space"], size: tuple[int, ...]) -> Float[Array, "*batch_and_size"]:
    """Channels as Poly-CAM's masks: less their smallest and over their largest value, cut to [0, 1], then resized.

    As in the authors' code, the divisor is the largest value as it is, not the spread.

    Args:
        activations: of one channel each.
        size: (height, width) of the pictures; as many sides as a channel has axes.
    """
    ends = jnp.asarray([OUTLIERS, 1 - OUTLIERS], activations.dtype)
    low, high = jnp.quantile(activations, ends, axis=tuple(range(-len(size), 0)), keepdims=True)
    return resize_space(jnp.clip((activations - low) / jnp.maximum(high, 1e-12), 0, 1), size)


@dataclasses.dataclass(frozen=True)
class Poly:
    """Englebert et al. 2022 (Poly-CAM): the map of one layer, which `camjax.methods.fusion.refined` joins with others.

    Masks do not depend on the class, so k classes cost what one does. A layer by itself gives its map as well.

    Attributes:
        kind: `"+"`: a channel's weight is the score of what its mask shows; `"-"`: by how much the score falls without
            that, if it falls; `"+-"`: the sum of both, if positive, for twice the passes.
        target: whose scores weigh the channels; None is what is explained.
        mask: from a channel to what it lets through.
    """

    kind: Literal["+", "-", "+-"] = "+"
    target: Target | None = "probability"
    mask: Mask = poly_mask

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail, outputs, scores, classes = clean_pass(look, wanted)
        target = wanted.or_own(self.target)
        grid = tail.grid(tail.activations)
        size, channels = look.images.shape[1:-1], grid.shape[-1]

        def found(*, hides: bool) -> Float[Array, "channels b k"]:
            def copies(numbers: Int[Array, " m"]) -> Float[Array, "b m *space c"]:
                masks = self.mask(jnp.moveaxis(jnp.take(grid, numbers, axis=-1), -1, 1), size)
                shown = (1 - masks if hides else masks)[..., None]
                return look.images[:, None] * shown.astype(look.images.dtype)

            return scores_at(scores_of_copies(look, target, copies, channels), classes)

        clean = scores_at(score_table(outputs, target), classes)[None]
        if self.kind == "+":
            weights = found(hides=False)
        elif self.kind == "-":
            weights = jax.nn.relu(clean - found(hides=True))
        else:
            weights = jax.nn.relu(found(hides=False) + clean - found(hides=True))
        maps = jax.vmap(jax.vmap(weighed, (None, 1)), (0, 1))(grid, weights)
        return answer(outputs, scores, classes, maps)
