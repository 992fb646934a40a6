"""Parts of the picture hidden: RISE's random masks and a sliding window. Their maps are as large as the picture."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from camjax.core.canonical import scan
from camjax.core.maps import resize_space
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.methods.clean import clean_pass
from camjax.methods.loops import at_a_time, chunks_of, scores_of_images
from camjax.methods.tail import Look
from camjax.methods.target import Wanted, answer, scores_at

Masks = Callable[[Int[Array, " m"]], Float[Array, " m *space"]]
"""The masks of some numbers, between 0 and 1."""


def mean_over_masks(look: Look, wanted: Wanted, count: int, masks: Masks, *, hides: bool) -> CamResult:
    """Each pixel's mean, weighed by the masks, of what they do to the score.

    Args:
        look: the network and the pictures.
        wanted: what is explained.
        count: how many masks.
        masks: makes them, a few at a time.
        hides: whether a mask hides the picture, and the score falls, or shows it, and there is a score.
    """
    _, outputs, scores, classes = clean_pass(look, wanted)
    size = look.images.shape[1:-1]

    def add(sums: tuple[Array, Array], chunk: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        numbers, real = chunk
        mask = masks(numbers).astype(scores.dtype)
        shown = ((1 - mask) if hides else mask)[None, ..., None].astype(look.images.dtype)
        found = scores_at(scores_of_images(look, wanted.target, look.images[:, None] * shown), classes)
        effect = scores_at(scores, classes)[None] - found if hides else found
        mask = mask * jnp.expand_dims(real.astype(mask.dtype), tuple(range(1, mask.ndim)))
        return (sums[0] + jnp.einsum("mbk,m...->bk...", effect, mask, precision="highest"), sums[1] + mask.sum(0)), None

    zeros = varying_like(jnp.zeros((*classes.shape, *size), scores.dtype), scores)
    nothing = jnp.zeros(size, scores.dtype)
    (total, weight), _ = scan(add, (zeros, nothing), chunks_of(count, at_a_time(look)))
    return answer(outputs, scores, classes, total / jnp.expand_dims(jnp.where(weight > 0, weight, 1), (0, 1)))


@dataclasses.dataclass(frozen=True)
class Rise:
    """Petsiuk et al. 2018 (RISE): the mean of random masks, each weighed by the score of what it leaves of the picture.

    A mask is a coarse grid of zeros and ones, resized bilinearly and shifted. The mean is over the masks that show a
    pixel, so that a map is in units of the score, and a score that nothing changes gives a constant map. The paper
    takes probabilities: `target="probability"`.

    Attributes:
        samples: how many masks; the same for every picture.
        cells: of the grid, along each axis.
        shown: the part of its cells that are shown.
        seed: of the masks.
    """

    samples: int = 1000
    cells: int = 7
    shown: float = 0.5
    seed: int = 0

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        masks = jax.vmap(lambda number: self.mask(number, look.images.shape[1:-1]))
        return mean_over_masks(look, wanted, self.samples, masks, hides=False)

    def mask(self, number: Int[Array, ""], size: tuple[int, ...]) -> Float[Array, "*space"]:
        """One of the masks, between 0 and 1."""
        cells, shift = jax.random.split(jax.random.fold_in(jax.random.key(self.seed), number))
        # The dtypes are said, so that a seed's masks are the same in x64 mode.
        grid = jax.random.bernoulli(cells, jnp.float32(self.shown), (self.cells,) * len(size)).astype(jnp.float32)
        cell = [math.ceil(side / self.cells) for side in size]
        large = resize_space(grid, tuple((self.cells + 1) * side for side in cell))
        start = jax.random.randint(shift, (len(size),), 0, jnp.asarray(cell, jnp.int32), jnp.int32)
        return lax.dynamic_slice(large, start, size)


@dataclasses.dataclass(frozen=True)
class Occlusion:
    """Zeiler & Fergus 2014: how far the score falls behind a window that is moved over the picture.

    A pixel has the mean of the falls of all windows that hide it. What is hidden has the mean colour that the network
    was trained with.

    Attributes:
        window: the window's sides, in parts of the picture's.
        step: by how much it is moved, likewise.
    """

    window: float = 1 / 7
    step: float = 1 / 14

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        size = look.images.shape[1:-1]
        corners = self.corners(size)
        return mean_over_masks(
            look, wanted, len(corners), lambda numbers: self.hidden(corners[numbers], size), hides=True
        )

    def corners(self, size: tuple[int, ...]) -> Int[Array, "windows axes"]:
        """The first corner of each window, upper left; the last ones end at the picture's edge."""
        starts = []
        for side, extent in zip(size, self._extent(size), strict=True):
            last, step = side - extent, max(1, round(self.step * side))
            starts.append(jnp.minimum(jnp.arange(math.ceil(last / step) + 1) * step, last))
        return jnp.stack([each.ravel() for each in jnp.meshgrid(*starts, indexing="ij")], -1)

    def hidden(self, corners: Int[Array, "m axes"], size: tuple[int, ...]) -> Float[Array, " m *space"]:
        """1 where a window hides the picture, 0 elsewhere."""
        inside = [
            (jnp.arange(side)[None] >= start[:, None]) & (jnp.arange(side)[None] < start[:, None] + extent)
            for side, extent, start in zip(size, self._extent(size), corners.T, strict=True)
        ]
        product: Callable[..., Array] = jax.vmap(lambda *sides: functools.reduce(jnp.multiply, jnp.ix_(*sides)))
        return product(*(each.astype(jnp.float32) for each in inside))

    def _extent(self, size: tuple[int, ...]) -> list[int]:
        return [max(1, round(self.window * side)) for side in size]
