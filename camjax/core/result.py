"""What an explanation is made of, as arrays."""

from typing import NamedTuple

from jaxtyping import Array, Float, Int


class CamResult(NamedTuple):
    """An explanation, a pytree of arrays.

    Attributes:
        logits: `(..., n)`, what the network gave; float32 for a linear head.
        classes: `(..., k)` int32, by falling score, or as asked for. 0 where the target is one score a picture.
        probabilities: `(..., k)` float32, at those k what the model's activation makes of all n logits: their softmax,
            or each one's sigmoid (see `camjax.Model.activation`); NaN where the target is not one score a class.
        maps: `(..., k, height, width)` float32, signed and in units of the score, or in [0, 1] if normalized.
    """

    logits: Float[Array, "..."]
    classes: Int[Array, "*batch k"]
    probabilities: Float[Array, "*batch k"]
    maps: Float[Array, "*batch k height width"]
