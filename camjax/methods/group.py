"""Group-CAM: groups of weighed channels as masks, over a picture whose hidden parts are blurred."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from camjax.core.canonical import scan
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.methods.gradient import pulled_back
from camjax.methods.loops import at_a_time, chunks_of, scores_of_images
from camjax.methods.own import own_scores
from camjax.methods.score import mask
from camjax.methods.tail import Look
from camjax.methods.target import Target, Wanted, answer, scores_at


@dataclasses.dataclass(frozen=True)
class Group:
    """Zhang et al. 2021 (Group-CAM): each group's mask, weighed by how far it raises a blurred picture's score.

    Channels times their mean gradients are summed in groups of neighbours. What is positive in a sum, and above all but
    a part of its places, is the group's mask; behind it the picture is blurred. Masks depend on the class, so each
    class has passes of its own. The map is as large as the picture.

    Attributes:
        groups: how many; each channel its own, where there are fewer channels.
        dropped: the part of a group's places that is not in its mask.
        kernel: rows and columns of the blur, odd; a smaller picture is blurred with as much as it can mirror.
        std: of the blur, in pixels.
        target: whose rise weighs the masks; the gradients are those of the score that is explained. None is that too.
    """

    groups: int = 32
    dropped: float = 0.7
    kernel: int = 51
    std: float = 50.0
    target: Target | None = "probability"

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail = look.tail(look.images)
        gradients, seen = pulled_back(tail, wanted)(tail.activations)
        weights = jax.vmap(tail.grid, 1, 1)(gradients)
        weights = weights.mean(tuple(range(2, weights.ndim - 1)))  # (b, k, c)
        grid = tail.grid(tail.activations)
        target = wanted.or_own(self.target)
        size, (b, k, channels) = look.images.shape[1:-1], weights.shape
        members = jnp.asarray(self.members(channels), grid.dtype)
        blurred = self.blurred(look.images)
        base = scores_at(scores_of_images(look, target, blurred[:, None])[0], seen.classes)

        def add(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
            numbers, real = chunk
            m = len(numbers)
            shares = weights[:, :, None] * members[numbers][None, None]  # (b, k, m, c)
            sums = jnp.einsum("b...c,bkmc->bkm...", grid, shares, precision="highest")
            masks = mask(self.kept(sums, len(size)), size)
            shown = masks.reshape(b, k * m, *size, 1).astype(look.images.dtype)
            mixed = look.images[:, None] * shown + blurred[:, None] * (1 - shown)
            found = own_scores(look, target, mixed, jnp.repeat(seen.classes, m, 1)).reshape(b, k, m)
            rise = (found - base[..., None]) * real.astype(found.dtype)[None, None]
            return total + jnp.einsum("bkm,bkm...->bk...", rise, masks, precision="highest"), None

        zeros = varying_like(jnp.zeros((b, k, *size), seen.scores.dtype), seen.scores)
        chunks = chunks_of(len(members), max(1, at_a_time(look) // k))
        total, _ = scan(add, zeros, chunks)
        return answer(seen.outputs, seen.scores, seen.classes, total)

    def members(self, channels: int) -> Float[np.ndarray, "groups c"]:
        """1 where a channel belongs to a group; all groups but the last have as many."""
        each = math.ceil(channels / self.groups)
        group = np.arange(channels) // each
        return (group[None] == np.arange(group[-1] + 1)[:, None]).astype(np.float32)

    def kept(self, sums: Float[Array, "*batch_and_space"], axes: int) -> Float[Array, "*batch_and_space"]:
        """What is positive and above the quantile of each map, whose places are so many last axes, else 0.

        A map with a NaN, whose quantile is NaN, is NaN.
        """
        positive = jax.nn.relu(sums)
        limit = jnp.quantile(positive, self.dropped, axis=tuple(range(-axes, 0)), keepdims=True)
        return jnp.where(positive <= limit, 0, jnp.where(jnp.isnan(limit), jnp.nan, positive))

    def blurred(self, images: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """Pictures under a Gaussian, mirrored at their edges."""
        for axis in range(1, images.ndim - 1):
            smooth = jnp.asarray(self._smoothing(images.shape[axis]), images.dtype)
            images = jnp.moveaxis(jnp.tensordot(images, smooth, (axis, 1), precision="highest"), -1, axis)
        return images

    def _smoothing(self, side: int) -> Float[np.ndarray, "side side"]:
        """Each pixel's shares in each, along an axis."""
        reach = min(self.kernel // 2, side - 1)
        steps = np.arange(-reach, reach + 1)
        shares = np.exp(-0.5 * (steps / self.std) ** 2)
        places = np.abs(np.arange(side)[:, None] + steps[None])
        places = np.where(places >= side, 2 * (side - 1) - places, places)
        matrix = np.zeros((side, side))
        np.add.at(matrix, (np.arange(side)[:, None], places), shares / shares.sum())
        return matrix.astype(np.float32)
