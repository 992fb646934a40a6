"""Which side of a signed map is shown: what speaks for a class, what speaks against it, or both."""

from typing import get_args

import jax
from jax import Array
from jaxtyping import Float

from camjax.choices import Sign

SIGNS: tuple[Sign, ...] = get_args(Sign)


def of_sign(maps: Float[Array, "*batch h w"], sign: Sign) -> Float[Array, "*batch h w"]:
    """The maps as they are, the ReLU of them, or the ReLU of their negatives.

    The ReLU that papers end with is applied at the layer's resolution, before any resize, so it is here too. Bicubic
    resizing can undershoot zero again.

    Args:
        maps: raw.
        sign: which side.
    """
    if sign == "both":
        return maps
    return jax.nn.relu(maps if sign == "positive" else -maps)
