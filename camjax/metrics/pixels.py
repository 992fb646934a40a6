"""PxAP (Choe et al. 2020): how well a map's values tell the pixels of the thing from the others.

Counts of pixels by value add up over pictures, batches, processes and hosts; the precision is a function of the sum.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from camjax.metrics.scaling import unit_range

BINS = 1000


class PixelCounts(NamedTuple):
    """How many pixels have each value, by rising value; the last place is the maximum's own.

    Attributes:
        inside: of those on the thing.
        outside: of the others.
    """

    inside: Float[Array, "*batch bins"]
    outside: Float[Array, "*batch bins"]


def pixel_counts(
    maps: Float[Array, "*batch h w"],
    masks: Bool[Array, "*batch h w"],
    ignored: Bool[Array, "*batch h w"] | None = None,
    *,
    bins: int = BINS,
) -> PixelCounts:
    """Counts the pixels of maps scaled to [0, 1] by their own minimum and maximum, negative values too.

    Args:
        maps: Maps of any unit; a constant one is 0 everywhere, and one that is not finite is not counted.
        masks: the things.
        ignored: pixels that are not counted.
        bins: how many values are told apart.
    """
    scaled = unit_range(maps, (-2, -1))
    places = jnp.clip(jnp.nan_to_num(scaled * bins), 0, bins).astype(jnp.int32)
    places = places.reshape(-1, maps.shape[-2] * maps.shape[-1])
    rows = jnp.arange(len(places))[:, None]
    counted = ~jnp.isnan(scaled)
    if ignored is not None:
        counted &= ~ignored

    def count(which: Bool[Array, "*batch h w"]) -> Float[Array, "*batch bins"]:
        ones = (which & counted).reshape(places.shape).astype(jnp.float32)
        table = jnp.zeros((len(places), bins + 1), jnp.float32).at[rows, places].add(ones)
        return table.reshape(*maps.shape[:-2], bins + 1)

    return PixelCounts(count(masks), count(~masks))


def pixel_precision(counts: PixelCounts) -> Float[Array, "*batch"]:
    """The area below precision over recall, in [0, 1]; higher is better.

    A map that is the mask gets 1; its complement, and a uniform map, the thing's share of the picture. NaN where no
    pixel is the thing's.
    """
    true, false = (jnp.cumsum(each[..., ::-1], -1) for each in counts)
    taken, total = true + false, true[..., -1:]
    precision = true / jnp.where(taken == 0, 1, taken)
    recall = true / jnp.where(total == 0, 1, total)
    area = (precision[..., 1:] * jnp.diff(recall)).sum(-1) + precision[..., 0] * recall[..., 0]
    return jnp.where(total[..., 0] == 0, jnp.nan, area)
