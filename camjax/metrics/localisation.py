"""Whether a map lies on the thing that it explains, where somebody has drawn that.

Ground truth is a mask of each map, of its size: `(b, k, h, w)`, true on the thing. Where it is empty there is nothing
to find: NaN. A map without mass has found nothing: 0, so that no method gains by staying blank.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from camjax.choices import SHARE
from camjax.core.precision import at_least_float32
from camjax.metrics.scaling import per_largest


def pointing_game(
    maps: Float[Array, "*batch h w"], masks: Bool[Array, "*batch h w"], *, tolerance: int = 0
) -> Float[Array, "*batch"]:
    """Zhang et al. 2018: whether the map's highest pixel lies on the thing; 1 is best.

    Args:
        maps: of any unit.
        masks: the things.
        tolerance: a pixel less than so many pixels from the thing is on it; the paper's is 15.

    Returns:
        Where several pixels are highest, the share of them that lie on the thing: of a uniform map, the thing's area.

    Raises:
        ValueError: the tolerance is below 0.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance must not be below 0, not {tolerance}")
    highest = maps == maps.max((-2, -1), keepdims=True)
    near = _grown(masks, tolerance) if tolerance else masks
    share = (highest & near).sum((-2, -1)) / jnp.maximum(highest.sum((-2, -1)), 1)
    return _known(share.astype(at_least_float32(maps.dtype)), maps, masks)


def energy_pointing_game(maps: Float[Array, "*batch h w"], masks: Bool[Array, "*batch h w"]) -> Float[Array, "*batch"]:
    """Wang et al. 2020: the share of the map's positive mass that lies on the thing, in [0, 1]; higher is better."""
    mass = per_largest(jax.nn.relu(maps.astype(at_least_float32(maps.dtype))), (-2, -1))
    inside, total = jnp.where(masks, mass, 0).sum((-2, -1)), mass.sum((-2, -1))
    return _known(jnp.where(total == 0, 0, inside / jnp.where(total == 0, 1, total)), maps, masks)


def overlap(
    maps: Float[Array, "*batch h w"], masks: Bool[Array, "*batch h w"], *, share: float = SHARE
) -> Float[Array, "*batch"]:
    """The intersection over union of the thing and of what the map takes for it, in [0, 1]; higher is better.

    Args:
        maps: of any unit.
        masks: the things.
        share: what reaches this part of the map's maximum is taken for the thing.
    """
    taken = above(maps, share)
    dtype = at_least_float32(maps.dtype)
    both, either = (each.sum((-2, -1)).astype(dtype) for each in (taken & masks, taken | masks))
    return _known(both / jnp.maximum(either, 1), maps, masks)


def above(maps: Float[Array, "*batch h w"], share: float = SHARE) -> Bool[Array, "*batch h w"]:
    """The positive pixels that reach a share of their map's maximum."""
    return (maps >= share * maps.max((-2, -1), keepdims=True)) & (maps > 0)


def _grown(masks: Bool[Array, "*batch h w"], tolerance: int) -> Bool[Array, "*batch h w"]:
    """Also the pixels less than that far away: along the rows first, then from row to row (Felzenszwalb)."""
    far = float(2 * sum(masks.shape[-2:]))
    columns = lax.broadcasted_iota(jnp.float32, masks.shape, masks.ndim - 1)
    last = lax.cummax(jnp.where(masks, columns, -far), axis=masks.ndim - 1)
    coming = lax.cummin(jnp.where(masks, columns, 2 * far), axis=masks.ndim - 1, reverse=True)
    along = jnp.minimum(jnp.minimum(columns - last, coming - columns), far) ** 2
    around = jnp.pad(along, [(0, 0)] * (masks.ndim - 2) + [(tolerance, tolerance), (0, 0)], constant_values=far**2)

    def nearer(number: Int[Array, ""], best: Float[Array, "*batch h w"]) -> Float[Array, "*batch h w"]:
        row = lax.dynamic_slice_in_dim(around, number, masks.shape[-2], masks.ndim - 2)
        return jnp.minimum(best, row + jnp.float32(number - tolerance) ** 2)

    return lax.fori_loop(0, 2 * tolerance + 1, nearer, along) < tolerance**2


def _known(
    values: Float[Array, "*batch"], maps: Float[Array, "*batch h w"], masks: Bool[Array, "*batch h w"]
) -> Float[Array, "*batch"]:
    unknown = jnp.isnan(maps).any((-2, -1)) | ~masks.any((-2, -1))
    return jnp.where(unknown, jnp.nan, values)
