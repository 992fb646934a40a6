"""ROAD (Rong et al. 2022): the score of pictures whose pixels are removed so that nobody sees where they were.

A removed pixel becomes the weighted mean of its neighbours, removed ones too: a linear system that is solved without a
matrix. Masks are by rank: a threshold in a map with ties would remove far more than was asked, at the limit everything.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from camjax.core.precision import at_least_float32
from camjax.metrics.loops import Score, clean_scores, scores_of_changed
from camjax.metrics.masks import first, nan_where_unknown, over, ranks

PERCENTS = (10, 20, 30, 40, 50, 60, 70, 80, 90)
SIDE, CORNER = 1 / 6, 1 / 12
"""The neighbours' weights."""


class Road(NamedTuple):
    """The change of the score, at each percentage.

    Attributes:
        most: where the map's highest pixels are removed; lower is better.
        least: where its lowest are; higher is better.
        combined: half of the mean difference of both; higher is better.
    """

    most: Float[Array, "b k percents"]
    least: Float[Array, "b k percents"]
    combined: Float[Array, "b k"]


def road(
    score: Score,
    images: Float[Array, "b height width c"],
    maps: Float[Array, "b k h w"],
    classes: Int[Array, "b k"],
    *,
    percents: tuple[int, ...] = PERCENTS,
    noise: float = 0.01,
    seed: int = 0,
    room: int = 32,
) -> Road:
    """The change of the score where the highest and where the lowest pixels are removed.

    Args:
        score: of any kind.
        images: normalised.
        maps: of any size and unit; only their order counts.
        classes: of the maps.
        percents: how much of the picture is removed.
        noise: standard deviation of what is added to removed pixels; the same for every picture and map.
        seed: of the noise.
        room: how many pictures go through the network at once.

    Raises:
        ValueError: a percentage is not in 0 to 99: of nothing, nothing can be imputed.
    """
    if not percents or not all(0 <= percent < 100 for percent in percents):
        raise ValueError(f"percents must be some of 0 to 99, not {percents}")
    ranked = ranks(over(images, maps))
    pixels = ranked[0, 0].size
    # As many as lie at or above a percentile of a map without ties.
    counts = jnp.asarray([1 + (pixels - 1) * percent // 100 for percent in percents])
    key = jax.random.key(seed)

    def copy(which: Int[Array, ""], change: Int[Array, ""]) -> Float[Array, "b height width c"]:
        percent, order = change // 2, ranked[:, which]
        order = jnp.where(change % 2 == 0, order, pixels - 1 - order)
        removed = first(order, counts[percent])
        random = jax.random.normal(jax.random.fold_in(key, percent), images.shape[1:], jnp.float32)
        added = jnp.where(removed[..., None], (noise * random).astype(images.dtype)[None], 0)
        return jax.vmap(impute)(images, removed) + added

    found = scores_of_changed(score, copy, classes, 2 * len(percents), room)
    change = nan_where_unknown(found - clean_scores(score, images, classes)[..., None], maps)
    most, least = change[..., 0::2], change[..., 1::2]
    return Road(most, least, (least - most).mean(-1) / 2)


def impute(
    image: Float[Array, "h w c"], removed: Bool[Array, "h w"], tolerance: float = 1e-6, iterations: int = 500
) -> Float[Array, "h w c"]:
    """The picture with each removed pixel the weighted mean of its neighbours, by conjugate gradients.

    Args:
        image: of any unit.
        removed: not all.
        tolerance: of the residual, relative to the right-hand side.
        iterations: at most so many.
    """
    dtype = at_least_float32(image.dtype)
    gone = removed[..., None].astype(dtype)
    kept = (1 - gone) * image.astype(dtype)
    weight = _neighbours(jnp.ones_like(gone))

    def system(values: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        # On kept pixels the identity, so that the whole stays symmetric and positive definite.
        return gone * (weight * values - _neighbours(gone * values)) + (1 - gone) * values

    # From the mean of what is kept: the first steps would only find that.
    start = gone * kept.sum((0, 1), keepdims=True) / (1 - gone).sum()
    cg: Callable[..., tuple[Array, None]] = jax.scipy.sparse.linalg.cg
    solved, _ = cg(system, gone * _neighbours(kept), start, tol=tolerance, maxiter=iterations)
    return jnp.where(removed[..., None], solved.astype(image.dtype), image)


def _neighbours(values: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """The weighted sum of the eight neighbours that lie in the picture."""
    h, w = values.shape[:2]
    padded = jnp.pad(values, ((1, 1), (1, 1), (0, 0)))
    weights = np.asarray([[CORNER, SIDE, CORNER], [SIDE, 0, SIDE], [CORNER, SIDE, CORNER]])
    total = jnp.zeros_like(values)
    for y, x in np.argwhere(weights).tolist():
        total = total + float(weights[y, x]) * padded[y : y + h, x : x + w]
    return total
