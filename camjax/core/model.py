"""The contract everything hangs on: a network is plain parameters and one pure function, whose inner arrays have names.

CAM methods, metrics and batch code know only this, so a network written in NNX, Linen, Equinox or bare JAX fits alike:

    def forward(params, images):
        x = checkpoint_name(jax.nn.relu(convolve(images, params["kernel"])), "features")
        return x.mean((1, 2)) @ params["head"]

    model = Model(params, forward)

The adapters (`camjax.from_nnx` and its siblings) make a `Model` of a network as its user has it, all layers named.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from camjax.choices import Activation as Activation
from camjax.core.comparable import Comparable
from camjax.core.names import Arrays, named_arrays, tap, traced_once
from camjax.core.precision import at_least_float32, exact
from camjax.errors import LayerError
from camjax.images.preprocess import Preprocess

Params = Any
"""Any pytree of arrays."""

Forward = Callable[[Params, Array], Array]
"""`forward(params, images) -> logits`, pure: normalised images `(b, h, w, 3)` in, `(b, n)` out."""


ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


def checked_activation(activation: Any) -> Activation | None:  # noqa: ANN401
    """Returns the activation, or None where it is left to the number of outputs.

    Raises:
        ValueError: it is neither None nor one of `ACTIVATIONS`.
    """
    if activation is not None and activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)} or None, not {activation!r}")
    found: Activation | None = activation
    return found


def activation_of(activation: Activation | None, outputs: int) -> Activation:
    """Returns the activation that applies: the one that is given, else the usual one for that many outputs.

    Args:
        activation: a model's, which may be None.
        outputs: the number of the network's outputs for one image.
    """
    return activation or ("sigmoid" if outputs == 1 else "softmax")


def probabilities_of(
    outputs: Float[Array, "*batch n"], activation: Activation | None = None
) -> Float[Array, "*batch n"]:
    """Turns a network's outputs into probabilities.

    Args:
        outputs: Logits of any float dtype, or with `"none"` whatever the network gives.
        activation: A model's activation; None is `"sigmoid"` for one output and `"softmax"` otherwise.

    Returns:
        Probabilities in [0, 1], float32 or wider; with `"none"` the outputs themselves.
    """
    outputs = outputs.astype(at_least_float32(outputs.dtype))
    kind = activation_of(activation, outputs.shape[-1])
    if kind == "none":
        return outputs
    return jax.nn.sigmoid(outputs) if kind == "sigmoid" else jax.nn.softmax(outputs)


class LinearHead(NamedTuple):
    """The linear layer after global average pooling: `logits = mean(features) @ kernel + bias`.

    Attributes:
        kernel: `(c, n)`, one column a class.
        bias: `(n,)`, or None.
    """

    kernel: Float[Array, "c n"]
    bias: Float[Array, " n"] | None


class Pooled(NamedTuple):
    """What a forward function is made of, which no trial has to show then; its class says so by a property `pooled`.

    It computes a layer in the dtype of its images, and then, in the head's own dtype, the head of the layer's mean.

    Attributes:
        layer: its name.
        head: the model's.
    """

    layer: str
    head: Callable[[Params], LinearHead]


@dataclasses.dataclass(frozen=True)
class TokenGrid:
    """How a network's tokens `(b, n, c)` lie on its image.

    Attributes:
        prefix: tokens before the grid that belong to no place: the class token, registers.
        patch: (height, width) of the pixels of one token; the grid then has as many rows and columns as fit.
        shape: (rows, columns) of the grid, where it does not follow from the patch.
    """

    prefix: int = 0
    patch: tuple[int, int] | None = None
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (self.patch is None) == (self.shape is None):
            raise ValueError("a TokenGrid needs either patch=(height, width) or shape=(rows, columns)")

    def sides(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Returns the rows and columns of the grid.

        Args:
            image_size: (height, width) of the images, in pixels.
        """
        if self.shape is not None:
            return self.shape
        height, width = self.patch or (1, 1)
        return image_size[0] // height, image_size[1] // width

    def count(self, image_size: tuple[int, int]) -> int:
        """Returns the number of tokens, those of the prefix included.

        Args:
            image_size: (height, width) of the images, in pixels.
        """
        rows, columns = self.sides(image_size)
        return self.prefix + rows * columns

    def place(self, tokens: Float[Array, "b n c"], image_size: tuple[int, int]) -> Float[Array, "b h w c"]:
        """The tokens as a grid, row by row; those of the prefix are left out.

        Args:
            tokens: a layer's.
            image_size: (height, width) of the images.

        Raises:
            LayerError: there are not as many tokens as the grid has places.
        """
        rows, columns = self.sides(image_size)
        if tokens.shape[1] != self.count(image_size):
            raise LayerError(
                f"{tokens.shape[1]} tokens are not {self.prefix} and a grid of {rows} x {columns}; give the model's "
                "tokens=TokenGrid(prefix, patch or shape)"
            )
        return tokens[:, self.prefix :].reshape(len(tokens), rows, columns, tokens.shape[2])


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of a network.

    Attributes:
        name: of what it gives.
        apply: `apply(params, x) -> (b, h2, w2, c2)` from the features of the stage before, or from the images.
    """

    name: str
    apply: Callable[[Params, Array], Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network, with what its weights were trained with.

    Attributes:
        params: any pytree of arrays.
        forward: `forward(params, images) -> logits` from normalised NHWC images; pure. What it gives may have another
            shape than `(b, n)`, as long as the batch comes first: a `target` then says what is explained. One number
            per image, `(b,)`, is one class, `(b, 1)`.
        preprocess: how a picture becomes the network's input.
        labels: the classes' names in the order of the logits.
        activation: The function that turns logits into probabilities: "softmax" (one class per image), "sigmoid" (each
            output by itself; multi-label or one output), "none" (the outputs already are probabilities or have no such
            meaning); None is "sigmoid" for one output and "softmax" otherwise.
        name: what it is called in tables and files.
        layer: the layer that is explained where nobody asks for another; None is the last one on whose positions the
            outputs depend (see `camjax.core.layers.default_layer`).
        head: `head(params) -> LinearHead` where the logits are a linear function of that layer's mean. It is checked,
            not trusted, before CAM relies on it, but for a head that `forward` is itself made of (see `Pooled`); None
            looks for it among the parameters.
        tokens: how tokens become a grid, where the network has tokens.
        stages: what the network does up to `layer`, step by step, where it tells; a large batch can then go in parts.
        prepare: `prepare(params, dtype, platform)` gives a faster equal of this model; see `camjax.core.inference`.
            Whoever replaces `forward` replaces or removes these two as well.
        architecture: the family and configuration that camjax's own weight file is rebuilt from; empty for a network
            that is not camjax's.
        origin: where the weights came from: source, file, sha256, licence, as far as known.
    """

    params: Params
    forward: Forward
    preprocess: Preprocess = dataclasses.field(default_factory=Preprocess)
    labels: tuple[str, ...] = ()
    name: str = "model"
    layer: str | None = None
    head: Callable[[Params], LinearHead] | None = None
    tokens: TokenGrid | None = None
    stages: tuple[Stage, ...] = ()
    prepare: Callable[[Params, DTypeLike, str], "Model"] | None = None
    architecture: dict[str, Any] = dataclasses.field(default_factory=dict)
    origin: dict[str, str] = dataclasses.field(default_factory=dict)
    activation: Activation | None = None

    def __post_init__(self) -> None:
        checked_activation(self.activation)

    def features(self, params: Params, images: Float[Array | np.ndarray, "b h w c"]) -> Arrays:
        """Every named layer's array, in the order in which they are computed.

        Under `jax.jit`, what the caller does not use is not computed.

        Args:
            params: this model's, or others like them.
            images: normalised, of any size that the network takes.
        """
        names = named_arrays(self.forward, params, images)
        arrays = tap(self.forward, read=names)(params, images)[1]
        return {name: arrays[name] for name in names}

    def is_made_pooled(self, layer: str) -> bool:
        """Whether `forward` is made of that layer, its mean and the model's head; see `Pooled`."""
        # A function that wraps this one may have its attributes, but is of another class.
        if self.head is None or not isinstance(getattr(type(self.forward), "pooled", None), property):
            return False
        made: Any = self.forward
        return bool(made.pooled == Pooled(layer, self.head))

    def image_shape(self, batch: int = 1) -> tuple[int, int, int, int]:
        """The shape of a batch of images as the weights were trained with."""
        return batch, *self.preprocess.input_size, 3


@dataclasses.dataclass(frozen=True)
class OneClassForward:
    """The forward function of a network that gives one number per image, as `(b,)`; its outputs are `(b, 1)`.

    Attributes:
        forward: The network's own function.
    """

    forward: Comparable

    def __call__(self, params: Params, images: Array) -> Array:
        """Computes the outputs with an axis of classes."""
        outputs: Array = self.forward.value(params, images)
        # `squeeze()` takes the axis of a batch of one image too.
        return outputs.reshape(len(images), 1) if outputs.size == len(images) else outputs


def with_class_axis(model: Model) -> Model:
    """Returns the model, whose outputs are `(b, 1)` where its network gives one number per image as `(b,)`.

    So a head that is squeezed is explained as the same head that is not. Nothing is computed.

    Args:
        model: Any model; camjax's own networks give `(b, n)`, which is not tried.
    """
    if model.prepare is not None or isinstance(model.forward, OneClassForward):
        return model
    images = jax.ShapeDtypeStruct(model.image_shape(), np.float32)  # type: ignore[no-untyped-call]
    with exact():
        outputs = jax.eval_shape(traced_once(model.forward), model.params, images)
    if not isinstance(outputs, jax.ShapeDtypeStruct) or outputs.ndim > 1 or outputs.size != 1:
        return model
    return dataclasses.replace(model, forward=OneClassForward(Comparable(model.forward)))
