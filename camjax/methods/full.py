"""FullGrad: what the input and every bias of the network contribute to a score, place by place."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from camjax.core.biases import biased
from camjax.core.canonical import one_by_one
from camjax.core.maps import min_max_scaled, resize_space
from camjax.core.precision import at_least_float32
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.methods.gradient import one_hot
from camjax.methods.tail import Look
from camjax.methods.target import Wanted, answer, chosen_classes, score_table


@dataclasses.dataclass(frozen=True)
class FullGrad:
    """Srinivas & Fleuret 2019 (FullGrad): the sizes of input times gradient and of each bias times its gradient.

    Each of them is scaled to [0, 1], resized to the input and summed over its channels, and all are added. Biases are
    found in the network's program, so none is missed; those of its last layer, which lie at no place, are left out.
    camjax's own networks are explained with their normalisations folded, where a normalisation's bias is one; elsewhere
    its mean and its shift are two.

    Attributes:
        by_channel: scale every channel by itself, as pytorch-grad-cam does, and not all channels of a picture alike.
    """

    by_channel: bool = False

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail = look.tail(look.images)
        network = biased(tail.run, tail.activations)

        def scores_with(x: Array, changes: list[Array]) -> tuple[Array, Array]:
            outputs = network.run(x, changes)
            return score_table(outputs, wanted.target), outputs

        zeros = [varying_like(jnp.zeros_like(bias), tail.activations) for bias in network.biases]
        scores, backward, outputs = jax.vjp(scores_with, tail.activations, zeros, has_aux=True)
        fixed = lax.stop_gradient(scores)
        classes = chosen_classes(fixed, wanted)
        space = tail.grid(tail.activations).shape[1:-1]

        def explain(cotangent: Float[Array, "b n"]) -> Float[Array, " b *space"]:
            slope, slopes = backward(cotangent)
            terms = [
                bias * each for bias, each in zip(network.biases, slopes, strict=True) if bias.ndim == len(space) + 2
            ]
            maps = [self.scaled(tail.grid(tail.activations * slope)), *map(self.scaled, terms)]
            return jnp.stack([resize_space(each, space) for each in maps]).sum(0)

        # One class after the other: the gradients of all layers are as large as the whole network's activations.
        rows = varying_like(jnp.moveaxis(one_hot(fixed, classes), 1, 0), scores)
        maps = jnp.moveaxis(one_by_one(explain, rows), 0, 1)
        return answer(outputs, scores, classes, maps)

    def scaled(self, term: Float[Array, "b *space c"]) -> Float[Array, " b *space"]:
        """The sizes of a term in [0, 1], summed over the channels; see `camjax.core.maps.min_max_scaled`."""
        sizes = jnp.abs(term.astype(at_least_float32(term.dtype)))
        return min_max_scaled(sizes, tuple(range(1, term.ndim - 1 if self.by_channel else term.ndim))).sum(-1)
