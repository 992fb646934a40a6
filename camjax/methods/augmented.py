"""Test-time augmentation: any method's map as the mean over changed pictures."""

import dataclasses
import itertools

import jax.numpy as jnp
from jax import Array

from camjax.core.canonical import one_by_one
from camjax.core.result import CamResult
from camjax.methods.method import Explain, Method
from camjax.methods.registry import find_method
from camjax.methods.tail import Look
from camjax.methods.target import Wanted


@dataclasses.dataclass(frozen=True)
class Augmented:
    """The mean map of a picture, its mirror image, and both with less and more contrast.

    Logits and classes are the picture's own. pytorch-grad-cam's `aug_smooth` changes pictures alike.

    Attributes:
        explain: the method.
        mirror: whether mirror images are explained too, and their maps turned back.
        contrasts: what normalised pictures are multiplied with.
    """

    explain: Explain
    mirror: bool = True
    contrasts: tuple[float, ...] = (0.9, 1.0, 1.1)

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        clean = self.explain(look, wanted)
        fixed = wanted._replace(classes=clean.classes)
        pairs = list(itertools.product((False, True) if self.mirror else (False,), self.contrasts))
        mirrored, contrasts = (jnp.asarray(column) for column in zip(*pairs, strict=True))

        def maps_of(change: tuple[Array, Array]) -> Array:
            turned, contrast = change
            images = jnp.where(turned, jnp.flip(look.images, -2), look.images) * contrast.astype(look.images.dtype)
            maps = self.explain(look._replace(images=images), fixed).maps
            return jnp.where(turned, maps[..., ::-1], maps)

        maps = one_by_one(maps_of, (mirrored, contrasts.astype(clean.maps.dtype)))
        return clean._replace(maps=maps.mean(0))


def augmented(method: str | Method, *, mirror: bool = True, contrasts: tuple[float, ...] = (0.9, 1.0, 1.1)) -> Method:
    """A method whose maps are means over changed pictures, for `make_explainer`.

    It costs a pass of the method for each of them, and one for the picture itself.

    Args:
        method: as `make_explainer` takes it; for `"cam"`, say `"grad-cam"`, which is the same where CAM holds.
        mirror: whether mirror images are explained too.
        contrasts: what normalised pictures are multiplied with.

    Raises:
        ValueError: the method is CAM, or there are no contrasts.
    """
    found = find_method(method)
    if found.explain is None:
        raise ValueError("cam has no changed pictures; grad-cam gives the same maps where cam holds")
    if not contrasts:
        raise ValueError("contrasts are what pictures are multiplied with, such as (0.9, 1.0, 1.1), not none")
    count = (1 + mirror) * len(contrasts)
    return dataclasses.replace(
        found,
        what=f"{found.what}; the mean over {count} changed pictures",
        explain=Augmented(found.explain, mirror, tuple(contrasts)),
        passes=f"{count + 1} times: {found.passes}",
    )
