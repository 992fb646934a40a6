"""Score-CAM and its kin: each channel weighed by the score of the picture seen through it."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from camjax.core.maps import min_max_scaled, resize_space
from camjax.core.result import CamResult
from camjax.methods.clean import clean_pass
from camjax.methods.loops import scores_of_copies
from camjax.methods.rules import weighed
from camjax.methods.tail import Look
from camjax.methods.target import Wanted, answer, scores_at

Mask = Callable[[Float[Array, "*batch_and_space"], tuple[int, ...]], Float[Array, "*batch_and_size"]]
"""`mask(activations, size)`: a mask of each channel, as large as the pictures."""


def mask(activations: Float[Array, "*batch_and_space"], size: tuple[int, ...]) -> Float[Array, "*batch_and_size"]:
    """Channels as masks: resized bilinearly, then each scaled to [0, 1].

    A channel that is constant but for rounding hides everything, and one with a NaN or an infinity makes everything
    NaN.

    Args:
        activations: of one channel each.
        size: (height, width) of the pictures; as many sides as a channel has axes.
    """
    return min_max_scaled(resize_space(activations, size), tuple(range(-len(size), 0)))


@dataclasses.dataclass(frozen=True)
class Score:
    """Wang et al. 2020 (Score-CAM), Wang et al. 2020 (SS-CAM), Naidu et al. 2020 (IS-CAM).

    Every channel, as a mask, is laid over the picture; the channels' weights are the softmax, over the channels, of the
    scores of what is left. SS-CAM takes the mean score of masks with noise, IS-CAM that of masks times coefficients.
    The map has no place for a bias, and is in units of activations.

    Attributes:
        coefficients: of the masks, one pass for each.
        samples: how many masks with noise, for each coefficient.
        std: of the noise on a mask that lies in [0, 1].
        seed: of the noise, which is the same for every picture and channel.
        mask: from a channel to what it lets through.
    """

    coefficients: tuple[float, ...] = (1.0,)
    samples: int = 1
    std: float = 0.0
    seed: int = 0
    mask: Mask = mask

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail, outputs, scores, classes = clean_pass(look, wanted)
        grid = tail.grid(tail.activations)
        channels, variants = grid.shape[-1], len(self.coefficients) * self.samples

        def copies(numbers: Int[Array, " m"]) -> Float[Array, "b m *space c"]:
            chosen = jnp.moveaxis(jnp.take(grid, numbers // variants, axis=-1), -1, 1)
            masks = self.variant(self.mask(chosen, look.images.shape[1:-1]), numbers % variants)
            return look.images[:, None] * masks[..., None].astype(look.images.dtype)

        found = scores_of_copies(look, wanted.target, copies, channels * variants)
        found = found.reshape(channels, variants, *scores.shape).mean(1)
        weights = jax.nn.softmax(scores_at(found, classes), axis=0)  # (channels, b, k)
        maps = jax.vmap(jax.vmap(weighed, (None, 1)), (0, 1))(grid, weights)
        return answer(outputs, scores, classes, maps)

    def variant(self, masks: Float[Array, "b m *space"], numbers: Int[Array, " m"]) -> Float[Array, "b m *space"]:
        """The masks, each times the coefficient and with the noise of the pass that its number stands for."""
        coefficients = jnp.asarray(self.coefficients, masks.dtype)[numbers // self.samples]
        masks = masks * jnp.expand_dims(coefficients, (0, *range(2, masks.ndim)))
        if not self.std:
            return masks
        keys = jax.random.split(jax.random.key(self.seed), len(self.coefficients) * self.samples)[numbers]
        noise = jax.vmap(lambda key: jax.random.normal(key, masks.shape[2:], jnp.float32))(keys)
        return masks + self.std * noise.astype(masks.dtype)[None]
