"""Maps of several layers as one: coarse ones say what is meant, fine ones where it ends."""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.maps import normalize_maps, upsample

Fusion = Literal["mean", "max", "product", "refine"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


def fuse(maps: Sequence[Float[Array, "*batch _ _"]], fusion: Fusion) -> Float[Array, "*batch h w"]:
    """One map of several.

    Layers have no unit in common, so that each map is scaled to [0, 1] first, what is negative being 0, and then
    resized bilinearly to the largest. `"refine"` scales none: see `refined`.

    Args:
        maps: of the same pictures and classes, of any sizes.
        fusion: how they are joined, place by place.
    """
    if fusion == "refine":
        return refined(maps)
    size = [max(each.shape[axis] for each in maps) for axis in (-2, -1)]
    stack = jnp.stack([upsample(normalize_maps(each), size, "bilinear") for each in maps])
    if fusion == "mean":
        return stack.mean(0)
    return stack.max(0) if fusion == "max" else stack.prod(0)


def refined(maps: Sequence[Float[Array, "*batch _ _"]]) -> Float[Array, "*batch h w"]:
    """The last map, made finer by each one before it (Englebert et al. 2022, Poly-CAM).

    From the last to the first, a map is divided by itself at the size of the one after it, which leaves only what is
    local, and multiplied by what all after it made. What is negative is 0; resizes are bilinear.

    Args:
        maps: of the same pictures and classes, the coarsest last.
    """
    joined = jax.nn.relu(maps[-1])
    for each in maps[-2::-1]:
        fine = jax.nn.relu(each)
        around = upsample(upsample(fine, joined.shape[-2:], "bilinear"), fine.shape[-2:], "bilinear")
        joined = fine / jnp.maximum(around, 1e-12) * upsample(joined, fine.shape[-2:], "bilinear")
    return joined
