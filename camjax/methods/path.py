"""Gradients gathered over several inputs: along a path from nothing, or over noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from camjax.core.canonical import scan
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.methods.clean import clean_pass
from camjax.methods.gradient import by_class, pulled_back
from camjax.methods.rules import Rule, hires_cam
from camjax.methods.tail import Look
from camjax.methods.target import Wanted, answer


@dataclasses.dataclass(frozen=True)
class Integrated:
    """Sundararajan et al. 2017 (integrated gradients): the gradients' mean on the way from zero, times what is there.

    At the input, zero is the mean colour that the network was trained with. The map's mean is the score less the score
    of zero, but for what the sum leaves of the integral.

    Attributes:
        steps: how many points of the way; those of Gauss and Legendre.
    """

    steps: int = 32

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail, outputs, scores, classes = clean_pass(look, wanted)
        pull = pulled_back(tail, wanted._replace(classes=classes))
        points, weights = np.polynomial.legendre.leggauss(self.steps)

        def add(total: Array, step: list[Array]) -> tuple[Array, None]:
            at, weight = step
            # The product is rounded, not the point of the way, which bfloat16 would move for all pixels alike.
            there = (tail.activations.astype(at.dtype) * at).astype(tail.activations.dtype)
            gradients, _ = pull(there)
            return total + weight * jax.vmap(tail.grid, 1, 1)(gradients), None

        clean = tail.grid(tail.activations)
        zeros = varying_like(jnp.zeros((*classes.shape, *clean.shape[1:]), clean.dtype), scores)
        way = [jnp.asarray(array, clean.dtype) for array in ((points + 1) / 2, weights / 2)]
        mean, _ = scan(add, zeros, way)
        return answer(outputs, scores, classes, by_class(hires_cam, clean, mean))


@dataclasses.dataclass(frozen=True)
class SmoothGradient:
    """Smilkov et al. 2017 (SmoothGrad): a rule of gradients that are averaged over noise on the picture.

    Every picture of a batch gets the same noise but for its size.

    Attributes:
        rule: from the clean picture's layer and the mean gradients to a map.
        samples: how many noisy copies.
        level: the noise's standard deviation, in parts of the distance from a picture's smallest value to its largest.
        seed: of the noise.
    """

    rule: Rule
    samples: int = 25
    level: float = 0.15
    seed: int = 0

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail, outputs, scores, classes = clean_pass(look, wanted)
        fixed = wanted._replace(classes=classes)

        def add(total: Array, key: Array) -> tuple[Array, None]:
            noisy = look.tail(self.noisy(look.images, key))
            gradients, _ = pulled_back(noisy, fixed)(noisy.activations)
            return total + jax.vmap(noisy.grid, 1, 1)(gradients), None

        clean = tail.grid(tail.activations)
        zeros = varying_like(jnp.zeros((*classes.shape, *clean.shape[1:]), clean.dtype), scores)
        total, _ = scan(add, zeros, self.noise_keys())
        return answer(outputs, scores, classes, by_class(self.rule, clean, total / self.samples))

    def noise_keys(self) -> Array:
        """One for each noisy copy."""
        return jax.random.split(jax.random.key(self.seed), self.samples)

    def noisy(self, images: Float[Array, "b *space c"], key: Array) -> Float[Array, "b *space c"]:
        """The images with noise."""
        axes = tuple(range(1, images.ndim))
        spread = images.max(axes, keepdims=True) - images.min(axes, keepdims=True)
        noise = jax.random.normal(key, (1, *images.shape[1:]), jnp.float32)
        return images + self.level * spread * noise.astype(images.dtype)
