"""The contract everything hangs on: a classifier is plain parameters and two pure functions.

CAM, rendering and batch code know only this, so a network written in NNX, Linen, Equinox or bare JAX fits alike:

    classifier = Classifier(params, features, head, pooled="layer4", linear_head=lambda p: LinearHead(p["w"], p["b"]))
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from camjax.images.preprocess import Preprocess

Params = dict[str, Any]
"""A nested dict of arrays."""


class LinearHead(NamedTuple):
    """The linear layer after global average pooling: `logits = mean(features) @ kernel + bias`.

    Attributes:
        kernel: `(c, n)`, one column a class.
        bias: `(n,)`.
    """

    kernel: Float[Array, "c n"]
    bias: Float[Array, " n"]


class Stage(NamedTuple):
    """One step of a network.

    Attributes:
        name: of its features.
        apply: `apply(params, x) -> (b, h2, w2, c2)` from the features of the stage before, or from the images.
    """

    name: str
    apply: Callable[[Params, Array], Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """An image classifier with a globally pooled linear head.

    Attributes:
        params: nested dict of arrays.
        features: `features(params, images) -> {name: (b, h, w, c)}` from normalised NHWC images. Pure: under
            `jax.jit`, what the caller does not use is not computed.
        head: `head(params, features) -> logits (b, n)`.
        pooled: the name of the features that global average pooling and the linear head read.
        linear_head: `linear_head(params) -> LinearHead`.
        stages: what `features` does, step by step, where the network tells; a large batch can then go in parts.
        prepare: `prepare(params, dtype, platform)` gives a faster equal of this classifier; see
            `camjax.core.inference.for_inference`. Whoever replaces `features` replaces or removes these two as well.
    """

    params: Params
    features: Callable[[Params, Array], dict[str, Array]]
    head: Callable[[Params, dict[str, Array]], Array]
    pooled: str
    linear_head: Callable[[Params], LinearHead]
    stages: tuple[Stage, ...] = ()
    prepare: Callable[[Params, DTypeLike, str], "Classifier"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A classifier with what its weights were trained with.

    Attributes:
        classifier: parameters and functions.
        preprocess: how a picture becomes the network's input.
        labels: the classes' names in the order of the logits.
        name: what it is called in tables and files.
        architecture: the family and configuration that camjax's own weight file is rebuilt from; empty for a network
            that is not camjax's.
        origin: where the weights came from: source, file, sha256, licence, as far as known.
    """

    classifier: Classifier
    preprocess: Preprocess = dataclasses.field(default_factory=Preprocess)
    labels: tuple[str, ...] = ()
    name: str = "model"
    architecture: dict[str, Any] = dataclasses.field(default_factory=dict)
    origin: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def params(self) -> Params:
        """The classifier's parameters."""
        return self.classifier.params

    def features(self, params: Params, images: Array) -> dict[str, Array]:
        """The classifier's features; see `Classifier`."""
        return self.classifier.features(params, images)

    def head(self, params: Params, features: dict[str, Array]) -> Array:
        """The classifier's logits; see `Classifier`."""
        return self.classifier.head(params, features)
