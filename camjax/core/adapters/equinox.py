"""An Equinox module as a model, every module in it named by its path (`layers.0.conv1`)."""

import dataclasses
import functools
import inspect
import re
import types
from collections.abc import Iterator
from typing import Any, NamedTuple, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from camjax.core.adapters.about import About, joined, named
from camjax.core.adapters.checks import adapted
from camjax.core.axes import reading
from camjax.core.layers import layers, views_of
from camjax.core.model import Model, Params


@dataclasses.dataclass(frozen=True)
class EquinoxForward:
    """`forward(params, images)` of a module that takes one image at a time.

    Attributes:
        static: what is left of the module without its arrays, flattened.
        structure: of that.
        channels_first: whether it takes `(c, h, w)`.
        stateful: whether it takes and gives a state beside the image.
        attention: Names of the arrays `(heads, tokens, tokens)`, which have no channels to come first.
    """

    static: tuple[Any, ...]
    structure: Any
    channels_first: bool
    stateful: bool
    attention: frozenset[str] = frozenset()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Pickled as the module that it is of: a structure holds marks of Equinox's that pickle makes others of."""
        module = jax.tree.unflatten(self.structure, self.static)
        return _forward, (module, self.channels_first, self.stateful, self.attention)

    def __call__(self, params: Params, images: Array | np.ndarray) -> Array:
        """The logits."""
        arrays, state = params if self.stateful else (params, None)
        module = eqx.combine(arrays, jax.tree.unflatten(self.structure, self.static))
        module = _tagged(module, (), _Naming(self.channels_first, self.attention))

        # Networks with dropout want a key; in inference mode nothing is drawn with it.
        key = {"key": jax.random.key(0)} if _needs_key(type(module)) else {}

        def one(image: Array) -> Array:
            image = jnp.moveaxis(image, -1, 0) if self.channels_first else image
            return module(image, state, **key)[0] if self.stateful else module(image, **key)

        return jax.vmap(one)(jnp.asarray(images))


def from_equinox(
    module: eqx.Module,
    *,
    state: Any = None,  # noqa: ANN401
    channels_first: bool = True,
    **about: Unpack[About],
) -> Model:
    """A model of an Equinox module, which takes one normalised image and gives its logits `(n,)`.

    Its layers' arrays are named with their channels last, so that they read as those of every other network.

    Args:
        module: in inference mode; it stays as it is.
        state: what `eqx.nn.make_with_state` gave beside it, where it is called as `module(image, state)`.
        channels_first: whether it takes `(3, h, w)`, as Equinox's convolutions do, or `(h, w, 3)`.
        about: what the module does not say; see `camjax.Model`.

    Returns:
        The model; its parameters are the module with nothing but arrays in it, or a pair of that and the state.

    Raises:
        ValueError: a normalisation or dropout is in training mode, or the module gives something else than one array.
        LayerError: none of its layers lies on the image and reaches the outputs, or the shape of the last that does, or
            of `layer`, does not tell that its axes are rows and columns.

    Warns:
        UserWarning: the outputs look like probabilities already; see `camjax.Model.activation`.
    """
    for path, inner in _modules(module, ()):
        if getattr(inner, "inference", None) is False:
            raise ValueError(
                f"{joined(path) or type(module).__name__} ({type(inner).__name__}) is in training mode; use "
                "eqx.nn.inference_mode(module)"
            )
    arrays, rest = eqx.partition(module, eqx.is_array)
    forward = _forward(rest, channels_first, state is not None)
    model = Model(arrays if state is None else (arrays, state), forward, **about)
    if channels_first and (attention := _attention(model)):
        model = dataclasses.replace(model, forward=dataclasses.replace(forward, attention=attention))
    return adapted(model)


def _forward(
    rest: Any,  # noqa: ANN401
    channels_first: bool,
    stateful: bool,
    attention: frozenset[str] = frozenset(),
) -> EquinoxForward:
    static, structure = jax.tree.flatten(rest)
    return EquinoxForward(tuple(static), structure, channels_first, stateful, attention)


def _attention(model: Model) -> frozenset[str]:
    """Returns the names of the arrays whose first axis was moved to the end and is one of attention heads."""
    found = layers(model)
    moved = [name for name, value in found.items() if value.ndim == 4 and value.shape[1] == value.shape[2] > 1]
    views = views_of(model, found) if moved else None
    tokens = None if model.tokens is None else model.tokens.count(model.preprocess.input_size)
    # An array of several is numbered behind its name, as `relu:1`.
    return frozenset(
        re.sub(r":\d+$", "", name) for name in moved if views and reading(views, name, tokens) == "attention"
    )


def _needs_key(kind: Any) -> bool:  # noqa: ANN401
    parameter = inspect.signature(kind.__call__).parameters.get("key")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _modules(node: Any, path: tuple[object, ...]) -> Iterator[tuple[tuple[object, ...], eqx.Module]]:  # noqa: ANN401
    if isinstance(node, eqx.Module):
        yield path, node
    for key, child in _children(node):
        yield from _modules(child, (*path, key))


def _children(node: Any) -> list[tuple[object, Any]]:  # noqa: ANN401
    if isinstance(node, eqx.Module):
        names = [field.name for field in dataclasses.fields(node)]
        return [(name, getattr(node, name)) for name in names if hasattr(node, name)]
    if isinstance(node, list | tuple):
        return list(enumerate(node))
    return list(node.items()) if isinstance(node, dict) else []


class _Naming(NamedTuple):
    """How arrays are named; see `EquinoxForward`."""

    channels_first: bool
    attention: frozenset[str]


def _tagged(node: Any, path: tuple[object, ...], naming: _Naming) -> Any:  # noqa: ANN401
    """A copy of a module in which what each module gives is named by the module's path."""
    children = {key: _tagged(child, (*path, key), naming) for key, child in _children(node)}
    if isinstance(node, eqx.Module):
        if not children and not callable(node):
            return node
        kind = type(node)
        copy = object.__new__(_tagged_class(kind, joined(path), naming) if path and callable(node) else kind)
        for name, child in children.items():
            object.__setattr__(copy, str(name), child)
        return copy
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return type(node)(*children.values())
    if isinstance(node, list | tuple):
        return type(node)(children.values())
    return children if isinstance(node, dict) else node


@functools.lru_cache(maxsize=4096)
def _tagged_class(kind: Any, name: str, naming: _Naming) -> type[eqx.Module]:  # noqa: ANN401
    """The same class, whose calls give named arrays."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        result = kind.__call__(self, *args, **kwargs)
        if not isinstance(result, tuple):
            return _named(name, result, naming)
        arrays = [item for item in result if isinstance(item, Array)]  # beside a state, as a rule
        names = [name] if len(arrays) == 1 else [f"{name}[{number}]" for number in range(len(arrays))]
        rest = iter(names)
        return tuple(_named(next(rest), item, naming) if isinstance(item, Array) else item for item in result)

    members = {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return types.new_class(kind.__name__, (kind,), {}, lambda namespace: namespace.update(members))


def _named(name: str, result: Any, naming: _Naming) -> Any:  # noqa: ANN401
    """A layer's result under its name, there with its channels last."""
    if not isinstance(result, Array):
        return named(name, result)
    if naming.channels_first and result.ndim == 3 and name not in naming.attention:
        return jnp.moveaxis(named(name, _batch_first(jnp.moveaxis(result, 0, -1))), -1, 0)
    return named(name, _batch_first(result))


def _batch_first(x: Array) -> Array:
    """Moves the axis that `jax.vmap` maps to the front of the array underneath, where a tap finds it.

    Mapped, an operation may leave that axis anywhere (a matrix times a vector leaves it last). Taking away an axis that
    was put in front moves it, and computes nothing.
    """
    return lax.squeeze(lax.expand_dims(x, [0]), [0])
