"""Whether a map shows what the network looks at: the score of what it shows, and of pictures without it.

`score` gives probabilities for average drop and gain, anything for curves; see `camjax.metrics.loops.Score`.
"""

import functools
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from camjax.core.precision import at_least_float32
from camjax.metrics.loops import Score, clean_scores, scores_of_changed
from camjax.metrics.masks import as_masks, first, nan_where_unknown, over, ranks, step_counts

Baseline = Literal["zero", "mean", "min", "blur"] | Array
"""What a pixel is replaced by: the colour that the network takes as mean, the picture's own mean, its least value, the
picture blurred as in RISE (11 x 11 pixels, sigma 5), or an array that broadcasts to the images."""


class Confidence(NamedTuple):
    """How the score changes where a picture is seen through its map. Papers give their means.

    Attributes:
        drop: the part of the score that is lost, in [0, 1]; lower is better.
        increase: 1 where it rises, else 0; higher is better.
        gain: the part of what it lacks to 1 that is won, in [0, 1]; higher is better.
    """

    drop: Float[Array, "b k"]
    increase: Float[Array, "b k"]
    gain: Float[Array, "b k"]


class Curve(NamedTuple):
    """A score as pixels are inserted or deleted.

    Attributes:
        fractions: of the pixels that are changed, from 0 to 1.
        scores: at each.
        area: below the curve, by trapezoids; in units of the score.
    """

    fractions: Float[Array, " points"]
    scores: Float[Array, "b k points"]
    area: Float[Array, "b k"]


def confidence(
    score: Score,
    images: Float[Array, "b height width c"],
    maps: Float[Array, "b k h w"],
    classes: Int[Array, "b k"],
    *,
    room: int = 32,
) -> Confidence:
    """Average drop and increase in confidence (Chattopadhay et al. 2018), average gain (Zhang et al. 2024).

    Pixels are multiplied by the map, in [0, 1], so that what it leaves out has the mean colour.

    Args:
        score: gives probabilities. A score outside [0, 1] has no part that could be lost or won: NaN.
        images: normalised.
        maps: of any size and unit.
        classes: of the maps.
        room: how many pictures go through the network at once.

    Returns:
        The lost part of a score of 0 is 0, and so is the won part of what a score of 1 lacks.
    """
    shown = as_masks(images, maps).astype(images.dtype)
    before = clean_scores(score, images, classes)
    after = scores_of_changed(score, lambda which, _: images * shown[:, which, ..., None], classes, 1, room)[..., 0]
    change = after - before
    drop, gain = _part(jnp.maximum(-change, 0), before), _part(jnp.maximum(change, 0), 1 - before)
    increase = jnp.where(jnp.isnan(change), jnp.nan, (change > 0).astype(change.dtype))
    # A network may swallow a NaN, as one that compares with `x > 0` does.
    return Confidence(*(nan_where_unknown(each, maps) for each in (drop, increase, gain)))


def insertion(
    score: Score,
    images: Float[Array, "b *size c"],
    maps: Float[Array, "b k *space"],
    classes: Int[Array, "b k"],
    *,
    steps: int = 20,
    baseline: Baseline = "blur",
    room: int = 32,
) -> Curve:
    """Petsiuk et al. 2018: the score as pixels are shown, the map's highest first; a larger area is better.

    Args:
        score: of any kind; the papers take probabilities.
        images: normalised.
        maps: of any size and unit; only their order counts.
        classes: of the maps.
        steps: see `camjax.metrics.masks.step_counts`.
        baseline: what stands where nothing is shown.
        room: how many pictures go through the network at once.

    Raises:
        ValueError: an unknown baseline, or no step.
    """
    return _curve(score, baseline_images(images, baseline), images, maps, classes, steps, room)


def deletion(
    score: Score,
    images: Float[Array, "b *size c"],
    maps: Float[Array, "b k *space"],
    classes: Int[Array, "b k"],
    *,
    steps: int = 20,
    baseline: Baseline = "zero",
    room: int = 32,
) -> Curve:
    """Petsiuk et al. 2018: the score as pixels are hidden, the map's highest first; a smaller area is better.

    See `insertion`.
    """
    return _curve(score, images, baseline_images(images, baseline), maps, classes, steps, room)


def pixel_flipping(
    score: Score,
    images: Float[Array, "b *size c"],
    maps: Float[Array, "b k *space"],
    classes: Int[Array, "b k"],
    *,
    steps: int = 20,
    room: int = 32,
) -> Curve:
    """Bach et al. 2015: `deletion` to black, the least value that the picture has; a smaller area is better."""
    return deletion(score, images, maps, classes, steps=steps, baseline="min", room=room)


def baseline_images(images: Float[Array, "b *size c"], baseline: Baseline) -> Float[Array, "b *size c"]:
    """What every pixel is replaced by.

    Raises:
        ValueError: an unknown name, or an array that does not broadcast.
    """
    if not isinstance(baseline, str):
        return jnp.broadcast_to(baseline.astype(images.dtype), images.shape)
    if baseline == "zero":
        return jnp.zeros_like(images)
    if baseline == "mean":
        return jnp.broadcast_to(images.mean(tuple(range(1, images.ndim - 1)), keepdims=True), images.shape)
    if baseline == "min":
        return jnp.broadcast_to(images.min(tuple(range(1, images.ndim)), keepdims=True), images.shape)
    if baseline == "blur":
        return blurred(images)
    raise ValueError(f"baseline {baseline!r} is not one of zero, mean, min, blur, or an array")


def blurred(images: Float[Array, "b *size c"]) -> Float[Array, "b *size c"]:
    """The images blurred as in RISE, with zeros around them: a product with a band matrix along each axis."""
    kernel, result = _rise_kernel(), images.astype(at_least_float32(images.dtype))
    for axis in range(1, images.ndim - 1):
        side = images.shape[axis]
        band = sum(np.diag(np.full(side - abs(far), kernel[far + 5]), far) for far in range(-5, 6) if abs(far) < side)
        product = jnp.tensordot(jnp.asarray(band, result.dtype), result, (1, axis), precision="highest")
        result = jnp.moveaxis(product, 0, axis)
    return result.astype(images.dtype)


def _curve(
    score: Score,
    before: Float[Array, "b *size c"],
    after: Float[Array, "b *size c"],
    maps: Float[Array, "b k *space"],
    classes: Int[Array, "b k"],
    steps: int,
    room: int,
) -> Curve:
    """The scores as the highest pixels of `before` become those of `after`."""
    ranked = ranks(over(before, maps))
    pixels = before[0, ..., 0].size
    counts = step_counts(pixels, steps)
    # The ends are the same for all maps of a picture.
    points = [clean_scores(score, images, classes)[..., None] for images in (before, after)]
    if inner := counts[1:-1]:

        def copy(which: Int[Array, ""], point: Int[Array, ""]) -> Float[Array, "b *size c"]:
            return jnp.where(first(ranked[:, which, ..., None], jnp.asarray(inner)[point]), after, before)

        points.insert(1, scores_of_changed(score, copy, classes, len(inner), room))
    scores = nan_where_unknown(jnp.concatenate(points, -1), maps)
    fractions = jnp.asarray(np.asarray(counts) / pixels, scores.dtype)
    return Curve(fractions, scores, jnp.trapezoid(scores, fractions[None, None], axis=-1))


def _part(change: Float[Array, "b k"], whole: Float[Array, "b k"]) -> Float[Array, "b k"]:
    """`change / whole`; 0 of nothing, NaN of what lies outside [0, 1]."""
    part = jnp.where(whole == 0, 0, change / jnp.where(whole == 0, 1, whole))
    return jnp.where((whole >= 0) & (whole <= 1), part, jnp.nan)


@functools.cache
def _rise_kernel() -> np.ndarray:
    """A Gaussian of sigma 5, cut at 20 pixels, whose tails are mirrored into 11 pixels, so that it sums to 1."""
    places = np.arange(-20, 21)
    weights = np.exp(-(places**2) / (2 * 5.0**2))
    mirrored = (places + 5) % 22
    mirrored = np.where(mirrored < 11, mirrored, 21 - mirrored)
    return np.bincount(mirrored, weights / weights.sum(), minlength=11)
