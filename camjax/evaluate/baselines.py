"""Maps that know nothing of the network: a metric that cannot tell a method from these shows itself."""

import zlib
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from camjax.core.maps import upsample

CELLS = 7
"""Rows and columns of the random map, as coarse as the last layer of most networks."""
SPREAD = 0.25
"""Standard deviation of the centre's Gaussian, as a part of each side."""

Baseline = Callable[[Sequence[str], int, tuple[int, int]], Float[np.ndarray, "b k h w"]]
"""`baseline(pictures, k, (h, w))`: k maps for each picture, of those names."""


def random(pictures: Sequence[str], k: int, size: tuple[int, int]) -> Float[np.ndarray, "b k h w"]:
    """Uniform noise, another for each picture and map, always the same for the same name."""
    noise = [
        np.random.default_rng(zlib.crc32(name.encode(errors="replace"))).random((k, CELLS, CELLS)) for name in pictures
    ]
    return np.asarray(upsample(jnp.asarray(np.stack(noise), jnp.float32), size, "bilinear"))


def centre(pictures: Sequence[str], k: int, size: tuple[int, int]) -> Float[np.ndarray, "b k h w"]:
    """A Gaussian in the middle, where photographers put things."""
    rows, columns = (np.exp(-((((np.arange(side) + 0.5) / side - 0.5) / SPREAD) ** 2) / 2) for side in size)
    one = np.outer(rows, columns).astype(np.float32)
    return np.broadcast_to(one, (len(pictures), k, *size))


def uniform(pictures: Sequence[str], k: int, size: tuple[int, int]) -> Float[np.ndarray, "b k h w"]:
    """The same everywhere."""
    return np.ones((len(pictures), k, *size), np.float32)


BASELINES: dict[str, Baseline] = {"random": random, "centre": centre, "uniform": uniform}
