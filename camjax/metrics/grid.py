"""The grid pointing game (Boehle et al. 2021): collages of pictures, and whether a class's map lies on its own picture.

It needs nobody's boxes: whoever makes the collage knows where everything is. Chance is `1 / n^2`.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Shaped

from camjax.metrics.localisation import energy_pointing_game


def collages(
    pictures: Shaped[Array | np.ndarray, "all h w c"], n: int
) -> Shaped[Array | np.ndarray, "b height width c"]:
    """Puts every n^2 pictures together, row by row.

    Args:
        pictures: of any dtype; a multiple of n^2.
        n: rows and columns of a collage.

    Returns:
        n times as high and wide.

    Raises:
        ValueError: there are not enough pictures for the last collage.
    """
    count, height, width, channels = pictures.shape
    if n < 1 or count % n**2:
        raise ValueError(f"{count} pictures are no collages of {n} x {n}")
    cells = pictures.reshape(-1, n, n, height, width, channels)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(-1, n * height, n * width, channels)


def cells(n: int, size: tuple[int, int]) -> Bool[np.ndarray, "cells h w"]:
    """The mask of each picture in a map of that size; a pixel that several share is that one's with its centre."""
    rows, columns = ((np.arange(side) + 0.5) * n // side for side in size)
    return np.stack([(rows == y)[:, None] & (columns == x)[None] for y in range(n) for x in range(n)])


def grid_pointing_game(maps: Float[Array, "b cells h w"], n: int) -> Float[Array, "b cells"]:
    """The share of each map's positive mass that lies on its own picture, in [0, 1]; higher is better.

    Args:
        maps: of collages, one for the class of each picture, in their order.
        n: rows and columns of a collage.

    Returns:
        0 for a map without mass, NaN for one with a NaN.

    Raises:
        ValueError: there are not n^2 maps.
    """
    if maps.shape[1] != n**2:
        raise ValueError(f"{maps.shape[1]} maps are not one for each picture of {n} x {n}")
    own = jnp.asarray(cells(n, (maps.shape[2], maps.shape[3])))
    return energy_pointing_game(maps, jnp.broadcast_to(own[None], maps.shape))
