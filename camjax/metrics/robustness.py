"""Whether a map stays what it is where nothing has changed, and does not where the network has."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PyTree

from camjax.core.canonical import one_by_one
from camjax.metrics.scaling import pearson, per_largest

RADIUS = 0.2
SAMPLES = 10

Explain = Callable[[Float[Array, "b *size c"]], Float[Array, "b k *space"]]
"""From normalised images to maps of classes that are the same at every call."""


def max_sensitivity(
    explain: Explain,
    images: Float[Array, "b *size c"],
    *,
    radius: float = RADIUS,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Float[Array, "b k"]:
    """Yeh et al. 2019: the most that a map changes where its picture does by a little; lower is better.

    Args:
        explain: the method.
        images: normalised.
        radius: every value is changed by at most so much, evenly distributed.
        samples: how many changes are tried, one at a time.
        seed: of the changes.

    Returns:
        The change's norm over the map's, whatever its unit; infinite for a map of zeros that does not stay one, NaN
        where one of the maps has a NaN.

    Raises:
        ValueError: there is no sample.
    """
    if samples < 1:
        raise ValueError(f"samples must be a positive whole number, not {samples}")
    clean = explain(images)

    def change(sample: Int[Array, ""]) -> Float[Array, "b k"]:
        return relative_change(clean, explain(nudged(images, sample, radius=radius, seed=seed)))

    changes = one_by_one(change, jnp.arange(samples))
    return jnp.where(jnp.isnan(changes).any(0), jnp.nan, changes.max(0))


def nudged(
    images: Float[Array, "b *size c"], sample: Int[Array, ""] | int, *, radius: float = RADIUS, seed: int = 0
) -> Float[Array, "b *size c"]:
    """Pictures whose every value is changed by at most the radius, evenly distributed, and all in the same way.

    So a picture's number does not depend on its place in a batch.

    Args:
        images: normalised.
        sample: the change's number; it may be traced.
        radius: of the changes.
        seed: likewise.
    """
    key = jax.random.fold_in(jax.random.key(seed), sample)
    noise = jax.random.uniform(key, images.shape[1:], jnp.float32, -radius, radius)
    return images + noise.astype(images.dtype)[None]


def relative_change(clean: Float[Array, "b k *space"], moved: Float[Array, "b k *space"]) -> Float[Array, "b k"]:
    """Computes the norm of each map's change over the map's.

    Args:
        clean: Maps of any unit.
        moved: The maps that they have become.

    Returns:
        A number that does not depend on the maps' unit; infinite for a map of zeros that does not stay one.
    """
    axes = tuple(range(2, clean.ndim))
    change = moved - clean
    # Each norm is that of values up to 1 times the largest, since squares of small or large maps leave float's range.
    largest, size = (jnp.abs(each).max(axes) for each in (change, clean))
    ratio = (jnp.sqrt((per_largest(each, axes) ** 2).sum(axes)) for each in (change, clean))
    found = next(ratio) / next(ratio) * (largest / size)
    return jnp.where((largest == 0) & ~jnp.isnan(change).any(axes), 0, found)


def randomisation(
    explain: Callable[[PyTree[Array]], Float[Array, "b k *space"]],
    params: PyTree[Array],
    others: PyTree[Array],
    steps: PyTree[int],
    *,
    cascading: bool = True,
) -> Float[Array, "steps b k"]:
    """Adebayo et al. 2018: how alike maps are to those of a network whose parameters are random; lower is better.

    All steps are one program: the parameters are its arguments.

    Args:
        explain: from parameters to maps of some pictures.
        params: the network's.
        others: random ones, of the same shapes.
        steps: of each parameter the step at which it becomes random, from 0, the network's end; -1 is never.
        cascading: what has become random stays so; else each step's parameters are random alone.

    Returns:
        Spearman's correlation of the maps' sizes, in [-1, 1], for each step; 0 where all pixels are equal.
    """
    count = max(jax.tree.leaves(steps)) + 1
    clean = explain(params)

    def similarity(step: Int[Array, ""]) -> Float[Array, "b k"]:
        def chosen(own: Any, other: Any, at: int) -> Any:  # noqa: ANN401
            return jnp.where(step >= at if cascading else step == at, other, own) if at >= 0 else own

        return rank_correlation(jnp.abs(clean), jnp.abs(explain(jax.tree.map(chosen, params, others, steps))))

    return one_by_one(similarity, jnp.arange(count))


def rank_correlation(one: Float[Array, "b k *space"], other: Float[Array, "b k *space"]) -> Float[Array, "b k"]:
    """Spearman's, of each map; equal pixels share the mean of their places. 0 where all are, NaN where one is NaN."""

    def places(values: Float[Array, " n"]) -> Float[Array, " n"]:
        ordered = jnp.sort(values)
        ends = (jnp.searchsorted(ordered, values, side=side, method="sort") for side in ("left", "right"))
        found = sum(end.astype(jnp.float32) for end in ends) / 2 - len(values) / 2
        return jnp.where(jnp.isnan(values).any(), jnp.nan, found)

    flat = (each.reshape(-1, each[0, 0].size) for each in (one, other))
    first, second = (jax.vmap(places)(each) for each in flat)
    return pearson(first, second).reshape(one.shape[:2])
