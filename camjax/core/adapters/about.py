"""What every adapter takes besides the network, and how the layers that it names are called."""

from collections.abc import Callable, Iterable
from typing import TypedDict, TypeVar

import jax

from camjax.core.model import Activation, LinearHead, Params, TokenGrid
from camjax.core.names import named_array
from camjax.images.preprocess import Preprocess

T = TypeVar("T")


class About(TypedDict, total=False):
    """What a network does not say itself; see `camjax.Model` for each.

    Attributes:
        preprocess: size, mean and std of its input.
        labels: the names of its classes.
        name: of the model.
        layer: to explain by default.
        head: where the pooled linear head's kernel and bias are.
        tokens: how its tokens lie on the image.
        activation: The function that turns its outputs into probabilities.
    """

    preprocess: Preprocess
    labels: tuple[str, ...]
    name: str
    layer: str | None
    head: Callable[[Params], LinearHead] | None
    tokens: TokenGrid | None
    activation: Activation | None


def named(name: str, result: T) -> T:
    """The result of a layer under its name; of several arrays, each under `name[0]`, `name[1]` and so on."""
    arrays = [leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)]
    if len(arrays) == 1:
        return jax.tree.map(lambda leaf: named_array(leaf, name) if isinstance(leaf, jax.Array) else leaf, result)
    numbers = iter(range(len(arrays)))
    return jax.tree.map(
        lambda leaf: named_array(leaf, f"{name}[{next(numbers)}]") if isinstance(leaf, jax.Array) else leaf, result
    )


def joined(path: Iterable[object], separator: str = ".") -> str:
    """A layer's name from its path in the network."""
    return separator.join(map(str, path))
