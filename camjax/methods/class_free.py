"""Methods that look at the activations only: one map a picture, the same for every class."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.result import CamResult
from camjax.methods.clean import clean_pass
from camjax.methods.components import first_component, first_kernel_component
from camjax.methods.rules import over_space, places, weighed
from camjax.methods.tail import Look
from camjax.methods.target import Wanted, answer

ClassFreeRule = Callable[[Float[Array, "*space c"]], Float[Array, "*space"]]


def eigen_cam(activations: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Muhammad & Yeasin 2020: the first principal component of the activations."""
    return first_component(activations)


def kpca_cam(activations: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Karmani et al. 2024: their first principal component in the space of a sigmoid kernel."""
    return first_kernel_component(activations)


def fem(activations: Float[Array, "*space c"], deviations: float = 2.0) -> Float[Array, "*space"]:
    """Fuad et al. 2020: each channel weighed by how many of its places stand out.

    Args:
        activations: the layer's.
        deviations: how many standard deviations above the channel's mean a place stands out.
    """
    space = tuple(range(activations.ndim - 1))
    mean, deviation = activations.mean(space, keepdims=True), activations.std(space, keepdims=True)
    standing_out = (activations > mean + deviations * deviation).astype(activations.dtype)
    return weighed(activations, over_space(standing_out) / places(activations))


@dataclasses.dataclass(frozen=True)
class ClassFree:
    """Explains by a rule of the activations.

    Attributes:
        rule: from one image's activations to its map.
    """

    rule: ClassFreeRule

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """One forward pass, one map a picture; see `camjax.methods.method.Explain`."""
        tail, outputs, scores, chosen = clean_pass(look, wanted)
        maps = jax.vmap(self.rule)(tail.grid(tail.activations))
        every = jnp.broadcast_to(maps[:, None], (*chosen.shape, *maps.shape[1:]))
        return answer(outputs, scores, chosen, every)
