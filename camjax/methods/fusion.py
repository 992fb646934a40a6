"""Maps of several layers as one: coarse ones say what is meant, fine ones where it ends."""

from collections.abc import Sequence
from typing import Literal, get_args

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.maps import normalize_maps, upsample

Fusion = Literal["mean", "max", "product"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


def fuse(maps: Sequence[Float[Array, "*batch _ _"]], fusion: Fusion) -> Float[Array, "*batch h w"]:
    """One map of several.

    Layers have no unit in common, so that each map is scaled to [0, 1] first, what is negative being 0, and then
    resized bilinearly to the largest.

    Args:
        maps: of the same pictures and classes, of any sizes.
        fusion: how they are joined, place by place.
    """
    size = [max(each.shape[axis] for each in maps) for axis in (-2, -1)]
    stack = jnp.stack([upsample(normalize_maps(each), size, "bilinear") for each in maps])
    if fusion == "mean":
        return stack.mean(0)
    return stack.max(0) if fusion == "max" else stack.prod(0)
