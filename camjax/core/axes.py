"""What the shapes of a layer tell of its axes: for one image, for one twice as high, and for one twice as wide.

camjax reads a layer of four axes as `(b, h, w, c)`. Nothing in an array says so; how its axes follow the image's sides
does. A network of one fixed size shows one shape only, which must be in proportion to the image then.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

import jax

Shape = tuple[int, ...]

Shapes = Mapping[str, jax.ShapeDtypeStruct]
"""Shapes and dtypes of a network's layers, in the order of computation."""

Reading = Literal["map", "channels first", "transposed", "heads", "attention", "unclear"]
"""What a layer of four axes is: `(b, h, w, c)`, `(b, c, h, w)`, `(b, w, h, c)`, tokens by heads or groups, tokens by
tokens, or nothing that its shape tells."""


class Views(NamedTuple):
    """A network's layers at three sizes of the image.

    Attributes:
        size: (height, width) of the image.
        base: Layers at that size.
        tall: Layers at twice the height; None where the network does not take that.
        wide: Layers at twice the width, likewise.
    """

    size: tuple[int, int]
    base: Shapes
    tall: Shapes | None
    wide: Shapes | None


def reading(views: Views, layer: str, tokens: int | None = None) -> Reading:
    """Returns what a layer of four axes is, as far as shapes tell.

    Args:
        views: The network's layers.
        layer: Name of a layer with four axes.
        tokens: Number of the network's tokens, where its model says.
    """
    shape = views.base[layer].shape
    tall, wide = (_like(view, layer) for view in (views.tall, views.wide))
    # For each axis, the sides of the image that it follows.
    follows = [
        {side for side, other in (("h", tall), ("w", wide)) if other is not None and other[axis] != shape[axis]}
        for axis in range(4)
    ]
    if follows[1] == {"h"} and follows[2] == {"w"}:
        return "map"  # whatever its channels are, also one for each position
    both = {axis for axis in (1, 2, 3) if len(follows[axis]) == 2}
    if {1, 2} <= both or {2, 3} <= both:
        return "attention"
    if both & {1, 2}:
        return "heads"
    if tall is None or wide is None:  # a number of tokens may look like a side
        if tokens in shape[1:3]:
            return "attention" if shape.count(tokens) > 1 else "heads"
        before = [views.base[name].shape for name in _until(views.base, layer)]
        if _is_attention(shape, {other[1] for other in before if len(other) == 3}):
            return "attention"
        if _splits(shape, before):
            return "heads"
    return _followed(follows) if any(follows[1:]) else _in_proportion(shape, views.size)


def _like(view: Shapes | None, layer: str) -> Shape | None:
    """Returns the layer's shape in a view, where it has four axes there too."""
    if view is None or layer not in view or len(view[layer].shape) != 4:
        return None
    return tuple(view[layer].shape)


def _until(found: Shapes, layer: str) -> Iterable[str]:
    names = list(found)
    return names[: names.index(layer)]


def _is_attention(shape: Shape, tokens: Collection[int]) -> bool:
    """Returns whether two neighbouring axes are each as long as there are tokens."""
    return any(shape[axis] == shape[axis + 1] > 1 and shape[axis] in tokens for axis in (1, 2))


def _splits(shape: Shape, before: Iterable[Shape]) -> bool:
    """Returns whether the layer is `(b, heads, n, c)` or `(b, n, heads, c)`, made of tokens that stand before it."""
    tokens = {other[1:] for other in before}
    return any(shape[heads] > 1 and (shape[3 - heads], shape[heads] * shape[3]) in tokens for heads in (1, 2))


def _followed(follows: list[set[str]]) -> Reading:
    """Returns what a layer is of which some axis follows a side of the image, and no other contradicts."""
    by_height, by_width = ({axis for axis in (1, 2, 3) if side in follows[axis]} for side in ("h", "w"))
    kinds: tuple[tuple[Reading, int, int], ...] = (("map", 1, 2), ("channels first", 2, 3), ("transposed", 2, 1))
    for kind, rows, columns in kinds:
        if by_height <= {rows} and by_width <= {columns}:
            return kind
    return "unclear"


def _in_proportion(shape: Shape, size: tuple[int, int]) -> Reading:
    """Returns what a layer is by the proportions of one image alone."""
    _, first, second, third = shape
    sides: dict[Reading, tuple[int, int]] = {"map": (first, second), "channels first": (second, third)}
    if size[0] != size[1]:
        sides["transposed"] = (second, first)
    misfits = {kind: _misfit(*pair, *size) for kind, pair in sides.items()}
    best: Reading = min(misfits, key=lambda kind: misfits[kind])
    return best if list(misfits.values()).count(misfits[best]) == 1 else "unclear"


def _misfit(rows: int, columns: int, height: int, width: int) -> float:
    """Returns by how many positions a map's sides miss the proportions of the image; infinite where they do not fit.

    Rounding misses by less than one. Convolutions without padding take as many positions from both sides, at each
    stride: the map's sides are the image's over a stride, less a number that is the same for both.
    """
    if rows > height or columns > width:
        return math.inf
    missed = min(abs(rows - columns * height / width), abs(columns - rows * width / height))
    if missed <= 1:
        return missed
    if 1 in (rows, columns):  # pooled over one side
        return 1.0
    stride = (width - height) / (columns - rows) if columns != rows else 0
    return 1.0 if stride >= 1 and height / stride >= rows else math.inf


def in_words(kind: Reading, size: tuple[int, int], tokens: str) -> str:
    """Returns what is wrong with a layer that is no map, for the end of an error.

    Args:
        kind: What the layer is; no map.
        size: (height, width) of the image.
        tokens: What to do where the network has tokens, to be added.
    """
    other = "give another by layer=NAME"
    last = f"camjax reads (b, h, w, c): {other}, or in the network name it with its channels last"
    words: Mapping[Reading, str] = {
        "channels first": f"channels first as far as its shape tells; {last}, as jnp.moveaxis(x, 1, -1)",
        "transposed": f"columns before rows as far as its shape tells; {last} and its rows first",
        "heads": f"tokens by heads or groups, no rows and columns; {other}{tokens}",
        "attention": f"attention, tokens by tokens, no rows and columns; {other}{tokens}",
        "unclear": f"whose axes are not in proportion to the image's {size[0]} x {size[1]}; if they are rows and "
        f"columns all the same, say so by its own name, layer=NAME, else {other}",
    }
    return words[kind]
