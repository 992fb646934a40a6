"""Whether a network's outputs depend on what stands at the positions of its layers, by numbers.

That they are computed from a layer (`camjax.core.names.named_sources`) is not enough: a head that reads the class token
is computed from a layer of tokens, and does not depend on those that lie on the image. Whether there is a gradient for
random features and random parameters is a property of the network's structure; its own parameters might hide it, as
zeros in a new head do. They are tried last, where random ones show nothing: these could saturate something.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from camjax.core.comparable import Comparable
from camjax.core.inference import read_leaves
from camjax.core.model import Model, Params
from camjax.core.names import tap, traced_once
from camjax.core.precision import exact
from camjax.core.trial import drawn_params, has_values, own_value, types_of

Shapes = Mapping[str, jax.ShapeDtypeStruct]
"""Shapes and dtypes of a network's layers for one image, in the order of computation."""


class Trial(NamedTuple):
    """Arguments with which the part of a network behind a layer is computed.

    Attributes:
        params: Parameters of which that part reads only some; the others are NaN.
        features: The layer's array.
        images: One image, for what goes around the layer.
    """

    params: Params
    features: np.ndarray
    images: np.ndarray


def last_reaching(model: Model, found: Shapes, names: Sequence[str]) -> str | None:
    """Returns the last of some layers at whose positions the outputs have a gradient; None where none has.

    The last layer is tried alone, then four before it at once, and so on: what comes after the first one tried is all
    that is compiled, and in most networks the last layer is the one.

    Args:
        model: Any.
        found: Its layers.
        names: The layers to try, in the order of computation, each floating.
    """
    count, rest = 1, list(names)
    while rest:
        rest, group = rest[:-count], rest[-count:]
        reaching = reaching_among(model, found, group)
        if reaching:
            return max(reaching, key=group.index)
        count *= 4
    return None


def reaching_among(model: Model, found: Shapes, names: Sequence[str]) -> frozenset[str]:
    """Returns those of some layers at whose positions on the image the outputs have a gradient that is not 0.

    Where the network has no gradient at all (behind a `while_loop` or a callback), those at whose positions a change
    changes the outputs.

    Args:
        model: Any.
        found: Its layers.
        names: The layers to try, in the order of computation, each floating.
    """
    forward, first = Comparable(model.forward), names[0]
    changes = {name: np.zeros(found[name].shape, found[name].dtype) for name in names[1:]}
    reaching, unreached = set[str](), set[str]()
    with exact():
        try:
            program = _gradients.trace(forward, first, *_outlines(model, found[first]), changes).jaxpr
        except Exception:  # each operation without a derivative has its own error
            return frozenset(name for name in names if changes_outputs(model, found, name))
        for trial in _trials(model, program, found[first]):
            slopes = _gradients(forward, first, *trial, changes)
            for name in names:
                slope = np.asarray(_on_image(model, np.asarray(slopes[name])), np.float64)
                if np.isfinite(slope).all():  # else the trial says nothing, since 0 times infinity is no number
                    (reaching if slope.any() else unreached).add(name)
            if names[-1] in reaching:
                break
    return frozenset(name for name in names if name in reaching or name not in unreached)


def changes_outputs(model: Model, found: Shapes, name: str) -> bool:
    """Returns whether the outputs change with what stands at a layer's positions on the image.

    They may where they have no gradient: behind rounding, or `jax.lax.stop_gradient`.

    Args:
        model: Any.
        found: Its layers.
        name: The layer, floating.
    """
    forward = Comparable(model.forward)
    with exact():
        program = _after.trace(forward, name, *_outlines(model, found[name])).jaxpr
        for trial in _trials(model, program, found[name]):
            changed = trial.features.copy()
            _on_image(model, changed)[...] *= np.asarray(-2, changed.dtype)
            first, second = (
                np.asarray(_after(forward, name, trial.params, features, trial.images), np.float64)
                for features in (trial.features, changed)
            )
            if not np.array_equal(first, second, equal_nan=True):
                return True
    return False


def _on_image(model: Model, array: np.ndarray) -> np.ndarray:
    """Returns a view of what lies on the image: of tokens `(b, n, c)`, those after the prefix."""
    return array[:, model.tokens.prefix :] if model.tokens is not None and array.ndim == 3 else array


def _outlines(model: Model, feature: jax.ShapeDtypeStruct) -> tuple[Any, ...]:
    """Returns the shapes of a trial: without devices and meshes, which a trial has not."""
    images = jax.ShapeDtypeStruct(model.image_shape(), jnp.float32)  # type: ignore[no-untyped-call]
    return types_of(model.params), feature, images


def _trials(model: Model, program: Any, feature: jax.ShapeDtypeStruct) -> Iterator[Trial]:  # noqa: ANN401
    """Yields random parameters of two kinds, then the model's own where they have values.

    Features are of three sizes: what saturates, or begins above a threshold, has a gradient at one of them.
    """
    rng = np.random.default_rng(0)
    read = frozenset(read_leaves(program, len(jax.tree.leaves(model.params))))
    images = rng.normal(size=model.image_shape()).astype(np.float32)

    def features(scale: float) -> np.ndarray:
        drawn: np.ndarray = (scale * rng.normal(size=feature.shape)).astype(feature.dtype)
        return drawn

    yield Trial(drawn_params(model.params, read, rng, "positive"), features(1.0), images)
    yield Trial(drawn_params(model.params, read, rng, "signed"), features(0.1), images)
    if not has_values(model.params):
        yield Trial(drawn_params(model.params, read, rng, "positive"), features(100.0), images)
    else:
        leaves, structure = jax.tree.flatten(drawn_params(model.params, (), rng, "signed"))
        own = jax.tree.leaves(model.params)
        leaves = [own_value(own[number]) if number in read else leaf for number, leaf in enumerate(leaves)]
        yield Trial(jax.tree.unflatten(structure, leaves), features(100.0), images)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _after(forward: Comparable, layer: str, params: Params, features: Array, images: Array) -> Array:
    """Computes the outputs with other features in a layer's place."""
    outputs: Array = tap(traced_once(forward.value), replace={layer: features})(params, images)[0]
    return outputs


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradients(
    forward: Comparable, layer: str, params: Params, features: Array, images: Array, changes: dict[str, Array]
) -> dict[str, Array]:
    """Computes the gradients of a random sum of the outputs at a layer, and where something is added behind it."""

    def outputs(features: Array, changes: dict[str, Array]) -> Array:
        result: Array = tap(traced_once(forward.value), replace={layer: features}, add=changes)(params, images)[0]
        return result

    result, back = jax.vjp(outputs, features, changes)
    slope, slopes = back(jnp.asarray(np.random.default_rng(1).normal(size=result.shape), result.dtype))
    return {layer: slope, **slopes}
