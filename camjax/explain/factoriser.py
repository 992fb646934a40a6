"""From uint8 pictures to the concepts of a layer in one compiled program."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from camjax.core.maps import Interpolation, Size
from camjax.core.model import Model
from camjax.explain.explainer import Explainer, Images, make_explainer
from camjax.methods.concepts import Concepts, Factorise
from camjax.methods.factorise import checked_concepts
from camjax.methods.method import Method
from camjax.methods.target import Target


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factoriser:
    """The compiled function from pictures to a layer's concepts; `make_factoriser` makes one.

    It is a pytree whose leaves are the model's parameters, as an explainer is.

    Attributes:
        explainer: what it is made of.
    """

    explainer: Explainer

    def __call__(self, images: Images) -> Concepts:
        """Finds the concepts of each picture.

        Args:
            images: uint8 `(b, h, w, 3)` in [0, 255], red, green, blue, of the size that the network is to see.

        Returns:
            The concepts, with a leading batch axis. A sharded batch stays sharded.

        Raises:
            ValueError: the images are of another shape or dtype.
            MethodError: at that size the layer has too few places for so many concepts.
        """
        found: Concepts = self.explainer.run(images)
        return found

    @property
    def layer(self) -> str:
        """The layer that is factorised."""
        return self.explainer.layer


def make_factoriser(
    model: Model,
    *,
    concepts: int = 5,
    layer: str | None = None,
    target: Target = "logit",
    top_k: int | None = None,
    size: Size | Literal["input"] | None = "input",
    interpolation: Interpolation = "bilinear",
    dtype: DTypeLike = jnp.float32,
) -> Factoriser:
    """The one compiled function from pictures to the concepts of a layer (Collins et al. 2018).

    No class is asked for: the activations are factorised without negative numbers, each picture's by themselves, and
    the network then says which classes it sees in each concept; see `camjax.methods.concepts.Factorise` for how.

    Args:
        model: as for `camjax.make_explainer`.
        concepts: how many, no more than the layer has places or channels.
        layer: the layer that is factorised, by its name; None is the model's own, or the last on whose positions the
            scores depend.
        target: what the classes of a concept are ranked by; see `camjax.make_explainer`.
        top_k: how many classes of each concept; None is five, or all of them where there are fewer.
        size: of the maps: `"input"` for the pictures' own, a side, `(height, width)`, or None for the layer's.
        interpolation: how maps are resized; see `camjax.upsample`. Bicubic ones overshoot, below 0 too.
        dtype: what the network computes in, `float32` or `bfloat16`. The factors are float32 either way.

    Returns:
        `factoriser(images)`; see `Factoriser`.

    Raises:
        ValueError: an option is not one of its kind; see `camjax.make_explainer`.
        LayerError: there is no such layer, it does not lie on the image, or the scores do not depend on its positions.
        MethodError: `concepts` is no positive whole number.
    """
    explain: Any = Factorise(checked_concepts(concepts))
    method = Method("concepts", "what a layer is made of", "Collins et al. 2018, arXiv:1806.10206", explain)
    explainer = make_explainer(
        model,
        method=method,
        layer=layer,
        target=target,
        top_k=top_k,
        size=size,
        interpolation=interpolation,
        dtype=dtype,
    )
    return Factoriser(explainer)
