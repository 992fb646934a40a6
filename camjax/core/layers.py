"""A model's layers: their names and shapes, which of them lie on the image, and which one is explained by default."""

import dataclasses
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.axes import Shapes, Views, in_words, reading
from camjax.core.model import Forward, Model, Params
from camjax.core.names import named_array, named_arrays, named_sources, traced_once
from camjax.core.precision import exact
from camjax.core.reach import changes_outputs, last_reaching, reaching_among
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
    with exact():  # in which everything else that is tried is traced
        return named_arrays(traced_once(model.forward), model.params, _images(_shape(model, image_shape)))


def default_layer(model: Model, image_shape: Sequence[int] | None = None) -> str:
    """Returns the layer that is explained where nobody names one.

    That is the model's own, or else the last one that lies on the image and at whose positions the outputs have a
    gradient (see `camjax.core.reach`). A layer of which the head reads the class token alone does not count, nor does
    one of a branch that does not lead to the outputs, nor attention inside a convolutional network. camjax's own
    networks all name theirs.

    Args:
        model: Any.
        image_shape: Shape of the images, as for `layers`.

    Raises:
        LayerError: there is none, or its shape does not tell which of its axes are rows and columns.

    Warns:
        UserWarning: the outputs have no gradient at any layer, though they depend on this one.
    """
    if model.layer is not None:
        return model.layer
    shape = _shape(model, image_shape)
    model = _at_size(model, shape)
    found = layers(model)
    spatial = _spatial(model, found)
    if not spatial:
        _refuse(model, found, shape)
    if model.tokens is not None:
        maps = _maps(model, found, spatial)
        if not maps:  # the tokens are not as many as the model says
            on_grid(model, spatial[-1], jnp.zeros(found[spatial[-1]].shape), model.preprocess.input_size)
            _check_axes(model, found, spatial[-1], named=False)
        spatial = maps
    leading = _sources(model)
    candidates = [name for name in spatial if name in leading]
    last = last_reaching(model, found, candidates)
    if last is None:
        last = next((name for name in reversed(candidates) if changes_outputs(model, found, name)), None)
        if last is None:
            raise LayerError(
                f"the scores of {model.name} depend on none of its layers that lie on the image, such as "
                f"{spatial[-1]!r}; name an array that they depend on by checkpoint_name in its forward"
            )
        _warn_of_no_gradient(model, last)
    if found[last].ndim == 4 and reading(views_of(model, found), last) in ("attention", "heads"):
        last_map, names = last_reaching(model, found, _maps(model, found, candidates)), list(found)
        # Behind the last map of a convolutional network with attention inside, no tokens (b, n, c) have a name.
        if last_map and not any(found[name].ndim == 3 for name in leading.intersection(names[names.index(last_map) :])):
            last = last_map
    _check_axes(model, found, last, named=False)
    return last


def last_of_each_size(model: Model, count: int) -> tuple[str, ...]:
    """Returns the last layers of several sizes, the smallest last; of a ResNet, the ends of its stages.

    Each lies on the image, and the outputs depend on it as on the default layer.

    Args:
        model: Any.
        count: Number of sizes, where there are as many.
    """
    found, default = layers(model), default_layer(model)
    leading = _sources(model)
    candidates = [name for name in _maps(model, found, _spatial(model, found)) if name in leading]
    reaching = {default} | _sources(model, of=default, with_gradient=True)
    others = [name for name in candidates if name not in reaching]
    if model.prepare is not None:  # without tokens before them, what leads to the outputs reaches them
        reaching |= {name for name in others if found[name].ndim == 4}
    elif model.layer is not None and others:  # else the default layer is the last
        reaching |= reaching_among(model, found, others)
    by_size: dict[tuple[int, ...], str] = {}
    for name in candidates:
        if name in reaching:
            size = found[name].shape[1:-1]
            by_size.pop(size, None)
            by_size[size] = name
    return tuple(by_size.values())[-count:]


def with_input(forward: Forward) -> Forward:
    """The same network, whose images have a name as well: `"input"`."""

    def named_forward(params: Params, images: Array) -> Array:
        return forward(params, named_array(images, INPUT))

    return named_forward


def is_attention(model: Model, value: jax.ShapeDtypeStruct | Array, size: tuple[int, ...] | None = None) -> bool:
    """Returns whether an array says how much every token reads of every other: `(b, heads, tokens, tokens)`.

    Args:
        model: The network, whose `tokens` say how many there are.
        value: Array or shape of one of its layers.
        size: (height, width) of the images; None lets any two equal last axes be those of tokens, which may also be the
            columns and channels of a map.
    """
    if model.tokens is None or value.ndim != 4 or value.shape[2] != value.shape[3]:
        return False
    return size is None or (len(size) == 2 and value.shape[3] == model.tokens.count((size[0], size[1])))


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
    if is_attention(model, array, size):
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


def check_layer(model: Model, layer: str) -> None:
    """Checks a layer that its user names: its axes are rows and columns, and the outputs depend on its positions.

    Axes are those of a network that is not camjax's own. A layer from which the default layer is computed is not tried
    by numbers, so that what comes after an early layer need not be compiled twice.

    Args:
        model: Any.
        layer: Name of a layer; one that the model does not have, or that has no positions, is left to whoever reads it.

    Raises:
        LayerError: its channels come before its rows and columns, it holds tokens by heads or groups, its sides are not
            in proportion to the image's in another way, or the outputs do not depend on what stands at its positions.

    Warns:
        UserWarning: they do, and have no gradient there.
    """
    if layer == model.layer and model.prepare is not None:  # the default of a network that is camjax's own
        return
    found = layers(model)
    if layer not in _spatial(model, found):
        return
    if model.prepare is None:
        _check_axes(model, found, layer, named=True)
    reaching = _known_to_reach(model, found, layer)
    if layer not in _sources(model):
        raise LayerError(_independent(model, layer, reaching))
    if reaching is not None and layer in _sources(model, of=reaching, with_gradient=True):
        return
    if layer not in reaching_among(model, found, [layer]):
        if not changes_outputs(model, found, layer):
            raise LayerError(_independent(model, layer, reaching, " at any position on the image"))
        _warn_of_no_gradient(model, layer)


def _known_to_reach(model: Model, found: Shapes, layer: str) -> str | None:
    """Returns the layer that is explained by default where it is another and known to reach the outputs, else None."""
    if model.layer is None:
        try:
            return default_layer(model)
        except LayerError:
            return None
    if model.prepare is not None:
        return model.layer
    other = model.layer != layer and model.layer in _spatial(model, found)
    return model.layer if other and model.layer in reaching_among(model, found, [model.layer]) else None


def _independent(model: Model, layer: str, other: str | None, where: str = "") -> str:
    hint = "give another by layer=NAME" if other is None else f"they depend on layer={other!r}"
    return f"the scores of {model.name} do not depend on layer {layer!r}{where}; {hint}"


def _warn_of_no_gradient(model: Model, layer: str) -> None:
    warnings.warn(
        f"the scores of {model.name} have no gradient at layer {layer!r}, though they depend on it (something behind "
        "it rounds, or stops gradients); methods that use gradients give maps of zeros there",
        UserWarning,
        stacklevel=6,
    )


def _shape(model: Model, image_shape: Sequence[int] | None) -> tuple[int, int, int, int]:
    shape = model.image_shape() if image_shape is None else tuple(image_shape)
    shape = {2: (1, *shape, 3), 3: (1, *shape), 4: shape}.get(len(shape), ())
    if len(shape) != 4:
        raise ValueError(f"image_shape is (height, width), with channels and a batch before it or not: {image_shape}")
    return shape


def _images(shape: Sequence[int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(shape), jnp.float32)  # type: ignore[no-untyped-call]


def _at_size(model: Model, shape: tuple[int, int, int, int]) -> Model:
    """Returns the model for images of that shape, of which one is tried."""
    if shape[1:3] == tuple(model.preprocess.input_size):
        return model
    return dataclasses.replace(model, preprocess=dataclasses.replace(model.preprocess, input_size=shape[1:3]))


def _sources(model: Model, of: str | None = None, *, with_gradient: bool = False) -> frozenset[str]:
    """Returns the layers from which the outputs, or another layer, are computed; see `named_sources`."""
    forward, images = traced_once(model.forward), _images(model.image_shape())
    with exact():
        return named_sources(forward, model.params, images, of=of, with_gradient=with_gradient)


def _spatial(model: Model, found: Shapes) -> list[str]:
    """Returns the layers of one image that have more than one position."""

    def has_extent(value: jax.ShapeDtypeStruct) -> bool:
        if value.ndim == 3:
            return model.tokens is not None and value.shape[1] > model.tokens.prefix + 1
        return (
            value.ndim == 4
            and value.shape[1] * value.shape[2] > 1
            and not is_attention(model, value, model.preprocess.input_size)
        )

    return [
        name
        for name, value in found.items()
        if value.ndim and value.shape[0] == 1 and jnp.issubdtype(value.dtype, jnp.floating) and has_extent(value)
    ]


def _maps(model: Model, found: Shapes, names: Sequence[str]) -> list[str]:
    """Returns those of some layers that are `(b, h, w, c)`, or as many tokens as the model says that there are."""
    if model.prepare is not None and model.tokens is None:  # camjax's own networks have no other layers
        return list(names)
    tokens = None if model.tokens is None else model.tokens.count(model.preprocess.input_size)
    views = views_of(model, found) if any(found[name].ndim == 4 for name in names) else None
    return [
        name
        for name in names
        if (
            reading(views, name, tokens) == "map" if views and found[name].ndim == 4 else found[name].shape[1] == tokens
        )
    ]


def views_of(model: Model, found: Shapes) -> Views:
    """Returns the layers at twice the height and at twice the width, where the network takes such images."""
    height, width = model.preprocess.input_size
    taller, wider = (2 * height, width), (height, 2 * width)
    others: list[Shapes | None] = []
    for size in (taller, wider):
        try:
            others.append(layers(model, size))
        except Exception:  # whatever a network of one fixed size raises at another
            others.append(None)
    return Views((height, width), found, *others)


def _check_axes(model: Model, found: Shapes, layer: str, *, named: bool) -> None:
    """Raises a LayerError unless a layer of four axes is `(b, h, w, c)`, or might be and its user says so."""
    if found[layer].ndim != 4:
        return
    tokens = None if model.tokens is None else model.tokens.count(model.preprocess.input_size)
    views = views_of(model, found)
    kind = reading(views, layer, tokens)
    if kind != "map" and not (kind == "unclear" and named):
        has_tokens = tokens is None and any(value.ndim == 3 for value in found.values())
        how = f", or one of tokens (b, n, c), and {SAY_HOW}" if has_tokens else ""
        raise LayerError(f"layer {layer!r} of {model.name} is {found[layer].shape}, {in_words(kind, views.size, how)}")


def _refuse(model: Model, found: Shapes, shape: Sequence[int]) -> None:
    tokens = [name for name, value in found.items() if value.ndim == 3]
    if tokens and model.tokens is None:
        raise LayerError(
            f"the layers of {model.name} are tokens, such as {tokens[-1]!r} {found[tokens[-1]].shape}; {SAY_HOW}"
        )
    if not found:
        raise LayerError(f"{model.name} names none of its arrays; use jax.ad_checkpoint.checkpoint_name in its forward")
    raise LayerError(f"no layer of {model.name} has a spatial extent at images of {tuple(shape)}")
