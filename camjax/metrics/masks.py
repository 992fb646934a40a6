"""Pixels in the order of a map, and masks of the first so many of them. Arrays are `(b, k, *space)`."""

import math

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from camjax.core.maps import normalize_maps, resize_space


def ranks(maps: Float[Array, "b k *space"]) -> Int[Array, "b k *space"]:
    """Each pixel's place in its map, by falling value: 0 is the largest.

    Among equal pixels the first comes first, row by row, so that ranks are a permutation whatever the map; NaN is last.
    """
    flat = maps.reshape(*maps.shape[:2], -1)
    order = jnp.argsort(-flat, axis=-1, stable=True)  # descending=True would put NaN first
    return jnp.argsort(order, axis=-1).astype(jnp.int32).reshape(maps.shape)


def first(ranked: Int[Array, "*some"], count: Int[Array, ""] | int) -> Bool[Array, "*some"]:
    """The `count` pixels of highest value.

    Args:
        ranked: see `ranks`.
        count: may be traced.
    """
    return ranked < count


def step_counts(pixels: int, steps: int) -> tuple[int, ...]:
    """How many pixels are changed at each point of a curve: equal steps, a shorter one last, none first and all last.

    Args:
        pixels: of a picture.
        steps: at most so many; there are fewer where the rounded-up step needs fewer.

    Raises:
        ValueError: there is no step.
    """
    if steps < 1:
        raise ValueError(f"steps must be a positive whole number, not {steps}")
    return (*range(0, pixels, math.ceil(pixels / steps)), pixels)


def over(images: Float[Array, "b *size c"], maps: Float[Array, "b k *space"]) -> Float[Array, "b k *size"]:
    """The maps as large as the pictures: bilinear, as they are where they have that size."""
    size = images.shape[1:-1]
    return maps if maps.shape[2:] == size else resize_space(maps, size)


def as_masks(
    images: Float[Array, "b height width c"], maps: Float[Array, "b k h w"]
) -> Float[Array, "b k height width"]:
    """The maps as masks: what is positive in them, each scaled to [0, 1], then as large as the pictures."""
    return over(images, normalize_maps(maps))


def nan_where_unknown(values: Float[Array, "b k *rest"], maps: Float[Array, "b k *space"]) -> Float[Array, "b k *rest"]:
    """The values; NaN for a map that has a NaN."""
    unknown = jnp.isnan(maps).any(tuple(range(2, maps.ndim)))
    return jnp.where(jnp.expand_dims(unknown, tuple(range(2, values.ndim))), jnp.nan, values)
