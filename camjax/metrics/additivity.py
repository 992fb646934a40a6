"""Whether what a map gives to some pixels is what the score loses without them: sensitivity-n and infidelity."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from camjax.core.precision import at_least_float32
from camjax.methods.loops import in_chunks
from camjax.methods.target import scores_at
from camjax.metrics.loops import Score, clean_scores
from camjax.metrics.masks import first, over, ranks
from camjax.metrics.scaling import pearson, per_largest, unit_range


class Pairs(NamedTuple):
    """What a map and the network make of each random change of an image.

    Attributes:
        sums: The map's sum over the change, which it states as the score's loss.
        left: The score of the changed image.
    """

    sums: Float[Array, "b k samples"]
    left: Float[Array, "b k samples"]


def sensitivity_n(
    score: Score,
    images: Float[Array, "b *size c"],
    maps: Float[Array, "b k *space"],
    classes: Int[Array, "b k"],
    *,
    n: int,
    samples: int = 100,
    seed: int = 0,
    room: int = 32,
) -> Float[Array, "b k"]:
    """Ancona et al. 2018: the correlation of a map's sums over random n pixels with what the score loses without them.

    Args:
        score: of any kind.
        images: normalised; a removed pixel is 0, the mean colour.
        maps: of any size and unit.
        classes: of the maps.
        n: how many pixels are removed at once.
        samples: how many times.
        seed: of the choice, which is the same for every picture and map.
        room: how many pictures go through the network at once.

    Returns:
        Pearson's correlation, in [-1, 1], whatever the map's unit; higher is better. 0 for a map or a score that is
        the same everywhere, but for rounding.

    Raises:
        ValueError: there are not n pixels, or fewer than two samples.
    """
    pixels = images[0, ..., 0].size
    if not 0 < n < pixels or samples < 2:
        raise ValueError(
            f"n must lie between 0 and the {pixels} pixels, and samples be 2 or more, not {n} and {samples}"
        )
    key = jax.random.key(seed)

    def chosen(sample: Int[Array, ""]) -> Float[Array, "1 1 *size"]:
        field = jax.random.uniform(jax.random.fold_in(key, sample), (1, 1, *images.shape[1:-1]), jnp.float32)
        return first(ranks(field), n).astype(images.dtype)

    def change(sample: Int[Array, ""]) -> Float[Array, "b *size c"]:
        return images * chosen(sample)[0, ..., None]

    large = _over(images, maps)
    # A factor and an offset of the map do not count: n pixels are chosen each time.
    large = unit_range(large, tuple(range(2, large.ndim)))
    pairs = _pairs(score, images, large, classes, change, chosen, samples, room)
    return -pearson(pairs.sums, pairs.left)


def infidelity(
    score: Score,
    images: Float[Array, "b *size c"],
    maps: Float[Array, "b k *space"],
    classes: Int[Array, "b k"],
    *,
    noise: float = 0.2,
    samples: int = 100,
    scaled: bool = True,
    seed: int = 0,
    room: int = 32,
) -> Float[Array, "b k"]:
    """Yeh et al. 2019: how wrong a map is as a slope, the mean square of what it says of noise less what happens.

    Args:
        score: of any kind.
        images: normalised.
        maps: of any size and unit; a pixel's value is that of each of its channels.
        classes: of the maps.
        noise: standard deviation of what is taken from the pictures.
        samples: how many times.
        scaled: Whether a map has the unit that suits it best, as maps without a unit need; the result then does not
            depend on the map's unit.
        seed: of the noise, which is the same for every picture and map.
        room: how many pictures go through the network at once.

    Returns:
        In squares of the score; lower is better.
    """
    key = jax.random.key(seed)

    def change(sample: Int[Array, ""]) -> Float[Array, "1 *size c"]:
        random = jax.random.normal(jax.random.fold_in(key, sample), images.shape[1:], jnp.float32)
        return (noise * random).astype(images.dtype)[None]

    def weights(sample: Int[Array, ""]) -> Float[Array, "1 1 *size"]:
        return change(sample).sum(-1)[None]

    large = _over(images, maps)
    if scaled:
        large = per_largest(large, tuple(range(2, large.ndim)))
    sums, left = _pairs(score, images, large, classes, change, weights, samples, room)
    lost = clean_scores(score, images, classes)[..., None] - left
    if scaled:
        size = (sums**2).mean(-1, keepdims=True)
        sums = sums * ((sums * lost).mean(-1, keepdims=True) / jnp.where(size == 0, 1, size))
    return ((sums - lost) ** 2).mean(-1)


def _over(images: Float[Array, "b *size c"], maps: Float[Array, "b k *space"]) -> Float[Array, "b k *size"]:
    return over(images, maps).astype(at_least_float32(maps.dtype))


def _pairs(
    score: Score,
    images: Float[Array, "b *size c"],
    maps: Float[Array, "b k *size"],
    classes: Int[Array, "b k"],
    change: Callable[[Int[Array, ""]], Float[Array, "some *size c"]],
    weights: Callable[[Int[Array, ""]], Float[Array, "1 1 *size"]],
    samples: int,
    room: int,
) -> Pairs:
    """The sums of each map times the weights of each change, and the scores of the changed images."""
    b, axes = len(images), tuple(range(2, maps.ndim))

    def some(numbers: Int[Array, " m"]) -> tuple[Float[Array, "m b k"], Float[Array, "m b k"]]:
        # The change is the same for all maps, so that one pass gives every class's score.
        made = jax.vmap(lambda number: images - change(number), out_axes=1)(numbers)
        table = score(made.reshape(b * len(numbers), *made.shape[2:])).reshape(b, len(numbers), -1)
        sums = jax.vmap(lambda number: (maps * weights(number).astype(maps.dtype)).sum(axes))(numbers)
        return sums, scores_at(jnp.moveaxis(table, 1, 0), classes)

    return Pairs(*(jnp.moveaxis(each, 0, -1) for each in in_chunks(some, samples, max(1, room // b))))
