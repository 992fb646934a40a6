"""A model's layers: their names, shapes and which of them lie on the image."""

import itertools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.model import Forward, Model, Params
from camjax.core.names import named_array, named_arrays
from camjax.errors import LayerError

INPUT = "input"
"""The name of what goes into every network: the normalised images."""

SAY_HOW = "say how they lie on the image: tokens=TokenGrid(prefix=1, patch=(16, 16))"


def layers(model: Model, image_shape: Sequence[int] | None = None) -> dict[str, jax.ShapeDtypeStruct]:
    """Every named layer with its shape and dtype, in the order in which they are computed. Nothing is computed.

    Args:
        model: any.
        image_shape: `(height, width)`, `(height, width, channels)` or `(batch, height, width, channels)`; None is one
            image of the size that the weights were trained with.

    Raises:
        ValueError: the shape is none of these.
    """
    shape = model.image_shape() if image_shape is None else tuple(image_shape)
    shape = {2: (1, *shape, 3), 3: (1, *shape), 4: shape}.get(len(shape), ())
    if not shape:
        raise ValueError(f"image_shape is (height, width), with channels and a batch before it or not: {image_shape}")
    return named_arrays(model.forward, model.params, jax.ShapeDtypeStruct(shape, jnp.float32))  # type: ignore[no-untyped-call]


def default_layer(model: Model, image_shape: Sequence[int] | None = None) -> str:
    """The layer that is explained where nobody asks for another: the model's own, or the last with a spatial extent.

    Args:
        model: any.
        image_shape: as for `layers`.

    Raises:
        LayerError: no layer has one.
    """
    if model.layer is not None:
        return model.layer
    found = layers(model, image_shape)
    spatial = [name for name, value in found.items() if has_extent(model, value)]
    if spatial:
        return spatial[-1]
    tokens = [name for name, value in found.items() if value.ndim == 3]
    if tokens and model.tokens is None:
        raise LayerError(
            f"the layers of {model.name} are tokens, such as {tokens[-1]!r} {found[tokens[-1]].shape}; {SAY_HOW}"
        )
    if not found:
        raise LayerError(f"{model.name} names none of its arrays; use jax.ad_checkpoint.checkpoint_name in its forward")
    raise LayerError(f"no layer of {model.name} has a spatial extent at images of {image_shape or model.image_shape()}")


def last_of_each_size(model: Model, count: int) -> tuple[str, ...]:
    """The last layers with a spatial extent of so many sizes, the smallest last; of a ResNet, the ends of its stages.

    Args:
        model: any.
        count: how many, where there are as many.
    """
    by_size: dict[tuple[int, ...], str] = {}
    for name, value in layers(model).items():
        if has_extent(model, value):
            by_size.pop(value.shape[1:-1], None)
            by_size[value.shape[1:-1]] = name
    return tuple(by_size.values())[-count:]


def with_input(forward: Forward) -> Forward:
    """The same network, whose images have a name as well: `"input"`."""

    def named_forward(params: Params, images: Array) -> Array:
        return forward(params, named_array(images, INPUT))

    return named_forward


def has_extent(model: Model, value: jax.ShapeDtypeStruct) -> bool:
    """Whether a layer lies on the image with more than one place."""
    if value.ndim == 3:
        return model.tokens is not None and value.shape[1] > model.tokens.prefix + 1
    return value.ndim == 4 and value.shape[1] * value.shape[2] > 1 and not is_attention(model, value)


def is_attention(model: Model, value: jax.ShapeDtypeStruct | Array) -> bool:
    """Whether an array says how much every token reads of every other: (b, heads, tokens, tokens)."""
    return model.tokens is not None and value.ndim == 4 and value.shape[2] == value.shape[3]


def on_grid(model: Model, layer: str, array: Array, size: tuple[int, ...]) -> Float[Array, "b *space c"]:
    """A layer's array with its places in rows and columns, or in as many axes as the input has.

    Args:
        model: whose layer it is.
        layer: its name, for errors.
        array: `(b, h, w, c)`, or tokens `(b, n, c)`.
        size: (height, width) of the images; the length of signals, the three sides of volumes.

    Raises:
        LayerError: it is neither, or the model does not say how its tokens lie.
    """
    if is_attention(model, array):
        raise LayerError(f"layer {layer!r} of {model.name} is attention, {array.shape}: tokens by tokens, no picture")
    if array.ndim == len(size) + 2:
        return array
    if len(size) != 2:
        axes = "one axis" if len(size) == 1 else f"{len(size)} axes"
        raise LayerError(f"layer {layer!r} of {model.name} is {array.shape}, without the {axes} that the input lies on")
    if array.ndim == 3 and model.tokens is not None:
        return model.tokens.place(array, size)
    if array.ndim == 3:
        raise LayerError(f"layer {layer!r} of {model.name} has tokens, {array.shape}; {SAY_HOW}")
    raise LayerError(f"layer {layer!r} of {model.name} is {array.shape}, which does not lie on the image (b, h, w, c)")


def check_model(model: Model) -> None:
    """What is checked once when a network is adapted; nothing is computed.

    Raises:
        ValueError: it gives something else than one array with the batch first, or no floats.
        LayerError: no layer lies on the image, or the default one is refused by `check_order`.
    """
    images = jax.ShapeDtypeStruct(model.image_shape(2), jnp.float32)  # type: ignore[no-untyped-call]
    logits = jax.eval_shape(model.forward, model.params, images)
    if not isinstance(logits, jax.ShapeDtypeStruct) or logits.ndim == 0 or logits.shape[0] != 2:
        shapes = jax.tree.map(lambda leaf: leaf.shape, logits)
        raise ValueError(
            f"{model.name} gives {shapes} for {images.shape} images, not logits (b, n); wrap it in a function that "
            "gives one array with the batch first"
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"{model.name} gives {logits.dtype}, not floats")
    check_order(model, default_layer(model))


def check_order(model: Model, layer: str) -> None:
    """What a layer's shape tells of its axes, also at images twice as large; nothing is computed.

    Args:
        model: any.
        layer: its name; one that the model does not have is left to whoever asks for it.

    Raises:
        LayerError: it has its channels before its rows and columns, or tokens by heads or groups.
    """
    batch, height, width, channels = model.image_shape()
    found = layers(model, (batch, height, width, channels))
    if layer not in found or found[layer].ndim != 4 or is_attention(model, found[layer]):
        return
    small = found[layer].shape
    pairs = ((1, 2), (2, 1))  # the axes of heads and tokens: (b, heads, n, c), or (b, n, heads, c) as Flax has them
    try:
        large = layers(model, (batch, 2 * height, 2 * width, channels))[layer].shape
    except Exception:  # whatever a network of one fixed size raises at another
        large = small
        split = any(small[i] > 1 and _splits(found, layer, small[j], small[i] * small[3]) for i, j in pairs)
    else:  # one side stays, the other has four times the places
        split = any(large[i] == small[i] > 1 and large[j] >= 3 * small[j] for i, j in pairs)
    said = f"layer {layer!r} of {model.name} is {small}"
    if split:
        how = "" if model.tokens else f", or one of tokens (b, n, c), and {SAY_HOW}"
        raise LayerError(f"{said}, tokens by heads or groups, no rows and columns; give another by layer=NAME{how}")
    if large[3] != small[3] and large[1] == small[1]:
        raise LayerError(f"{said}, channels first; camjax reads (b, h, w, c): give another by layer=NAME")


def _splits(found: Mapping[str, jax.ShapeDtypeStruct], layer: str, tokens: int, channels: int) -> bool:
    """Whether so many tokens, of so many channels, stand before a layer."""
    before = itertools.takewhile(lambda name: name != layer, found)
    return any(found[name].shape[1:] == (tokens, channels) for name in before)
