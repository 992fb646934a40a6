"""Smooth Grad-CAM++: Grad-CAM++ from gradients that are averaged over noise on the picture."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.canonical import scan
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.methods.clean import clean_pass
from camjax.methods.gradient import pulled_back
from camjax.methods.rules import over_space, sharpness, weighed
from camjax.methods.tail import Look
from camjax.methods.target import Wanted, answer


@dataclasses.dataclass(frozen=True)
class Smooth:
    """Omeiza et al. 2019: means over noisy copies of the gradients' squares, cubes and positive parts.

    The activations, and the classes, are those of the clean picture. Every picture of a batch gets the same noise, so
    that its map depends neither on its place in the batch nor on the batch's size.

    Attributes:
        samples: how many noisy copies.
        std: of the noise on the normalised picture.
        seed: of the noise.
        eps: see `camjax.methods.rules.grad_cam_plus_plus`, which this is without noise.
    """

    samples: int = 4
    std: float = 0.3
    seed: int = 0
    eps: float = 1e-6

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail, outputs, scores, classes = clean_pass(look, wanted)
        fixed = wanted._replace(classes=classes)

        def add(sums: tuple[Array, Array, Array], key: Array) -> tuple[tuple[Array, Array, Array], None]:
            noisy = look.tail(self.noisy(look.images, key))
            gradients = jax.vmap(noisy.grid, 1, 1)(pulled_back(noisy, fixed)(noisy.activations)[0])
            moments = (gradients**2, gradients**3, jax.nn.relu(gradients))
            return jax.tree.map(jnp.add, sums, moments), None

        clean = tail.grid(tail.activations)
        zeros = varying_like(jnp.zeros((*classes.shape, *clean.shape[1:]), clean.dtype), scores)
        sums, _ = scan(add, (zeros, zeros, zeros), self.noise_keys())
        means = [total / self.samples for total in sums]
        maps = jax.vmap(jax.vmap(self._map, (None, 0, 0, 0)))(clean, *means)
        return answer(outputs, scores, classes, maps)

    def noise_keys(self) -> Array:
        """One for each noisy copy."""
        return jax.random.split(jax.random.key(self.seed), self.samples)

    def noisy(self, images: Float[Array, "b *space c"], key: Array) -> Float[Array, "b *space c"]:
        """The images, all with the same noise."""
        noise = self.std * jax.random.normal(key, (1, *images.shape[1:]), jnp.float32)
        return images + noise.astype(images.dtype)

    def _map(self, activations: Array, squares: Array, cubes: Array, positive: Array) -> Array:
        alphas = sharpness(activations, squares, cubes, self.eps)
        return weighed(activations, over_space(alphas * positive))
